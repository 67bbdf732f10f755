"""A host that stops, however it stops, and another that goes on with its state."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest

from local.host import LocalHost, StateInUseError, VirtualClock

from .conftest import START


class GatedApp:
    """An app whose activity stands still until the test lets it go."""

    def __init__(self) -> None:
        self.app = df.DFApp()
        self.began, self.go = threading.Semaphore(0), threading.Event()
        self.runs: list[int] = []
        app = self.app

        @app.activity_trigger(input_name="n")
        def gated(n: int) -> int:
            self.runs.append(n)
            self.began.release()
            self.go.wait(20)
            return n + 1

        @app.orchestration_trigger(context_name="context")
        def three(context: Any) -> Any:
            value = 0
            for _ in range(3):
                value = yield context.call_activity("gated", value)
                yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
            return value

        @app.orchestration_trigger(context_name="context")
        def waits(context: Any) -> Any:
            return (yield context.wait_for_external_event("go"))


def test_an_activity_that_was_cut_off_runs_again(tmp_path: Path) -> None:
    gated, clock = GatedApp(), VirtualClock(START)
    with LocalHost(gated.app, clock=clock, state_dir=tmp_path) as host:
        host.start_orchestration("three", instance_id="x")
        host.start_orchestration("waits", instance_id="y")
        assert gated.began.acquire(timeout=10)
        host.stop(drain=False)
    gated.go.set()  # the old thread ends now; its result goes nowhere
    with LocalHost(gated.app, clock=clock, state_dir=tmp_path) as host:
        assert host.wait("x")["output"] == 3
        assert gated.runs[:2] == [0, 0] and gated.runs[2:] == [1, 2]
        host.raise_event("y", "go", {"a": 1})
        assert host.wait("y")["output"] == {"a": 1}
        assert clock.now() == START + timedelta(hours=3)


def test_draining_lets_what_runs_end(tmp_path: Path) -> None:
    gated, clock = GatedApp(), VirtualClock(START)
    host = LocalHost(gated.app, clock=clock, state_dir=tmp_path).start()
    host.start_orchestration("three", instance_id="x")
    assert gated.began.acquire(timeout=10)
    threading.Timer(0.1, gated.go.set).start()
    assert host.stop(drain=True)
    assert host.stop(drain=True)  # harmless
    with LocalHost(gated.app, clock=clock, state_dir=tmp_path) as again:
        assert again.wait("x")["output"] == 3
    assert gated.runs == [0, 1, 2]


def test_a_drain_that_takes_too_long_says_so(tmp_path: Path) -> None:
    gated = GatedApp()
    host = LocalHost(gated.app, clock=VirtualClock(START), state_dir=tmp_path).start()
    host.start_orchestration("three", instance_id="x")
    assert gated.began.acquire(timeout=10)
    assert not host.stop(drain=True, timeout=0.1)
    gated.go.set()


def test_async_activities_are_cancelled_by_a_kill(tmp_path: Path) -> None:
    import asyncio

    app, began, cancelled = df.DFApp(), threading.Event(), threading.Event()

    @app.activity_trigger(input_name="n")
    async def endless(n: int) -> int:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return n

    @app.orchestration_trigger(context_name="context")
    def one(context: Any) -> Any:
        return (yield context.call_activity("endless", 1))

    with LocalHost(app, state_dir=tmp_path) as host:
        iid = host.start_orchestration("one")
        assert began.wait(10)
        host.stop(drain=False)
    assert cancelled.wait(10)
    with LocalHost(app, state_dir=tmp_path) as host:
        status = host.status(iid)
        assert status is not None and status["runtimeStatus"] == "Running"
        host.stop(drain=False)


def test_one_host_for_each_state_folder(tmp_path: Path) -> None:
    gated = GatedApp()
    with (
        LocalHost(gated.app, state_dir=tmp_path),
        pytest.raises(StateInUseError, match="in use by another local host: process"),
    ):
        LocalHost(gated.app, state_dir=tmp_path).start()
    with LocalHost(gated.app, state_dir=tmp_path):
        pass


def test_hubs_share_nothing(tmp_path: Path) -> None:
    gated = GatedApp()
    hub_a, hub_b = ({"extensions": {"durableTask": {"hubName": name}}} for name in ("HubA", "HubB"))
    with LocalHost(gated.app, state_dir=tmp_path, host_json=hub_a) as host:
        host.start_orchestration("waits", instance_id="x")
        host.settle()
    with LocalHost(gated.app, state_dir=tmp_path, host_json=hub_b) as host:
        assert host.instances() == []
    with LocalHost(gated.app, state_dir=tmp_path, host_json=hub_a) as host:
        assert [instance["instanceId"] for instance in host.instances()] == ["x"]


def test_a_tick_missed_between_two_hosts_fires_once_as_past_due(tmp_path: Path) -> None:
    app, seen, clock = func.FunctionApp(), [], VirtualClock(START)

    @app.timer_trigger(arg_name="tick", schedule="0 0 5 * * *")
    def daily(tick: func.TimerRequest) -> None:
        seen.append((tick.past_due, clock.now().isoformat()[:13]))

    with LocalHost(app, clock=clock, state_dir=tmp_path) as host:
        host.advance(timedelta(days=1))
    clock.move_by(timedelta(days=3))
    with LocalHost(app, clock=clock, state_dir=tmp_path) as host:
        host.settle()
        host.advance(timedelta(days=1))
    assert seen == [(False, "2026-01-01T05"), (True, "2026-01-05T00"), (False, "2026-01-05T05")]


def test_two_hosts_side_by_side_in_one_process() -> None:
    from .conftest import Web, sample_host

    with sample_host() as one, sample_host(settings={"SAMPLE_HUB": "Other"}) as two:
        ids = [Web(host.base_url).start("chain", 2, "same-id") for host in (one, two)]
        assert [host.wait(iid)["output"] for host, iid in zip((one, two), ids, strict=True)] == [
            2,
            2,
        ]
        assert len(one.instances()) == len(two.instances()) == 1
