"""The command itself: a process that is started, asked, ended and killed."""

import http.client
import json
import os
import re
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .conftest import HostProcess, Web

ROUGH_APP = Path(__file__).parent / "rough_app"

Start = Callable[..., HostProcess]


def test_34_timer_and_orderly_end(start_process: Start) -> None:
    process = start_process(settings={"SAMPLE_SCHEDULE": "*/2 * * * * *"})
    web = Web(process.url())
    assert process.wait_for_end(web.start("chain", 5))["output"] == 5
    before, began = int(web.call("GET", "/api/ticks").body), time.monotonic()
    time.sleep(4.1)
    ticks, seconds = int(web.call("GET", "/api/ticks").body) - before, time.monotonic() - began
    assert (
        abs(ticks - seconds / 2) <= 1
    )  # 4.1 s hold two ticks, or three if they begin just before one
    slow = web.start("slow_parent", 60)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    assert process.said[-1] == "Stopped.\n"
    listed = "".join(process.said)
    assert "  start: POST http://127.0.0.1:" in listed and "  tick: timer */2 * * * * *" in listed
    again = start_process()
    assert Web(again.url()).status(slow)["runtimeStatus"] == "Running"
    again.signal(signal.SIGINT)
    assert again.wait() == 0
    assert not [
        line for line in process.logged + again.logged if "Traceback" in line or "Warning" in line
    ]


def test_36_kill_and_restart(start_process: Start, tmp_path: Path) -> None:
    log = tmp_path / "steps"
    first = start_process()
    web = Web(first.url())
    chain = web.start("crash_chain", {"steps": 5, "seconds": 0.3, "log": str(log)})
    race = web.start("race", {"s": 60})
    parent = web.start("slow_parent", 2)
    first.wait_for_log(
        lambda lines: sum("slow_step" in line and "done" in line for line in lines) >= 2
    )
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    second = start_process()
    web = Web(second.url())
    assert second.wait_for_end(chain)["output"] == 5
    steps = [int(line) for line in log.read_text().split()]
    assert (
        sorted(set(steps)) == [0, 1, 2, 3, 4] and len(steps) <= 6
    )  # the one that was cut off ran again
    assert web.event(race, "go", {"a": 1}) == 202
    assert second.wait_for_end(race)["output"] == {"won": "event", "data": {"a": 1}, "type": "dict"}
    assert float(str(second.wait_for_end(parent)["output"])) >= 2


def test_second_host_on_the_same_state_is_refused(start_process: Start) -> None:
    first = start_process()
    url = first.url()
    second = start_process()
    assert second.wait() == 3
    assert (
        len(second.logged) == 1
        and "is in use by another local host: process" in second.logged[0]
        and url in second.logged[0]
    )
    assert Web(url).call("GET", "/api/ticks").status == 200


def test_taken_port_and_json_log(start_process: Start, tmp_path: Path) -> None:
    first = start_process("--json-log")
    web = Web(first.url())
    port = str(urlsplit(web.base_url).port)
    other = HostProcess(tmp_path / "other", "--port", port)
    assert other.wait() == 4
    assert other.logged == [
        f"local host: Port {port} on 127.0.0.1 cannot be opened: Address already in use.\n"
    ]
    first.wait_for_end(web.start("chain", 1))
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    lines = [json.loads(line) for line in first.logged]
    steps = [line for line in lines if line.get("orchestrator") == "chain"]
    assert [line["status"] for line in steps] == ["Running", "Completed"] and all(
        line["seconds"] < 5 for line in steps
    )
    assert re.fullmatch(r"chain \w+: starts -> activity inc \(\d+ ms\)", steps[0]["message"])
    assert any(line.get("activity") == "inc" and line["task"] == 0 for line in lines)


def test_sigterm_waits_for_a_running_activity(start_process: Start, tmp_path: Path) -> None:
    log = tmp_path / "steps"
    os.mkfifo(log)
    steps = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        process = start_process()
        iid = Web(process.url()).start("crash_chain", {"steps": 1, "seconds": 1.0, "log": str(log)})
        assert select.select([steps], [], [], 20)[0]  # it runs
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert start_process().wait_for_end(iid)["output"] == 1
        assert os.read(steps, 100) == b"0\n"  # it ended before the host did
    finally:
        os.close(steps)


@pytest.mark.parametrize("in_process", [True, False])
def test_says_that_it_cannot_keep_the_time_limit_in_process(
    start_process: Start, in_process: bool
) -> None:
    process = start_process(
        *(["--in-process"] if in_process else []),
        app=ROUGH_APP,
        settings={"ROUGH_SCHEDULE": "0 0 0 29 2 *"},
    )
    process.url()
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    said = [
        line
        for line in process.logged
        if "functionTimeout (2 s) is not kept with --in-process" in line
    ]
    assert len(said) == in_process


def test_only_loopback(start_process: Start) -> None:
    url = start_process().url()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("GET", "/api/ticks", headers={"Host": "rebound.example"})
    assert connection.getresponse().status == 421
    connection.close()
