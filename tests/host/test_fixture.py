"""The `local_host` pytest fixture, and timers with its virtual clock."""

from datetime import timedelta

import azure.functions as func
import pytest

from local.host.testing import StartHost, local_host

__all__ = ["local_host"]


def create_ticking_app(schedules: list[tuple[str, str]]) -> func.FunctionApp:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="tick", schedule="0 0 * * * *")
    def hourly(tick: func.TimerRequest) -> None:
        schedules.append((tick.schedule_status["Last"][11:16], tick.schedule_status["Next"][11:16]))

    return app


@pytest.mark.parametrize("early", [False, True])
def test_timer_schedule_status_next_is_current_tick(local_host: StartHost, early: bool) -> None:
    schedules: list[tuple[str, str]] = []
    host = local_host(create_ticking_app(schedules), early_timers=early)
    host.advance(timedelta(hours=3))
    # Each tick fires once, even if it fires early.
    assert [next_tick for _, next_tick in schedules] == ["01:00", "02:00", "03:00"]


def test_early_timers_fire_half_a_second_early(local_host: StartHost) -> None:
    schedules: list[tuple[str, str]] = []
    host = local_host(create_ticking_app(schedules), early_timers=True)
    host.advance(timedelta(minutes=59, seconds=59, milliseconds=400))
    assert schedules == []
    host.advance(timedelta(milliseconds=100))
    assert len(schedules) == 1


def test_local_host_clocks_are_independent(local_host: StartHost) -> None:
    first, second = local_host(func.FunctionApp()), local_host(func.FunctionApp())
    first.advance(timedelta(days=1))
    assert first.clock.now() - second.clock.now() == timedelta(days=1)
