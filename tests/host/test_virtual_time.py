"""Virtual time: hours in milliseconds, the same every time; and what a wait says when nothing comes."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import LocalHost, VirtualClock, WaitTimeoutError

from .conftest import START, sample_host


def test_a_day_of_hourly_timers_in_less_than_a_second() -> None:
    took = []
    for _ in range(3):  # the best of three: others may use the machine
        with sample_host() as host:
            before = time.monotonic()
            status = host.wait(host.start_orchestration("day_of_hours"))
            took.append(time.monotonic() - before)
            assert status["output"] == "2026-01-02T00:00:00+00:00"
            assert host.clock.now() == START + timedelta(days=1)
    assert min(took) < 1


def test_time_stands_still_unless_somebody_waits() -> None:
    with sample_host() as host:
        iid = host.start_orchestration("timer", 60)
        host.settle()
        assert host.clock.now() == START
        host.advance(timedelta(seconds=59))
        status = host.status(iid)
        assert status is not None and status["runtimeStatus"] == "Running"
        host.advance(timedelta(seconds=1))
        status = host.status(iid)
        assert status is not None and status["runtimeStatus"] == "Completed"


def test_exact_and_early_timers() -> None:
    spans = [0.3, 1.0, 1.5, 2.5]
    for early, expected in ((False, spans), (True, [0.0, 1.0, 1.0, 2.0])):
        with sample_host(early_timers=early) as host:
            assert [
                host.wait(host.start_orchestration("timer", span))["output"] for span in spans
            ] == expected


def deterministic_app() -> df.DFApp:
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context")
    def worker(context: Any) -> Any:
        for n in range(3):
            yield context.create_timer(
                context.current_utc_datetime + timedelta(seconds=context.get_input())
            )
            yield context.call_activity("mark", [context.instance_id, n])
        return "done"

    @app.orchestration_trigger(context_name="context")
    def boss(context: Any) -> Any:
        yield context.task_all(
            [
                context.call_sub_orchestrator("worker", s, f"w{i}")
                for i, s in enumerate((3, 1, 2, 1, 3))
            ]
        )
        yield context.task_all([context.call_activity("mark", ["boss", n]) for n in range(10)])

    @app.activity_trigger(input_name="what")
    def mark(what: list[Any]) -> None:
        marks.append((what, clock.now()))

    return app


marks: list[Any] = []
clock = VirtualClock(START)


def test_a_run_repeats_event_for_event() -> None:
    global clock
    app, runs = deterministic_app(), []
    for _ in range(3):
        clock = VirtualClock(START)
        marks.clear()
        with LocalHost(app, clock=clock, serial=True) as host:
            host.wait(host.start_orchestration("boss", instance_id="boss"))
            kept = (
                "EventType",
                "EventId",
                "Timestamp",
                "Name",
                "TaskScheduledId",
                "TimerId",
                "Result",
            )
            runs.append(
                (
                    list(marks),
                    [
                        {key: event.get(key) for key in kept}
                        for iid in ("boss", "w0", "w3")
                        for event in host.history(iid)
                    ],
                )
            )
    assert runs[0] == runs[1] == runs[2]
    moments = [moment for _, moment in runs[0][0]]
    assert moments == sorted(moments)
    assert [what for what, _ in runs[0][0]][:2] == [
        ["w1", 0],
        ["w3", 0],
    ]  # due at the same second: in the order of their making


def test_waits_that_end_in_vain() -> None:
    with LocalHost(deterministic_app(), clock=VirtualClock(START)) as host:
        with pytest.raises(LookupError):
            host.wait("nobody")
        with pytest.raises(WaitTimeoutError, match="nothing is left to happen"):
            host.run_until(lambda: False)
        host.start_orchestration("worker", 3600, "slow")
        with pytest.raises(WaitTimeoutError, match="slow \\(worker, Running\\)"):
            host.wait("slow", within=timedelta(minutes=30))
        assert host.wait("slow", within=timedelta(hours=4))["output"] == "done"
    with LocalHost(deterministic_app()) as real:
        real.start_orchestration("worker", 3600, "slow")
        with pytest.raises(WaitTimeoutError, match="Waited in vain for instance slow to end"):
            real.wait("slow", timeout_real_seconds=0.1)
        with pytest.raises(TypeError):
            real.advance(timedelta(seconds=1))


def test_the_clock_itself() -> None:
    with pytest.raises(ValueError, match="aware"):
        VirtualClock(datetime(2026, 1, 1))
    own = VirtualClock(START)
    own.move_by(timedelta(seconds=-5))
    assert own.now() == START and own.now().tzinfo is UTC
