"""Virtual time: hours pass in milliseconds, and the same run produces the same history."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import LocalHost, VirtualClock, WaitTimeoutError

from .sample_host import START, create_sample_host


def test_day_of_hourly_timers_takes_less_than_a_second() -> None:
    durations = []
    for _ in range(3):  # use the best of three because other processes might use the machine
        with create_sample_host() as host:
            started_at = time.monotonic()
            status = host.wait(host.start_orchestration("hourly_timers"))
            durations.append(time.monotonic() - started_at)
            assert status["output"] == "2026-01-02T00:00:00+00:00"
            assert host.clock.now() == START + timedelta(days=1)
    assert min(durations) < 1


def test_virtual_clock_advances_only_on_request() -> None:
    with create_sample_host() as host:
        instance_id = host.start_orchestration("timer", 60)
        host.settle()
        assert host.clock.now() == START
        host.advance(timedelta(seconds=59))
        status = host.status(instance_id)
        assert status is not None and status["runtimeStatus"] == "Running"
        host.advance(timedelta(seconds=1))
        status = host.status(instance_id)
        assert status is not None and status["runtimeStatus"] == "Completed"


def test_orchestration_timer_exact_or_early_fires_at_expected_time() -> None:
    delays = [0.3, 1.0, 1.5, 2.5]
    for early, expected in ((False, delays), (True, [0.0, 1.0, 1.0, 2.0])):
        with create_sample_host(early_timers=early) as host:
            assert [
                host.wait(host.start_orchestration("timer", delay))["output"] for delay in delays
            ] == expected


def create_deterministic_app() -> df.DFApp:
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
    def coordinator(context: Any) -> Any:
        yield context.task_all(
            [
                context.call_sub_orchestrator("worker", s, f"w{i}")
                for i, s in enumerate((3, 1, 2, 1, 3))
            ]
        )
        yield context.task_all(
            [context.call_activity("mark", ["coordinator", n]) for n in range(10)]
        )

    @app.activity_trigger(input_name="mark_id")
    def mark(mark_id: list[Any]) -> None:
        marks.append((mark_id, clock.now()))

    return app


marks: list[Any] = []
clock = VirtualClock(START)


def test_serial_host_repeats_identical_history() -> None:
    global clock
    app, runs = create_deterministic_app(), []
    for _ in range(3):
        clock = VirtualClock(START)
        marks.clear()
        with LocalHost(app, clock=clock, serial=True) as host:
            host.wait(host.start_orchestration("coordinator", instance_id="coordinator"))
            compared_keys = (
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
                        {key: event.get(key) for key in compared_keys}
                        for instance_id in ("coordinator", "w0", "w3")
                        for event in host.history(instance_id)
                    ],
                )
            )
    assert runs[0] == runs[1] == runs[2]
    times = [time_of_mark for _, time_of_mark in runs[0][0]]
    assert times == sorted(times)
    # Timers that are due at the same time fire in the order of their creation.
    assert [mark_id for mark_id, _ in runs[0][0]][:2] == [["w1", 0], ["w3", 0]]


def test_wait_without_progress_raises_timeout_error() -> None:
    with LocalHost(create_deterministic_app(), clock=VirtualClock(START)) as host:
        with pytest.raises(LookupError):
            host.wait("unknown")
        with pytest.raises(WaitTimeoutError, match="no work or timer is left"):
            host.run_until(lambda: False)
        host.start_orchestration("worker", 3600, "slow")
        with pytest.raises(WaitTimeoutError, match="slow \\(worker, Running\\)"):
            host.wait("slow", within=timedelta(minutes=30))
        assert host.wait("slow", within=timedelta(hours=4))["output"] == "done"
    with LocalHost(create_deterministic_app()) as real_time_host:
        real_time_host.start_orchestration("worker", 3600, "slow")
        with pytest.raises(
            WaitTimeoutError, match="Timed out while waiting for instance slow to end"
        ):
            real_time_host.wait("slow", timeout_real_seconds=0.1)
        with pytest.raises(TypeError):
            real_time_host.advance(timedelta(seconds=1))


def test_virtual_clock_requires_aware_start_and_never_moves_back() -> None:
    with pytest.raises(ValueError, match="aware"):
        VirtualClock(datetime(2026, 1, 1))
    own_clock = VirtualClock(START)
    own_clock.move_by(timedelta(seconds=-5))
    assert own_clock.now() == START and own_clock.now().tzinfo is UTC
