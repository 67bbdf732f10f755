"""The app in a worker process.

The host continues after every failure of the worker and reports the same error messages as Azure.
"""

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.host import LocalHost, UnsupportedAppError
from local.host.calls import FunctionTerminatedError, exit_text
from local.host.history import EventType
from local.host.isolation import Isolation

from .sample_host import SAMPLE_APP, SETTINGS, HostClient, HostProcess

FAULTY_APP = Path(__file__).parent / "faulty_app"
SETTINGS_WITHOUT_TICKS = {"FAULTY_SCHEDULE": "0 0 0 29 2 *"}


def create_faulty_host(**options: Any) -> LocalHost:
    isolation = options.pop("isolated", Isolation(memory_mb=512))
    return LocalHost(
        FAULTY_APP,
        settings=SETTINGS_WITHOUT_TICKS | options.pop("settings", {}),
        isolated=isolation,
        listen=True,
        **options,
    )


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    with create_faulty_host() as started_host:
        yield started_host


def get_output(host: LocalHost, name: str, content: Any = None) -> Any:
    return host.wait(host.start_orchestration(name, content))["output"]


def get_worker_pid(host: LocalHost) -> int:
    return int(host.request("GET", "/api/do/pid").text)


def test_isolated_app_runs_in_worker_process(host: LocalHost) -> None:
    assert get_output(host, "call_act", "pid") == get_worker_pid(host) != os.getpid()


@pytest.mark.parametrize(
    ("behavior", "text"),
    [
        ("exit", "python exited with code 7 (0x7)"),
        ("killed", "python exited with code 137 (0x89)"),
        ("block", "Timeout value of 00:00:02 was exceeded by function: Functions.act"),
    ],
)
def test_activity_that_ends_its_worker_fails_and_the_worker_restarts(
    host: LocalHost, behavior: str, text: str
) -> None:
    old_pid = get_worker_pid(host)
    assert get_output(host, "call_act", behavior) == [
        f"Activity function 'act' failed: {text}",
        True,
    ]
    assert get_worker_pid(host) != old_pid


@pytest.mark.parametrize(
    ("behavior", "text"),
    [
        ("raise", " ValueError: planned"),
        ("memory", " MemoryError: "),
        ("sys.exit", " SystemExit: 3"),
    ],
)
def test_activity_that_raises_keeps_the_worker(host: LocalHost, behavior: str, text: str) -> None:
    old_pid = get_worker_pid(host)
    assert get_output(host, "call_act", behavior) == [
        f"Activity function 'act' failed: {text}",
        True,
    ]
    assert get_worker_pid(host) == old_pid


@pytest.mark.parametrize(
    ("behavior", "text"),
    [
        ("exit", "python exited with code 7 (0x7)"),
        ("block", "Timeout value of 00:00:02 was exceeded by function: Functions.act"),
    ],
)
def test_activities_of_all_instances_in_an_ended_worker_fail(
    host: LocalHost, behavior: str, text: str
) -> None:
    instance_ids = []
    for started in ("block", "block", behavior):
        instance_ids.append(host.start_orchestration("call_act", started))
        host.run_until(lambda: has_scheduled_activity(host, instance_ids[-1]))
    assert [host.wait(instance_id)["output"] for instance_id in instance_ids] == [
        [f"Activity function 'act' failed: {text}", True]
    ] * 3


def test_orchestrator_that_ends_its_worker_fails(host: LocalHost) -> None:
    assert get_output(host, "exit_process") == (
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
        "an activity task with sequence ID 0 and name 'act' (version ''), but the current replay "
        "execution hasn't (yet?) scheduled this task. Was a change made to the orchestrator code "
        "after this instance had already started running?"
    )


def test_http_function_that_ends_or_blocks_its_worker_returns_500(host: LocalHost) -> None:
    assert host.request("GET", "/api/do/exit").status == 500
    assert host.request("GET", "/api/do/block").status == 500
    assert host.request("GET", "/api/do/pid").status == 200


def test_timer_function_that_ends_its_worker_raises(host: LocalHost) -> None:
    old_pid = get_worker_pid(host)
    with pytest.raises(Exception, match="python exited with code 5"):
        host.fire_timer("tick")
    assert get_worker_pid(host) != old_pid


