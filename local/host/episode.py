"""Runs an episode: calls the orchestrator with its history and replays the returned actions.

An episode does not access storage: the engine reads the history before the episode and commits the
outcome after it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import failure_texts
from .action_replay import (
    ActionReplay,
    FunctionKind,
    NonDeterminismError,
    OrchestratorCompletion,
    UnsupportedActionError,
)
from .calls import FunctionTerminatedError, HostStoppedError
from .decisions import Decision
from .history import Event, EventType, compact_json
from .timestamps import rewrite_offsets

STATE_SEPARATOR = "\n\n$OutOfProcData$:"
MAX_CUSTOM_STATUS_BYTES = 16 * 1024
CONTEXT_CONSTANTS = {
    "upperSchemaVersion": 1,
    "upperSchemaVersionNew": 2,
    "longRunningTimerIntervalDuration": "3.00:00:00",
    "maximumShortTimerDuration": "6.00:00:00",
    "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,
}


@dataclass(frozen=True)
class Identity:
    """The instance and execution that an episode belongs to."""

    instance_id: str
    execution_id: str
    name: str
    parent_id: str | None = None


@dataclass(frozen=True)
class OrchestratorResult:
    """The state that the orchestrator function returned or attached to its exception.

    `masked_error` is an error that Azure replaces with the non-determinism error message.
    """

    actions: list[Event] = field(default_factory=list)
    completion: OrchestratorCompletion | None = None
    custom_status: str | None = None  # JSON text
    masked_error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The outcome of an episode.

    If `status` is None, the instance continues as Running or Suspended.
    """

    status: str | None = None  # Completed, Failed, Terminated, ContinuedAsNew
    output: str | None = None  # JSON if Completed, otherwise plain text
    failure_details: str | None = None  # if Failed: the Details of the event in the parent
    decisions: list[Decision] = field(default_factory=list)
    custom_status: str | None = None
    suspended: bool = False
    suspend_reason: str | None = None
    next_input: str | None = None
    carried_events: list[Event] = field(default_factory=list)
    next_id: int = 0
    new_events_played: bool = True  # False if the replay stopped before the new events
    masked_error: str | None = None


@dataclass(frozen=True)
class Failure:
    """The failure of an orchestrator: its output, and the Details of the event in the parent.

    `contradicts_history` is true if the replay stopped at a past event.
    """

    output: str
    details: str
    decisions: list[Decision] = field(default_factory=list)
    contradicts_history: bool = False


def create_failure(name: str, error: str, details: str | None = None) -> Failure:
    return Failure(
        failure_texts.orchestrator_failure(name, error),
        details or failure_texts.child_failure_details(error),
    )


def run_episode(
    identity: Identity,
    history: Sequence[Event],
    past_texts: Sequence[str],
    handle: Callable[[str], str],
    exists: Callable[[FunctionKind, str], bool],
) -> Outcome:
    """Run one episode and return its outcome.

    Args:
        identity: The instance and execution of the episode.
        history: The complete history, with the new events last.
        past_texts: The events before the new events, as JSON.
        handle: Calls the orchestrator with its context and returns its state, both as JSON.
        exists: Returns whether the app has a function.
    """
    result = call_orchestrator(handle, context_json(identity, history, past_texts))
    replay = ActionReplay(
        instance_id=identity.instance_id,
        execution_id=identity.execution_id,
        parent_id=identity.parent_id,
        actions=result.actions,
        completion=result.completion,
        exists=exists,
    )
    failure: Failure | None = None
    try:
        for event in history:
            replay.process(event)
    except NonDeterminismError as contradiction:
        text = failure_texts.non_deterministic(str(contradiction))
        # Like the engine, keep the new decisions.
        failure = Failure(
            text,
            failure_texts.non_deterministic_details(text),
            replay.new_decisions,
            contradicts_history=True,
        )
    except UnsupportedActionError as unsupported:
        failure = create_failure(identity.name, str(unsupported))
    return build_outcome(identity, history, result, replay, failure)


