"""The output for developers: the `inspect` command and the log."""

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

from .sample_host import START

app = df.DFApp()
calls: list[int] = []


@app.activity_trigger(input_name="n")
def flaky(n: int) -> int:
    calls.append(n)
    if len(calls) % 3:
        raise ValueError("planned")
    return n


@app.orchestration_trigger(context_name="context")
def delay(context: Any) -> Any:
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=2))
    return "finished"


@app.orchestration_trigger(context_name="context")
def parent(context: Any) -> Any:
    number = yield context.call_activity_with_retry("flaky", df.RetryOptions(30_000, 5), 7)
    child = yield context.call_sub_orchestrator("delay", None, "delay-1")
    event = yield context.wait_for_external_event("go")
    return [number, child, event]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    calls.clear()
    with LocalHost(app, clock=VirtualClock(START), state_dir=tmp_path) as host:
        host.start_orchestration("parent", instance_id="parent-1")
        host.advance(timedelta(minutes=5))
        host.raise_event("parent-1", "go", {"a": 1})
        host.wait("parent-1")
    return tmp_path


def test_inspect_instance_prints_tree(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--state-dir", str(state_dir), "parent-1"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "parent-1 parent Completed started 2026-01-01 00:00:00, 5 min 0 s",
        "+0.000 s activity flaky failed: Activity function 'flaky' failed: ValueError: planned",
        "+0.000 s timer 30.0 s after a failure of flaky 30.0 s fired",
        "+30.000 s activity flaky, attempt 2 failed: Activity function 'flaky' failed: ValueError: "
        "planned",
        "+30.000 s timer 30.0 s after a failure of flaky 30.0 s fired",
        "+0:01:00 activity flaky, attempt 3 7",
        '+0:01:00 sub-orchestration delay 2 min 0 s "finished"',
        "delay-1 delay Completed started 2026-01-01 00:01:00, 2 min 0 s",
        "+0.000 s timer 2 min 0 s 2 min 0 s fired",
        'output: "finished"',
        '+0:05:00 event go {"a": 1}',
        'output: [7,"finished",{"a":1}]',
    ]


def test_inspect_without_instance_prints_list(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LocalHost(
        app, clock=VirtualClock(START), state_dir=state_dir
    ):  # `inspect` works while a host runs
        assert main(["inspect", "--state-dir", str(state_dir)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "testhubname: 2 instances",
        "  parent-1  parent  Completed  started 2026-01-01 00:00:00, 5 min 0 s",
        "    delay-1  delay  Completed  started 2026-01-01 00:01:00, 2 min 0 s",
    ]


def test_inspect_of_unknown_instance_or_state_fails(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--state-dir", str(state_dir), "unknown"]) == 1
    assert main(["inspect", "--state-dir", str(tmp_path / "missing")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "local host: no instance with the ID unknown",
        f"local host: no state database in {tmp_path / 'missing'}",
    ]


@pytest.fixture
def restored_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    original_handlers, original_level = list(root.handlers), root.level
    yield
    root.handlers[:] = original_handlers
    root.setLevel(original_level)


@pytest.mark.usefixtures("restored_root_logger")
def test_log_contains_one_line_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json_lines=False, colour=True)
    calls.clear()
    with LocalHost(app, clock=VirtualClock(START)) as host:
        host.start_orchestration("parent", instance_id="x")
        host.advance(timedelta(minutes=5))
        host.raise_event("x", "go")
        host.wait("x")
    text = capsys.readouterr().err
    for step in (
        "parent x: started -> activity flaky (",
        "parent x: flaky failed -> timer 30 s (",
        "parent x: timer fired -> activity flaky (",
        "parent x: flaky completed -> sub-orchestration delay (",
        "delay delay-1: started -> timer 120 s (",
        "parent x: delay completed -> waiting (",
        "\033[32mparent x: event go -> Completed (",
        "\033[33mWARNING     activity flaky of x: failed: ",
    ):
        assert step in text, step


@pytest.mark.usefixtures("restored_root_logger")
def test_log_contains_error_that_azure_hides(capsys: pytest.CaptureFixture[str]) -> None:
    failing_app = df.DFApp()

    @failing_app.orchestration_trigger(context_name="context")
    def fails(context: Any) -> Any:
        yield context.call_activity("no_result", 1)
        raise RuntimeError("no row with key=abc")

    @failing_app.activity_trigger(input_name="n")
    def no_result(n: int) -> None:
        return None

    configure(json_lines=False, colour=True)
    with LocalHost(failing_app, clock=VirtualClock(START)) as host:
        status = host.wait(host.start_orchestration("fails", instance_id="x"))
    assert "Non-Deterministic" in status["output"]
    assert (
        "\033[31mERROR x fails: an error that Azure hides: Exception: no row with key="
        in capsys.readouterr().err
    )
