"""replay_history: recorded histories against code that still fits them, and code that no longer does."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import LocalHost, NonDeterminismError, VirtualClock, replay_history
from local.host.history import EventType

from .conftest import START, sample_host


def app_with(orchestrator: Callable[[Any], Any]) -> df.DFApp:
    app = df.DFApp()

    @app.activity_trigger(input_name="n")
    def inc(n: int) -> int:
        return n + 1

    @app.activity_trigger(input_name="n")
    def dec(n: int) -> int:
        return n - 1

    orchestrator.__name__ = "work"
    app.orchestration_trigger(context_name="context")(orchestrator)
    return app


def original(context: Any) -> Any:
    first = yield context.call_activity("inc", context.get_input())
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    results = yield context.task_all([context.call_activity("inc", n) for n in range(3)])
    return [first, *results]


def renamed(context: Any) -> Any:
    yield context.call_activity("dec", 1)
    return None


def without_timer(context: Any) -> Any:
    first = yield context.call_activity("inc", 1)
    results = yield context.task_all([context.call_activity("inc", n) for n in range(3)])
    return [first, *results]


def one_more(context: Any) -> Any:
    yield from original(context)
    yield context.call_activity("inc", 1)


def wider(context: Any) -> Any:
    yield context.call_activity("inc", 1)
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    yield context.task_all([context.call_activity("inc", n) for n in range(4)])


def raises_now(context: Any) -> Any:
    yield from original(context)
    raise RuntimeError("no")


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, Any]]:
    with LocalHost(app_with(original), clock=VirtualClock(START)) as host:
        iid = host.start_orchestration("work", 5)
        assert host.wait(iid)["output"] == [6, 1, 2, 3]
        return host.history(iid)


def test_the_same_code_replays(recorded: list[dict[str, Any]]) -> None:
    decisions, outcome = replay_history(app_with(original), "work", recorded)
    assert decisions == [] and (outcome.status, outcome.output) == ("Completed", "[6,1,2,3]")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (renamed, "goes on with task_scheduled 0 inc, the code now with task_scheduled 0 dec"),
        (without_timer, "goes on with timer_created 1, the code now with task_scheduled 1 inc"),
        (wider, "task_scheduled 5 inc"),
        (one_more, "the code now with task_scheduled 5 inc"),
        (raises_now, "the recorded run ended Completed, the code now leaves it Failed"),
    ],
)
def test_changed_code_is_found(
    recorded: list[dict[str, Any]], changed: Callable[[Any], Any], text: str
) -> None:
    with pytest.raises(NonDeterminismError, match=text):
        replay_history(app_with(changed), "work", recorded)


def test_a_change_behind_the_recorded_part_is_allowed(recorded: list[dict[str, Any]]) -> None:
    """The instance stands at its timer: what comes later may change."""
    created = next(
        i for i, event in enumerate(recorded) if event["EventType"] == EventType.TIMER_CREATED
    )
    waiting = recorded[: created + 2]
    decisions, outcome = replay_history(app_with(wider), "work", waiting)
    assert decisions == [] and outcome.status is None
    with pytest.raises(NonDeterminismError):
        replay_history(app_with(without_timer), "work", waiting)


def test_an_unfinished_history_gives_the_next_decisions(recorded: list[dict[str, Any]]) -> None:
    fired = next(
        i for i, event in enumerate(recorded) if event["EventType"] == EventType.TIMER_FIRED
    )
    decisions, outcome = replay_history(app_with(original), "work", recorded[: fired + 1])
    assert [decision.id for decision in decisions] == [2, 3, 4] and outcome.status is None


def test_unknown_orchestrator(recorded: list[dict[str, Any]]) -> None:
    with pytest.raises(NonDeterminismError, match="no orchestrator named other"):
        replay_history(app_with(original), "other", recorded)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("chain", 5),
        ("retry", {"key": "replayed", "fail": 2, "attempts": 4}),
        ("retry_all", None),
        ("race", {"s": 5}),
        ("parent", None),
        ("bad_sub", None),
        ("eternal", 0),
        ("monitor", 0),
        ("catches", None),
        ("raises", None),
        ("clock", None),
        ("day_of_hours", None),
        ("fail_fast", None),
    ],
)
def test_every_recorded_run_of_the_sample_app_replays(name: str, given: Any) -> None:
    import sys

    with sample_host() as host:
        iid = host.start_orchestration(name, given)
        status = host.wait(iid)
        app = sys.modules["function_app"].app
        _, outcome = replay_history(app, name, host.history(iid))
        assert outcome.status == status["runtimeStatus"]