def test_durable_client_in_worker_starts_orchestration(host: LocalHost) -> None:
    links = host.request("POST", "/api/start/call_act", json="pid").json()
    assert host.wait(links["id"])["output"] == get_worker_pid(host)


def test_stop_with_drain_ends_the_worker_after_its_activity(tmp_path: Path) -> None:
    with create_faulty_host(state_dir=tmp_path) as host:
        instance_id = host.start_orchestration("call_act", "slow")
        pid = get_worker_pid(host)
        host.run_until(lambda: has_scheduled_activity(host, instance_id))
        assert host.stop(drain=True)
        assert has_exited(pid)
    with create_faulty_host(state_dir=tmp_path) as host:
        assert host.wait(instance_id)["output"] == "slow"


def test_stop_without_drain_ends_the_worker(tmp_path: Path) -> None:
    with create_faulty_host(state_dir=tmp_path) as host:
        instance_id = host.start_orchestration("call_act", "block")
        pid = get_worker_pid(host)
        host.run_until(lambda: has_scheduled_activity(host, instance_id))
        host.stop(drain=False)
        assert has_exited(pid)


def has_scheduled_activity(host: LocalHost, instance_id: str) -> bool:
    events = host.history(instance_id)
    return any(event["EventType"] == EventType.TASK_SCHEDULED for event in events)


def has_exited(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"),
    reason="Only Linux can wait for a process that is not a child of this process.",
)
def test_worker_of_killed_host_ends(start_process: Callable[..., HostProcess]) -> None:
    process = start_process(app=FAULTY_APP, settings=SETTINGS_WITHOUT_TICKS)
    client = HostClient(process.url())
    client.start_orchestration("call_act", "block")
    pid = int(client.request("GET", "/api/do/pid").body)
    pid_descriptor = os.pidfd_open(pid)  # readable when the process has ended
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert select.select([pid_descriptor], [], [], 10)[0]
    os.close(pid_descriptor)


def test_app_that_raises_on_import_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n1 / 0\n"
    )
    with pytest.raises(UnsupportedAppError, match=r"function_app.py:3: ZeroDivisionError"):
        LocalHost(tmp_path, isolated=Isolation()).start()


def test_app_that_exits_on_import_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import os\nos._exit(4)\n")
    with pytest.raises(
        UnsupportedAppError,
        match=r"worker process exited while it imported the app: python exited with code 4",
    ):
        LocalHost(tmp_path, isolated=Isolation()).start()


def test_worker_that_cannot_restart_reports_failure(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text((FAULTY_APP / "function_app.py").read_text())
    reasons: list[str] = []
    with LocalHost(
        tmp_path,
        settings=SETTINGS_WITHOUT_TICKS,
        isolated=Isolation(),
        listen=True,
        on_failure=reasons.append,
    ) as host:
        (tmp_path / "function_app.py").write_text("broken\n")
        instance_id = host.start_orchestration("call_act", "exit")
        host.run_until(lambda: reasons)
        assert "NameError" in reasons[0]
        status = host.status(instance_id)
        assert status is not None and status["runtimeStatus"] == "Running"
        host.stop(drain=False)


def test_exit_text_for_codes_and_signals_matches_azure() -> None:
    assert [exit_text(code) for code in (0, 1, -9)] == [
        "python exited with code 0 (0x0)",
        "python exited with code 1 (0x1)",
        "python exited with code 137 (0x89)",
    ]
    assert str(FunctionTerminatedError("x")) == "x"


def test_sample_app_in_worker_returns_same_results() -> None:
    with LocalHost(SAMPLE_APP, settings=SETTINGS, isolated=Isolation()) as host:
        client = HostClient(host.base_url)
        response = client.request(
            "PUT", "/api/reflect/5/a/b?q=1&q2=%C3%BC", b"bytes", {"X-Test": "yes"}
        )
        assert (
            response.status == 201
            and response.json()["route"] == {"n": "5", "rest": "a/b"}
            and response.json()["body"] == "bytes"
        )
        assert host.request("GET", "/api/broken").status == 500
        assert host.request("GET", "/api/nothing").status == 500
        assert host.wait(client.start_orchestration("large_results"))["output"] == 6_000_000
        assert "ValueError: boom" in host.wait(client.start_orchestration("failing"))["output"]
        assert (
            host.wait(client.start_orchestration("raises"))["output"]
            == "Orchestrator function 'raises' failed: 'oops'"
        )
