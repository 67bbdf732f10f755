"""Replay of a recorded history with the current code of its orchestrator.

It verifies that running instances can continue after a change to the code.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from azure.functions import FunctionRegister

from . import failure_texts, sdk_patches
from .action_replay import FunctionKind, NonDeterminismError
from .decisions import Decision
from .episode import Identity, Outcome, run_episode
from .functions import FunctionIndex, index_app
from .history import NEVER_PLAYED, Event, EventType

__all__ = ["NonDeterminismError", "replay_history"]


def replay_history(
    app: FunctionRegister | Callable[[str], str],
    orchestrator_name: str,
    history_events: Sequence[Event],
    input: Any = None,
    *,
    parent_id: str | None = None,
) -> tuple[list[Decision], Outcome]:
    """Run the orchestrator on a history, episode by episode, as the engine does.

    Args:
        app: The app, or the callable that implements the orchestrator.
        orchestrator_name: Name of the orchestrator function.
        history_events: Raw events, as `LocalHost.history` returns them.
        input: Input that replaces the recorded one. None keeps the recorded input.
        parent_id: Instance ID of the parent if the history does not contain it.

    Returns:
        The decisions that the history does not contain yet, and the outcome of the last episode.

    Raises:
        NonDeterminismError: If the decisions or the final status differ from those in the history.
    """
    sdk_patches.install()
    handle, exists = _orchestrator(app, orchestrator_name)
    events = [dict(event) for event in history_events]
    started = next(event for event in events if event["EventType"] == EventType.EXECUTION_STARTED)
    if input is not None:
        started["Input"] = json.dumps(json.dumps(input))
    instance = started["OrchestrationInstance"]
    parent = started.get("ParentInstance")
    identity = Identity(
        instance["InstanceId"],
        instance["ExecutionId"],
        orchestrator_name,
        parent_id or (parent["OrchestrationInstance"]["InstanceId"] if parent else None),
    )
    outcome, end = Outcome(), 0
    for start, end in _episodes(events):
        past_events = [
            {**event, "IsPlayed": event["EventType"] not in NEVER_PLAYED}
            for event in events[:start]
        ]
        new_events = [{**event, "IsPlayed": False} for event in events[start:end]]
        outcome = run_episode(
            identity,
            [*past_events, *new_events],
            [json.dumps(event) for event in past_events],
            handle,
            exists,
        )
        if outcome.status == "Failed" and str(outcome.output).startswith(
            failure_texts.non_deterministic("")
        ):
            reason = f" ({outcome.masked_error})" if outcome.masked_error else ""
            raise NonDeterminismError(f"{orchestrator_name}: {outcome.output}{reason}")
        _compare_decisions(orchestrator_name, outcome, events[end:])
    _compare_ending(orchestrator_name, outcome, events)
    return ([] if events[end:] else outcome.decisions), outcome


def _orchestrator(
    app: FunctionRegister | Callable[[str], str],
    name: str,
) -> tuple[Callable[[str], str], Callable[[FunctionKind, str], bool]]:
    if not isinstance(app, FunctionRegister):
        return app, lambda kind, name: True
    index: FunctionIndex = index_app(app, os.environ, "api")
    if not index.exists("orchestrator", name):
        raise NonDeterminismError(f"The app has no orchestrator named {name}.")
    function = index.find(name)
    assert function is not None
    return function.call, index.exists


def _episodes(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Return the range (start, end) of the events that each episode received.

    A range starts at OrchestratorStarted and ends before the first event that the episode produced.
    """
    starts = [
        position
        for position, event in enumerate(events)
        if event["EventType"] == EventType.ORCHESTRATOR_STARTED
    ]
    episodes = []
    for start in starts:
        end = start + 1
        while end < len(events) and events[end]["EventType"] not in NEVER_PLAYED:
            end += 1
        episodes.append((start, end))
    return episodes


def _compare_decisions(name: str, outcome: Outcome, following: Sequence[Event]) -> None:
    """Verify that the new decisions are the next ones in the history.

    At the end of an unfinished history, nothing is compared.
    """
    recorded: list[tuple[int, int, str]] = []
    for event in following:
        if event["EventType"] in (EventType.ORCHESTRATOR_COMPLETED, EventType.ORCHESTRATOR_STARTED):
            break
        if event["EventType"] in _DECISION_TYPES:
            recorded.append(
                (event["EventType"], event["EventId"], str(event.get("Name", "")).lower())
            )
    if not following:
        return
    current = [
        (
            int(_TYPE_OF[decision.dotnet_type]),
            decision.id,
            str(getattr(decision, "name", "")).lower(),
        )
        for decision in outcome.decisions
    ]
    if outcome.status in (None, "Completed", "ContinuedAsNew") and current != recorded:
        raise NonDeterminismError(
            f"{name}: The next decisions in the history are {_format_decisions(recorded)}, "
            f"but the code decides {_format_decisions(current)}."
        )


def _compare_ending(name: str, outcome: Outcome, events: Sequence[Event]) -> None:
    ended = next(
        (event for event in events if event["EventType"] == EventType.EXECUTION_COMPLETED), None
    )
    now = outcome.status or "unfinished"
    if ended is not None and now != ended["OrchestrationStatus"]:
        raise NonDeterminismError(
            f"{name}: The recorded status is {ended['OrchestrationStatus']}, "
            f"but the status with the current code is {now}."
        )


def _format_decisions(decisions: Sequence[tuple[int, int, str]]) -> str:
    texts = [
        f"{EventType(kind).name.lower()} {event_id} {name}".strip()
        for kind, event_id, name in decisions
    ]
    return ", ".join(texts) or "none"


_DECISION_TYPES = (
    EventType.TASK_SCHEDULED,
    EventType.TIMER_CREATED,
    EventType.SUB_ORCHESTRATION_CREATED,
)
_TYPE_OF = {
    "ScheduleTaskOrchestratorAction": EventType.TASK_SCHEDULED,
    "CreateTimerOrchestratorAction": EventType.TIMER_CREATED,
    "CreateSubOrchestrationAction": EventType.SUB_ORCHESTRATION_CREATED,
}
