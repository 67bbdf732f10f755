"""The `python -m local.host` command as a process that is started, stopped and killed."""

import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .sample_host import ROOT, HostClient, HostProcess

FAULTY_APP = Path(__file__).parent / "faulty_app"

StartProcess = Callable[..., HostProcess]


def test_process_with_timer_stops_on_sigterm(start_process: StartProcess) -> None:
    process = start_process(settings={"SAMPLE_SCHEDULE": "*/2 * * * * *"})
    client = HostClient(process.url())
    assert process.wait_for_completion(client.start_orchestration("chain", 5))["output"] == 5
    first_count, started_at = int(client.request("GET", "/api/ticks").body), time.monotonic()
    time.sleep(4.1)
    ticks = int(client.request("GET", "/api/ticks").body) - first_count
    seconds = time.monotonic() - started_at
    # A period of 4.1 s contains two ticks, or three if it starts just before a tick.
    assert abs(ticks - seconds / 2) <= 1
    instance_id = client.start_orchestration("parent_of_timer", 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.output_lines[-1] == "Stopped.\n"
    output = "".join(process.output_lines)
    assert "  start: POST http://127.0.0.1:" in output and "  tick: timer */2 * * * * *" in output
    restarted = start_process()
    # The instance is not lost. It is pending if the first host stopped before its first episode.
    status = HostClient(restarted.url()).get_status(instance_id)["runtimeStatus"]
    assert status in ("Pending", "Running")
    restarted.send_signal(signal.SIGINT)
    assert restarted.wait() == 0
    assert not [
        line
        for line in process.log_lines + restarted.log_lines
        if "Traceback" in line or "Warning" in line
    ]


def test_killed_process_continues_after_restart(
    start_process: StartProcess, tmp_path: Path
) -> None:
    step_log = tmp_path / "steps"
    first = start_process()
    client = HostClient(first.url())
    chain = client.start_orchestration(
        "slow_chain", {"steps": 5, "seconds": 0.3, "log": str(step_log)}
    )
    race = client.start_orchestration("race", {"s": 60})
    parent = client.start_orchestration("parent_of_timer", 2)
    first.wait_for_log(
        lambda lines: sum("slow_step" in line and "completed" in line for line in lines) >= 2
    )
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = start_process()
    client = HostClient(second.url())
    assert second.wait_for_completion(chain)["output"] == 5
    steps = [int(line) for line in step_log.read_text().split()]
    # The interrupted step ran twice.
    assert sorted(set(steps)) == [0, 1, 2, 3, 4] and len(steps) <= 6
    assert client.raise_event(race, "go", {"a": 1}) == 202
    assert second.wait_for_completion(race)["output"] == {
        "won": "event",
        "data": {"a": 1},
        "type": "dict",
    }
    assert float(str(second.wait_for_completion(parent)["output"])) >= 2


def test_process_with_terminate_during_interrupts_one_call(
    start_process: Callable[..., HostProcess],
) -> None:
    process = start_process("--terminate-during", "chain:1")
    client = HostClient(process.url())
    # The management API starts the instance: an HTTP function in the same process would also fail.
    started = client.manage("POST", "orchestrators/chain", 1)
    assert process.wait_for_completion(started.json()["id"])["output"] == (
        "Orchestrator function 'chain' failed: One or more errors occurred. "
        "(python exited with code 137 (0x89))"
    )
    assert process.wait_for_completion(client.start_orchestration("chain", 1))["output"] == 1


def test_wait_for_stop_ends_for_signal_at_any_point() -> None:
    # Each signal arrives a microsecond later than the previous one while `wait` is entered.
    script = """
import os, signal
from local.host.stop_requests import StopRequests
for microseconds in range(1, 201):
    requests = StopRequests()
    requests.install_signal_handlers()
    signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, (microseconds % 50 + 1) / 1e6)
    requests.wait()
    assert requests.failure is None
"""
    subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, timeout=20, check=True, capture_output=True
    )


def test_second_process_with_same_state_exits_with_error(start_process: StartProcess) -> None:
    first = start_process()
    url = first.url()
    second = start_process()
    assert second.wait() == 3
    assert (
        len(second.log_lines) == 1
        and "is in use by another local host: process" in second.log_lines[0]
        and url in second.log_lines[0]
    )
    assert HostClient(url).request("GET", "/api/ticks").status == 200


def test_process_with_port_in_use_exits_with_error(
    start_process: StartProcess, tmp_path: Path
) -> None:
    port = str(urlsplit(start_process().url()).port)
    other = HostProcess(tmp_path / "other", "--port", port)
    assert other.wait() == 4
    assert other.log_lines == [
        f"local host: Port {port} on 127.0.0.1 cannot be opened: Address already in use.\n"
    ]


def test_process_with_json_log_writes_one_object_per_line(start_process: StartProcess) -> None:
    process = start_process("--json-log")
    process.wait_for_completion(HostClient(process.url()).start_orchestration("chain", 1))
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    lines = [json.loads(line) for line in process.log_lines]
    steps = [line for line in lines if line.get("orchestrator") == "chain"]
    assert [line["status"] for line in steps] == ["Running", "Completed"] and all(
        line["seconds"] < 5 for line in steps
    )
    assert re.fullmatch(r"chain \w+: started -> activity inc \(\d+ ms\)", steps[0]["message"])
    assert any(line.get("activity") == "inc" and line["task"] == 0 for line in lines)


def test_sigterm_waits_for_running_activity(start_process: StartProcess, tmp_path: Path) -> None:
    step_pipe = tmp_path / "steps"
    os.mkfifo(step_pipe)
    steps = os.open(step_pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        process = start_process()
        instance_id = HostClient(process.url()).start_orchestration(
            "slow_chain", {"steps": 1, "seconds": 1.0, "log": str(step_pipe)}
        )
        assert select.select([steps], [], [], 20)[0]  # the activity is running
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
        assert start_process().wait_for_completion(instance_id)["output"] == 1
        assert os.read(steps, 100) == b"0\n"  # the activity ended before the host
    finally:
        os.close(steps)


@pytest.mark.parametrize("in_process", [True, False])
def test_process_without_worker_logs_that_function_timeout_is_ignored(
    start_process: StartProcess, in_process: bool
) -> None:
    process = start_process(
        *(["--in-process"] if in_process else []),
        app=FAULTY_APP,
        settings={"FAULTY_SCHEDULE": "0 0 0 29 2 *"},
    )
    process.url()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    warnings = [
        line
        for line in process.log_lines
        if "functionTimeout (2 s) is not enforced with --in-process" in line
    ]
    assert len(warnings) == in_process


def test_request_with_foreign_host_header_is_rejected(start_process: StartProcess) -> None:
    url = start_process().url()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("GET", "/api/ticks", headers={"Host": "rebound.example"})
    assert connection.getresponse().status == 421
    connection.close()
