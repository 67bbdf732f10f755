"""Replays recorded histories with compatible and incompatible code."""

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from local.host import LocalHost, NonDeterminismError, VirtualClock, replay_history
from local.host.history import EventType

from .sample_host import START, create_sample_host


def create_app(orchestrator: Callable[[Any], Any]) -> df.DFApp:
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


def renamed_activity(context: Any) -> Any:
    yield context.call_activity("dec", 1)


def without_timer(context: Any) -> Any:
    first = yield context.call_activity("inc", 1)
    results = yield context.task_all([context.call_activity("inc", n) for n in range(3)])
    return [first, *results]


def additional_activity(context: Any) -> Any:
    yield from original(context)
    yield context.call_activity("inc", 1)


def wider_fan_out(context: Any) -> Any:
    yield context.call_activity("inc", 1)
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    yield context.task_all([context.call_activity("inc", n) for n in range(4)])


def raises_at_the_end(context: Any) -> Any:
    yield from original(context)
    raise RuntimeError("no")


@pytest.fixture(scope="module")
def recorded_history() -> list[dict[str, Any]]:
    with LocalHost(create_app(original), clock=VirtualClock(START)) as host:
        instance_id = host.start_orchestration("work", 5)
        assert host.wait(instance_id)["output"] == [6, 1, 2, 3]
        return host.history(instance_id)


def test_replay_history_with_same_code_matches(recorded_history: list[dict[str, Any]]) -> None:
    decisions, outcome = replay_history(create_app(original), "work", recorded_history)
    assert decisions == [] and (outcome.status, outcome.output) == ("Completed", "[6,1,2,3]")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            renamed_activity,
            "in the history are task_scheduled 0 inc, but the code decides task_scheduled 0 dec",
        ),
        (
            without_timer,
            "in the history are timer_created 1, but the code decides task_scheduled 1 inc",
        ),
        (wider_fan_out, "task_scheduled 5 inc"),
        (additional_activity, "but the code decides task_scheduled 5 inc"),
        (
            raises_at_the_end,
            "recorded status is Completed, but the status with the current code is Failed",
        ),
    ],
)
def test_replay_history_with_changed_code_raises(
    recorded_history: list[dict[str, Any]], changed: Callable[[Any], Any], text: str
) -> None:
    with pytest.raises(NonDeterminismError, match=text):
        replay_history(create_app(changed), "work", recorded_history)


def test_replay_history_with_change_after_recorded_part_matches(
    recorded_history: list[dict[str, Any]],
) -> None:
    """The recorded instance waits for its timer, so the code after the timer may change."""
    created_index = next(
        i
        for i, event in enumerate(recorded_history)
        if event["EventType"] == EventType.TIMER_CREATED
    )
    unfinished_history = recorded_history[: created_index + 2]
    decisions, outcome = replay_history(create_app(wider_fan_out), "work", unfinished_history)
    assert decisions == [] and outcome.status is None
    with pytest.raises(NonDeterminismError):
        replay_history(create_app(without_timer), "work", unfinished_history)


def test_replay_history_of_unfinished_instance_returns_next_decisions(
    recorded_history: list[dict[str, Any]],
) -> None:
    fired_index = next(
        i for i, event in enumerate(recorded_history) if event["EventType"] == EventType.TIMER_FIRED
    )
    decisions, outcome = replay_history(
        create_app(original), "work", recorded_history[: fired_index + 1]
    )
    assert [decision.id for decision in decisions] == [2, 3, 4] and outcome.status is None


def test_replay_history_of_unknown_orchestrator_raises(
    recorded_history: list[dict[str, Any]],
) -> None:
    with pytest.raises(NonDeterminismError, match="no orchestrator named other"):
        replay_history(create_app(original), "other", recorded_history)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chain", 5),
        ("retry", {"key": "replayed", "fail": 2, "attempts": 4}),
        ("retry_all", None),
        ("race", {"s": 5}),
        ("parent", None),
        ("failing_child", None),
        ("eternal", 0),
        ("monitor", 0),
        ("catches_failure", None),
        ("raises", None),
        ("clock", None),
        ("hourly_timers", None),
        ("fail_fast", None),
    ],
)
def test_replay_history_of_sample_app_matches(name: str, content: Any) -> None:
    with create_sample_host() as host:
        instance_id = host.start_orchestration(name, content)
        status = host.wait(instance_id)
        app = sys.modules["function_app"].app
        _, outcome = replay_history(app, name, host.history(instance_id))
        assert outcome.status == status["runtimeStatus"]
