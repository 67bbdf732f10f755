"""A host that stops or is killed, and a second host that continues with its state."""

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest

from local.host import LocalHost, StateInUseError, VirtualClock

from .sample_host import START, HostClient, create_sample_host


class BlockingApp:
    """An app whose activity blocks until the test sets `may_finish`."""

    def __init__(self) -> None:
        self.app = df.DFApp()
        self.activity_started, self.may_finish = threading.Semaphore(0), threading.Event()
        self.runs: list[int] = []
        app = self.app

        @app.activity_trigger(input_name="n")
        def increment(n: int) -> int:
            self.runs.append(n)
            self.activity_started.release()
            self.may_finish.wait(20)
            return n + 1

        @app.orchestration_trigger(context_name="context")
        def three_steps(context: Any) -> Any:
            value = 0
            for _ in range(3):
                value = yield context.call_activity("increment", value)
                yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
            return value

        @app.orchestration_trigger(context_name="context")
        def wait_for_event(context: Any) -> Any:
            return (yield context.wait_for_external_event("go"))


def test_activity_interrupted_by_stop_runs_again(tmp_path: Path) -> None:
    blocking_app, clock = BlockingApp(), VirtualClock(START)
    with LocalHost(blocking_app.app, clock=clock, state_dir=tmp_path) as host:
        host.start_orchestration("three_steps", instance_id="x")
        host.start_orchestration("wait_for_event", instance_id="y")
        assert blocking_app.activity_started.acquire(timeout=10)
        host.stop(drain=False)
    # The thread of the stopped host ends, and its result is discarded.
    blocking_app.may_finish.set()
    with LocalHost(blocking_app.app, clock=clock, state_dir=tmp_path) as host:
        assert host.wait("x")["output"] == 3
        assert blocking_app.runs[:2] == [0, 0] and blocking_app.runs[2:] == [1, 2]
        host.raise_event("y", "go", {"a": 1})
        assert host.wait("y")["output"] == {"a": 1}
        assert clock.now() == START + timedelta(hours=3)


def test_stop_with_drain_waits_for_running_activity(tmp_path: Path) -> None:
    blocking_app, clock = BlockingApp(), VirtualClock(START)
    host = LocalHost(blocking_app.app, clock=clock, state_dir=tmp_path).start()
    host.start_orchestration("three_steps", instance_id="x")
    assert blocking_app.activity_started.acquire(timeout=10)
    threading.Timer(0.1, blocking_app.may_finish.set).start()
    assert host.stop(drain=True)
    assert host.stop(drain=True)  # idempotent
    with LocalHost(blocking_app.app, clock=clock, state_dir=tmp_path) as second_host:
        assert second_host.wait("x")["output"] == 3
    assert blocking_app.runs == [0, 1, 2]


def test_stop_with_drain_timeout_returns_false(tmp_path: Path) -> None:
    blocking_app = BlockingApp()
    host = LocalHost(blocking_app.app, clock=VirtualClock(START), state_dir=tmp_path).start()
    host.start_orchestration("three_steps", instance_id="x")
    assert blocking_app.activity_started.acquire(timeout=10)
    assert not host.stop(drain=True, timeout=0.1)
    blocking_app.may_finish.set()


def test_stop_without_drain_cancels_async_activity(tmp_path: Path) -> None:
    app, started, cancelled = df.DFApp(), threading.Event(), threading.Event()

    @app.activity_trigger(input_name="n")
    async def endless(n: int) -> int:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return n

    @app.orchestration_trigger(context_name="context")
    def run(context: Any) -> Any:
        return (yield context.call_activity("endless", 1))

    with LocalHost(app, state_dir=tmp_path) as host:
        instance_id = host.start_orchestration("run")
        assert started.wait(10)
        host.stop(drain=False)
    assert cancelled.wait(10)
    with LocalHost(app, state_dir=tmp_path) as host:
        status = host.status(instance_id)
        assert status is not None and status["runtimeStatus"] == "Running"
        host.stop(drain=False)


def test_second_host_in_same_state_directory_is_rejected(tmp_path: Path) -> None:
    blocking_app = BlockingApp()
    with (
        LocalHost(blocking_app.app, state_dir=tmp_path),
        pytest.raises(StateInUseError, match="in use by another local host: process"),
    ):
        LocalHost(blocking_app.app, state_dir=tmp_path).start()
    with LocalHost(blocking_app.app, state_dir=tmp_path):
        pass


def test_task_hubs_in_same_state_directory_are_separate(tmp_path: Path) -> None:
    blocking_app = BlockingApp()
    hub_a, hub_b = ({"extensions": {"durableTask": {"hubName": name}}} for name in ("HubA", "HubB"))
    with LocalHost(blocking_app.app, state_dir=tmp_path, host_json=hub_a) as host:
        host.start_orchestration("wait_for_event", instance_id="x")
        host.settle()
    with LocalHost(blocking_app.app, state_dir=tmp_path, host_json=hub_b) as host:
        assert host.instances() == []
    with LocalHost(blocking_app.app, state_dir=tmp_path, host_json=hub_a) as host:
        assert [instance["instanceId"] for instance in host.instances()] == ["x"]


def test_timer_missed_while_stopped_fires_once_as_past_due(tmp_path: Path) -> None:
    app, ticks, clock = func.FunctionApp(), [], VirtualClock(START)

    @app.timer_trigger(arg_name="tick", schedule="0 0 5 * * *")
    def daily(tick: func.TimerRequest) -> None:
        ticks.append((tick.past_due, clock.now().isoformat()[:13]))

    with LocalHost(app, clock=clock, state_dir=tmp_path) as host:
        host.advance(timedelta(days=1))
    clock.move_by(timedelta(days=3))
    with LocalHost(app, clock=clock, state_dir=tmp_path) as host:
        host.settle()
        host.advance(timedelta(days=1))
    assert ticks == [(False, "2026-01-01T05"), (True, "2026-01-05T00"), (False, "2026-01-05T05")]


def test_two_hosts_in_one_process_are_separate() -> None:
    with (
        create_sample_host() as first,
        create_sample_host(settings={"SAMPLE_HUB": "Other"}) as second,
    ):
        ids = [
            HostClient(host.base_url).start_orchestration("chain", 2, "same-id")
            for host in (first, second)
        ]
        assert ids == ["same-id", "same-id"]
        assert first.wait("same-id")["output"] == second.wait("same-id")["output"] == 2
        assert len(first.instances()) == len(second.instances()) == 1
