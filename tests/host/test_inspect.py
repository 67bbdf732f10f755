"""What a developer sees: the tree of a history, the list of instances, and the lines of the log."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import LocalHost, VirtualClock
from local.host.__main__ import main
from local.host.logs import configure

from .conftest import START

app = df.DFApp()
calls: list[int] = []


@app.activity_trigger(input_name="n")
def shaky(n: int) -> int:
    calls.append(n)
    if len(calls) % 3:
        raise ValueError("planned")
    return n


@app.orchestration_trigger(context_name="context")
def kid(context: Any) -> Any:
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=2))
    return "grown"


@app.orchestration_trigger(context_name="context")
def family(context: Any) -> Any:
    number = yield context.call_activity_with_retry("shaky", df.RetryOptions(30_000, 5), 7)
    child = yield context.call_sub_orchestrator("kid", None, "the-kid")
    event = yield context.wait_for_external_event("go")
    return [number, child, event]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    calls.clear()
    with LocalHost(app, clock=VirtualClock(START), state_dir=tmp_path) as host:
        host.start_orchestration("family", instance_id="the-family")
        host.advance(timedelta(minutes=5))
        host.raise_event("the-family", "go", {"a": 1})
        host.wait("the-family")
    return tmp_path


def test_the_tree_of_an_instance(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--state-dir", str(state), "the-family"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "the-family family Completed started 2026-01-01 00:00:00, 5 min 0 s",
        "+0.000 s activity shaky failed: Activity function 'shaky' failed: ValueError: planned",
        "+0.000 s wait 30.0 s after a failure of shaky 30.0 s over",
        "+30.000 s activity shaky, attempt 2 failed: Activity function 'shaky' failed: ValueError: planned",
        "+30.000 s wait 30.0 s after a failure of shaky 30.0 s over",
        "+0:01:00 activity shaky, attempt 3 7",
        '+0:01:00 child kid 2 min 0 s "grown"',
        "the-kid kid Completed started 2026-01-01 00:01:00, 2 min 0 s",
        "+0.000 s wait 2 min 0 s 2 min 0 s over",
        'output: "grown"',
        '+0:05:00 event go {"a": 1}',
        'output: [7,"grown",{"a":1}]',
    ]


def test_the_list_of_instances(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalHost(
        app, clock=VirtualClock(START), state_dir=state
    ):  # also while a host has the folder
        assert main(["inspect", "--state-dir", str(state)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "testhubname: 2 instances",
        "  the-family  family  Completed  started 2026-01-01 00:00:00, 5 min 0 s",
        "    the-kid  kid  Completed  started 2026-01-01 00:01:00, 2 min 0 s",
    ]


def test_what_is_not_there(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--state-dir", str(state), "nobody"]) == 1
    assert main(["inspect", "--state-dir", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "local host: there is no instance nobody",
        f"local host: there is no state in {tmp_path / 'nowhere'}",
    ]


@pytest.fixture
def own_log() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("own_log")
def test_a_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json_lines=False, colour=True)
    calls.clear()
    with LocalHost(app, clock=VirtualClock(START)) as host:
        host.start_orchestration("family", instance_id="x")
        host.advance(timedelta(minutes=5))
        host.raise_event("x", "go")
        host.wait("x")
    text = capsys.readouterr().err
    for step in (
        "family x: starts -> activity shaky (",
        "family x: shaky failed -> wait 30 s (",
        "family x: wait over -> activity shaky (",
        "family x: shaky done -> child kid (",
        "kid the-kid: starts -> wait 120 s (",
        "family x: kid done -> waits (",
        "\033[32mfamily x: event go -> Completed (",
        "\033[33mWARNING     activity shaky of x: failed: ",
    ):
        assert step in text, step


@pytest.mark.usefixtures("own_log")
def test_an_error_that_azure_hides_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    broken = df.DFApp()

    @broken.orchestration_trigger(context_name="context")
    def typo(context: Any) -> Any:
        yield context.call_activity("nothing", 1)
        raise RuntimeError("no row with key=abc")

    @broken.activity_trigger(input_name="n")
    def nothing(n: int) -> None:
        return None

    configure(json_lines=False, colour=True)
    with LocalHost(broken, clock=VirtualClock(START)) as host:
        status = host.wait(host.start_orchestration("typo", instance_id="x"))
    assert "Non-Deterministic" in status["output"]
    assert (
        "\033[31mERROR x typo: an error that Azure hides: Exception: no row with key="
        in capsys.readouterr().err
    )
