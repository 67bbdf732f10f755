"""The pytest fixture, and timers as it shows them."""

from datetime import timedelta

import azure.functions as func
import pytest

from local.host.testing import StartHost, local_host

__all__ = ["local_host"]


def ticking(seen: list[tuple[str, str]]) -> func.FunctionApp:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="tick", schedule="0 0 * * * *")
    def hourly(tick: func.TimerRequest) -> None:
        seen.append((tick.schedule_status["Last"][11:16], tick.schedule_status["Next"][11:16]))

    return app


@pytest.mark.parametrize("early", [False, True])
def test_next_is_the_tick_being_served(local_host: StartHost, early: bool) -> None:
    seen: list[tuple[str, str]] = []
    host = local_host(ticking(seen), early_timers=early)
    host.advance(timedelta(hours=3))
    assert [tick for _, tick in seen] == [
        "01:00",
        "02:00",
        "03:00",
    ]  # each once, also where it comes early


def test_an_early_tick_comes_half_a_second_early(local_host: StartHost) -> None:
    seen: list[tuple[str, str]] = []
    host = local_host(ticking(seen), early_timers=True)
    host.advance(timedelta(minutes=59, seconds=59, milliseconds=400))
    assert seen == []
    host.advance(timedelta(milliseconds=100))
    assert len(seen) == 1


def test_each_host_begins_at_the_same_moment(local_host: StartHost) -> None:
    one, two = local_host(func.FunctionApp()), local_host(func.FunctionApp())
    one.advance(timedelta(days=1))
    assert one.clock.now() - two.clock.now() == timedelta(days=1)
