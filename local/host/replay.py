"""Replays a recorded history against the orchestrator's present code, to learn whether running instances would survive it."""

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
    """Runs the orchestrator over a history, episode by episode, as the engine would have.

    `history_events`: raw events, as `LocalHost.history` returns them. `input` None: the input that the history holds, else
    the value to start with instead. Returns the decisions that follow the history (new work that it does not hold yet) and
    the outcome of its last episode. Raises NonDeterminismError if the code no longer makes the decisions of the history, or no
    longer ends as it did.
    """
    sdk_patches.install()
    handle, exists = _orchestrator(app, orchestrator_name)
    events = [dict(event) for event in history_events]
    started = next(event for event in events if event["EventType"] == EventType.EXECUTION_STARTED)
    if input is not None:
        started["Input"] = json.dumps(json.dumps(input))
    instance = started["OrchestrationInstance"]
    parent = started.get("ParentInstance")
    who = Identity(
        instance["InstanceId"],
        instance["ExecutionId"],
        orchestrator_name,
        parent_id or (parent["OrchestrationInstance"]["InstanceId"] if parent else None),
    )
    outcome, end = Outcome(), 0
    for start, end in _episodes(events):
        past = [
            {**event, "IsPlayed": event["EventType"] not in NEVER_PLAYED}
            for event in events[:start]
        ]
        fresh = [{**event, "IsPlayed": False} for event in events[start:end]]
        outcome = run_episode(
            who, [*past, *fresh], [json.dumps(event) for event in past], handle, exists
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
        raise NonDeterminismError(f"the app has no orchestrator named {name}")
    function = index.find(name)
    assert function is not None
    return function.call, index.exists


def _episodes(events: Sequence[Event]) -> list[tuple[int, int]]:
    """(start, end) of what each episode was given: from its OrchestratorStarted to the first event it produced itself."""
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
    """New work must be just what the history holds next; at the end of an unfinished history it holds none."""
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
    made = [
        (
            int(_TYPE_OF[decision.dotnet_type]),
            decision.id,
            str(getattr(decision, "name", "")).lower(),
        )
        for decision in outcome.decisions
    ]
    if outcome.status in (None, "Completed", "ContinuedAsNew") and made != recorded:
        raise NonDeterminismError(
            f"{name}: the history goes on with {_shown(recorded)}, the code now with {_shown(made)}"
        )


def _compare_ending(name: str, outcome: Outcome, events: Sequence[Event]) -> None:
    ended = next(
        (event for event in events if event["EventType"] == EventType.EXECUTION_COMPLETED), None
    )
    now = outcome.status or "unfinished"
    if ended is not None and now != ended["OrchestrationStatus"]:
        raise NonDeterminismError(
            f"{name}: the recorded run ended {ended['OrchestrationStatus']}, the code now leaves it {now}"
        )


def _shown(decisions: Sequence[tuple[int, int, str]]) -> str:
    texts = [
        f"{EventType(kind).name.lower()} {event_id} {name}".strip()
        for kind, event_id, name in decisions
    ]
    return ", ".join(texts) or "nothing"


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
