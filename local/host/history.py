"""History events: their type numbers and their JSON shapes as sent to the orchestrator.

The shapes are those of the original engine, recorded in `tests/host/golden`.
"""

import json
from datetime import datetime
from enum import IntEnum
from typing import Any, TypeAlias

from .timestamps import to_text

Event: TypeAlias = dict[str, Any]


class EventType(IntEnum):
    """Event types of DurableTask.Core. The numbers are part of the protocol."""

    EXECUTION_STARTED = 0
    EXECUTION_COMPLETED = 1
    EXECUTION_TERMINATED = 3
    TASK_SCHEDULED = 4
    TASK_COMPLETED = 5
    TASK_FAILED = 6
    SUB_ORCHESTRATION_CREATED = 7
    SUB_ORCHESTRATION_COMPLETED = 8
    SUB_ORCHESTRATION_FAILED = 9
    TIMER_CREATED = 10
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    ORCHESTRATOR_COMPLETED = 13
    EVENT_RAISED = 15
    GENERIC_EVENT = 17
    EXECUTION_SUSPENDED = 19
    EXECUTION_RESUMED = 20


NEVER_PLAYED = frozenset(
    {
        EventType.ORCHESTRATOR_STARTED,
        EventType.ORCHESTRATOR_COMPLETED,
        EventType.TASK_SCHEDULED,
        EventType.TIMER_CREATED,
        EventType.SUB_ORCHESTRATION_CREATED,
        EventType.EXECUTION_COMPLETED,
    }
)
"""Events that an episode produces. The engine always sends them with `IsPlayed: false`."""


def compact_json(value: object) -> str:
    """Serialize as .NET does: without spaces and without escaping non-ASCII characters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _event(kind: EventType, at: datetime, body: Event, event_id: int = -1) -> Event:
    return {
        "EventType": int(kind),
        **body,
        "EventId": event_id,
        "IsPlayed": False,
        "Timestamp": to_text(at),
    }


def execution_started(
    at: datetime,
    *,
    instance_id: str,
    execution_id: str,
    name: str,
    version: str,
    input_json: str | None,
    parent: Event | None = None,
    generation: int | None = 0,
) -> Event:
    return _event(
        EventType.EXECUTION_STARTED,
        at,
        {
            "OrchestrationInstance": {"InstanceId": instance_id, "ExecutionId": execution_id},
            "ParentInstance": parent,
            "Name": name,
            "Version": version,
            "Input": input_json,
            "Tags": None,
            "Correlation": None,
            "ParentTraceContext": None,
            "ScheduledStartTime": None,
            "Generation": generation,
        },
    )


def parent_instance(*, name: str, instance_id: str, execution_id: str, task_id: int) -> Event:
    return {
        "Name": name,
        "OrchestrationInstance": {"InstanceId": instance_id, "ExecutionId": execution_id},
        "TaskScheduleId": task_id,
        "Version": "",
    }


def execution_completed(at: datetime, event_id: int, status: str, result: str | None) -> Event:
    body = {"OrchestrationStatus": status, "Result": result, "FailureDetails": None}
    return _event(EventType.EXECUTION_COMPLETED, at, body, event_id)


def orchestrator_started(at: datetime) -> Event:
    return _event(EventType.ORCHESTRATOR_STARTED, at, {})


def orchestrator_completed(at: datetime) -> Event:
    return _event(EventType.ORCHESTRATOR_COMPLETED, at, {})


def task_scheduled(at: datetime, task_id: int, name: str) -> Event:
    body = {"Name": name, "Version": "", "Input": None, "ParentTraceContext": None}
    return _event(EventType.TASK_SCHEDULED, at, body, task_id)


def task_completed(at: datetime, task_id: int, result: str | None) -> Event:
    return _event(EventType.TASK_COMPLETED, at, {"TaskScheduledId": task_id, "Result": result})


def task_failed(at: datetime, task_id: int, reason: str, details: str) -> Event:
    return _event(
        EventType.TASK_FAILED,
        at,
        {"TaskScheduledId": task_id, "Reason": reason, "Details": details, "FailureDetails": None},
    )


def sub_orchestration_created(
    at: datetime, task_id: int, name: str, version: str, instance_id: str
) -> Event:
    return _event(
        EventType.SUB_ORCHESTRATION_CREATED,
        at,
        {
            "Name": name,
            "Version": version,
            "InstanceId": instance_id,
            "Input": None,
            "ClientSpanId": None,
        },
        task_id,
    )


def sub_orchestration_completed(at: datetime, task_id: int, result: str | None) -> Event:
    return _event(
        EventType.SUB_ORCHESTRATION_COMPLETED, at, {"TaskScheduledId": task_id, "Result": result}
    )


def sub_orchestration_failed(
    at: datetime, task_id: int, reason: str | None, details: str | None
) -> Event:
    return _event(
        EventType.SUB_ORCHESTRATION_FAILED,
        at,
        {"TaskScheduledId": task_id, "Reason": reason, "Details": details, "FailureDetails": None},
    )


def timer_created(at: datetime, task_id: int, fire_at: datetime) -> Event:
    return _event(EventType.TIMER_CREATED, at, {"FireAt": to_text(fire_at)}, task_id)


def timer_fired(at: datetime, task_id: int, fire_at: datetime) -> Event:
    """Build a TimerFired event.

    Args:
        at: When the timer was created. The engine writes this time, not the time at which the timer
            fires.
        task_id: ID of the timer.
        fire_at: When the timer is due.
    """
    return _event(EventType.TIMER_FIRED, at, {"TimerId": task_id, "FireAt": to_text(fire_at)})


def event_raised(at: datetime, name: str, input_json: str) -> Event:
    return _event(
        EventType.EVENT_RAISED, at, {"Name": name, "Input": input_json, "ParentTraceContext": None}
    )


def execution_terminated(at: datetime, reason: str | None) -> Event:
    return _event(EventType.EXECUTION_TERMINATED, at, {"Input": reason})


def execution_suspended(at: datetime, reason: str | None) -> Event:
    return _event(EventType.EXECUTION_SUSPENDED, at, {"Reason": reason})


def execution_resumed(at: datetime, reason: str | None) -> Event:
    return _event(EventType.EXECUTION_RESUMED, at, {"Reason": reason})


def generic_event(at: datetime, data: str | None) -> Event:
    return _event(EventType.GENERIC_EVENT, at, {"Data": data})


def mark_played(event: Event) -> Event:
    """Return the event as later episodes receive it."""
    return {**event, "IsPlayed": event["EventType"] not in NEVER_PLAYED}


def mark_carried_over(event: Event) -> Event:
    """Return the event as `continue_as_new` passes it to the next generation: already played."""
    return {**event, "IsPlayed": True}