def build_outcome(
    identity: Identity,
    history: Sequence[Event],
    result: OrchestratorResult,
    replay: ActionReplay,
    failure: Failure | None,
) -> Outcome:
    """Derive the outcome of an episode from the state of its replay."""
    common: dict[str, Any] = {
        "custom_status": result.custom_status,
        "next_id": replay.next_id,
        "masked_error": result.masked_error,
    }
    for event in history:
        if event["EventType"] == EventType.EXECUTION_TERMINATED:  # has precedence (R13)
            return Outcome("Terminated", event.get("Input"), **common)
    if failure is not None:
        return Outcome(
            "Failed",
            failure.output,
            failure.details,
            failure.decisions,
            new_events_played=not failure.contradicts_history,
            **common,
        )
    if replay.result is None or replay.open_tasks:
        return Outcome(
            decisions=replay.new_decisions,
            suspended=replay.suspended,
            suspend_reason=replay.suspend_reason,
            **common,
        )
    common["decisions"] = replay.new_decisions
    if (error := replay.result.error) is not None:
        failure = create_failure(identity.name, error, replay.result.failure_details)
        return Outcome("Failed", failure.output, failure.details, **common)
    if replay.continues_as_new:
        return Outcome(
            "ContinuedAsNew",
            next_input=compact_json(replay.next_input),
            carried_events=replay.carried_events,
            **common,
        )
    output = rewrite_offsets(replay.result.output)
    return Outcome("Completed", None if output is None else compact_json(output), **common)


def version_mismatch(identity: Identity, version: str, current: str) -> Outcome:
    """Return the outcome for an unaccepted version if host.json specifies `Fail`."""
    error = (
        f"VersionMismatch: the instance has version '{version}', but the app has "
        f"version '{current}'."
    )
    failure = create_failure(identity.name, error)
    return Outcome("Failed", failure.output, failure.details)


def context_json(identity: Identity, history: Sequence[Event], past_texts: Sequence[str]) -> str:
    """Return the JSON context that the SDK expects as the input of an orchestrator."""
    started = next(event for event in history if event["EventType"] == EventType.EXECUTION_STARTED)
    texts = [*past_texts, *(json.dumps(event) for event in history[len(past_texts) :])]
    rest = json.dumps(
        {
            "input": None if started["Input"] is None else json.loads(started["Input"]),
            "instanceId": identity.instance_id,
            "isReplaying": bool(past_texts),
            "parentInstanceId": identity.parent_id,
            **CONTEXT_CONSTANTS,
        }
    )
    return '{"history": [' + ", ".join(texts) + "], " + rest[1:]


def call_orchestrator(handle: Callable[[str], str], context: str) -> OrchestratorResult:
    """Call an orchestrator and return the state from its result or its exception."""
    try:
        return _read_state(json.loads(handle(context)))
    except HostStoppedError:
        raise  # there is no result; the next host repeats the episode
    except FunctionTerminatedError as terminated:
        # Without actions, the replay contradicts a history that contains decisions. The text of
        # the contradiction then hides this error.
        return OrchestratorResult(
            completion=OrchestratorCompletion(
                error=failure_texts.terminated_orchestrator(terminated),
                failure_details=failure_texts.terminated_orchestrator_details(terminated),
            ),
            masked_error=str(terminated),
        )
    except Exception as error:
        text = failure_texts.sanitize(str(error))
        state = _parse_error_state(text)
        if state is None:
            failure = failure_texts.unreadable_orchestrator_failure(error)
            return OrchestratorResult(
                completion=OrchestratorCompletion(error=failure),
                masked_error=failure_texts.format_error(error).partition(STATE_SEPARATOR)[0],
            )
        return _read_state(state)


def _parse_error_state(text: str) -> dict[str, Any] | None:
    """Return the state that the SDK appends, after a separator, to an exception message."""
    _, separator, state = text.partition(STATE_SEPARATOR)
    try:
        parsed = json.loads(state) if separator else None
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _read_state(state: dict[str, Any]) -> OrchestratorResult:
    custom_status = None
    if state.get("customStatus") is not None:
        custom_status = compact_json(state["customStatus"])
        size = len(custom_status.encode("utf-16-le", "surrogatepass"))
        if size > MAX_CUSTOM_STATUS_BYTES:
            error = (
                "The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. "
                f"The current payload size is {size // 1024} KB."
            )
            return OrchestratorResult(
                completion=OrchestratorCompletion(error=error),
                masked_error=f"custom status: {error}",
            )
    actions = (state.get("actions") or [[]])[0]
    if state.get("error"):
        return OrchestratorResult(
            actions, OrchestratorCompletion(error=str(state["error"])), custom_status
        )
    if state.get("isDone"):
        return OrchestratorResult(
            actions, OrchestratorCompletion(output=state.get("output")), custom_status
        )
    return OrchestratorResult(actions, None, custom_status)
