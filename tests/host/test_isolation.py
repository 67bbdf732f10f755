"""The app in a process of its own: whatever it does to that process, the host lives, and says what Azure's would say."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.host import LocalHost, UnsupportedAppError
from local.host.calls import FunctionTerminatedError
from local.host.isolation import Isolation
from local.host.worker import exit_text

from .conftest import SAMPLE_APP, SETTINGS, HostProcess

ROUGH_APP = Path(__file__).parent / "rough_app"
NEVER = {"ROUGH_SCHEDULE": "0 0 0 29 2 *"}


def rough_host(**options: Any) -> LocalHost:
    isolation = options.pop("isolated", Isolation(memory_mb=512))
    return LocalHost(
        ROUGH_APP,
        settings=NEVER | options.pop("settings", {}),
        isolated=isolation,
        listen=True,
        **options,
    )


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    with rough_host() as running:
        yield running


def ending(host: LocalHost, name: str, content: Any = None) -> Any:
    return host.wait(host.start_orchestration(name, content))["output"]


def worker_pid(host: LocalHost) -> int:
    return int(host.request("GET", "/api/do/pid").text)


def test_the_app_runs_elsewhere(host: LocalHost) -> None:
    assert ending(host, "one", "pid") == worker_pid(host) != os.getpid()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("exit", "python exited with code 7 (0x7)"),
        ("killed", "python exited with code 137 (0x89)"),
        ("block", "Timeout value of 00:00:02 was exceeded by function: Functions.act"),
    ],
)
def test_an_activity_that_ends_its_process_fails_and_the_rest_goes_on(
    host: LocalHost, how: str, text: str
) -> None:
    before = worker_pid(host)
    assert ending(host, "one", how) == [f"Activity function 'act' failed: {text}", True]
    assert worker_pid(host) != before


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("raise", " ValueError: as asked"),
        ("memory", " MemoryError: "),
        ("sys.exit", " SystemExit: 3"),
    ],
)
def test_an_activity_that_only_fails_keeps_its_worker(host: LocalHost, how: str, text: str) -> None:
    before = worker_pid(host)
    assert ending(host, "one", how) == [f"Activity function 'act' failed: {text}", True]
    assert worker_pid(host) == before


def test_what_ran_beside_it_runs_again(host: LocalHost) -> None:
    for bad, text in (
        ("exit", "python exited with code 7 (0x7)"),
        ("block", "Timeout value of 00:00:02"),
    ):
        good, failed, other = ending(host, "side_by_side", ["slow", bad, "slow"])
        assert (good, other) == ("slow", "slow") and text in failed[0]


def test_an_orchestrator_that_ends_its_process_fails(host: LocalHost) -> None:
    output = ending(host, "dies")
    assert (
        output.startswith("Non-Deterministic workflow detected")
        or "python exited with code 9 (0x9)" in output
    )


def test_an_http_function_that_ends_its_process_or_never_answers(host: LocalHost) -> None:
    assert host.request("GET", "/api/do/exit").status == 500
    assert host.request("GET", "/api/do/block").status == 500
    assert host.request("GET", "/api/do/pid").status == 200


def test_a_timer_function_that_ends_its_process(host: LocalHost) -> None:
    before = worker_pid(host)
    with pytest.raises(Exception, match="python exited with code 5"):
        host.fire_timer("tick")
    assert worker_pid(host) != before


def test_the_durable_client_works_from_the_worker(host: LocalHost) -> None:
    links = host.request("POST", "/api/start/one", json="pid").json()
    assert host.wait(links["id"])["output"] == worker_pid(host)


def test_draining_ends_the_worker_in_order(tmp_path: Path) -> None:
    with rough_host(state_dir=tmp_path) as host:
        iid = host.start_orchestration("one", "slow")
        worker = worker_pid(host)
        host.run_until(lambda: any(event["EventType"] == 4 for event in host.history(iid)))
        assert host.stop(drain=True)
        assert gone(worker)
    with rough_host(state_dir=tmp_path) as host:
        assert host.wait(iid)["output"] == "slow"


def test_a_cut_off_host_takes_its_worker_along(tmp_path: Path) -> None:
    with rough_host(state_dir=tmp_path) as host:
        iid = host.start_orchestration("one", "block")
        worker = worker_pid(host)
        host.run_until(lambda: any(event["EventType"] == 4 for event in host.history(iid)))
        host.stop(drain=False)
        assert gone(worker)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"),
    reason="Linux has a way to wait for a process that is nobody's child",
)
def test_the_worker_ends_with_a_killed_host(start_process: Callable[..., HostProcess]) -> None:
    from .conftest import Web

    process = start_process(app=ROUGH_APP, settings=NEVER)
    web = Web(process.url())
    web.start("one", "block")
    end = os.pidfd_open(
        int(web.call("GET", "/api/do/pid").body)
    )  # readable when that process has ended
    process.signal(signal.SIGKILL)
    process.wait()
    assert select.select([end], [], [], 10)[0]
    os.close(end)


def test_an_app_that_cannot_be_loaded_is_refused_from_there_too(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n1 / 0\n"
    )
    with pytest.raises(UnsupportedAppError, match=r"function_app.py:3: ZeroDivisionError"):
        LocalHost(tmp_path, isolated=Isolation()).start()


def test_an_app_that_ends_its_process_on_import(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import os\nos._exit(4)\n")
    with pytest.raises(
        UnsupportedAppError,
        match=r"ended the worker process while it was imported: python exited with code 4",
    ):
        LocalHost(tmp_path, isolated=Isolation()).start()


def test_a_worker_that_cannot_start_again_ends_the_host(tmp_path: Path) -> None:
    script = (ROUGH_APP / "function_app.py").read_text()
    (tmp_path / "function_app.py").write_text(script)
    reasons: list[str] = []
    with LocalHost(
        tmp_path, settings=NEVER, isolated=Isolation(), listen=True, on_failure=reasons.append
    ) as host:
        (tmp_path / "function_app.py").write_text("broken\n")
        iid = host.start_orchestration("one", "exit")
        host.run_until(lambda: reasons)
        assert "NameError" in reasons[0]
        status = host.status(iid)
        assert status is not None and status["runtimeStatus"] == "Running"
        host.stop(drain=False)


def test_exit_texts() -> None:
    assert [exit_text(code) for code in (0, 1, -9)] == [
        "python exited with code 0 (0x0)",
        "python exited with code 1 (0x1)",
        "python exited with code 137 (0x89)",
    ]
    assert str(FunctionTerminatedError("x")) == "x"


def test_the_sample_app_runs_in_a_worker_as_it_does_here() -> None:
    from .conftest import Web

    with LocalHost(SAMPLE_APP, settings=SETTINGS, isolated=Isolation()) as host:
        web = Web(host.base_url)
        answer = web.call("PUT", "/api/reflect/5/a/b?q=1&q2=%C3%BC", b"bytes", {"X-Test": "yes"})
        assert (
            answer.status == 201
            and answer.json()["route"] == {"n": "5", "rest": "a/b"}
            and answer.json()["body"] == "bytes"
        )
        assert host.request("GET", "/api/broken").status == 500
        assert host.request("GET", "/api/nothing").status == 500
        assert host.wait(web.start("big_results"))["output"] == 6_000_000
        assert "ValueError: boom" in host.wait(web.start("fails"))["output"]
        assert (
            host.wait(web.start("raises"))["output"]
            == "Orchestrator function 'raises' failed: 'oops'"
        )
