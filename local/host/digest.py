"""The status of an instance as returned by the management API, including `historyEvents`.

`historyEvents` contains event names instead of numbers and omits IDs and internal fields. A
scheduling event is omitted when its completion event exists (section 4.6 of the README of the
golden traces).
"""

import json
from collections.abc import Sequence
from typing import Any

from .history import Event, EventType
from .records import Instance
from .timestamps import from_micros, to_seconds_text

_NAMES = {
    EventType.EXECUTION_STARTED: "ExecutionStarted",
    EventType.EXECUTION_COMPLETED: "ExecutionCompleted",
    EventType.EXECUTION_TERMINATED: "ExecutionTerminated",
    EventType.TASK_SCHEDULED: "TaskScheduled",
    EventType.TASK_COMPLETED: "TaskCompleted",
    EventType.TASK_FAILED: "TaskFailed",
    EventType.SUB_ORCHESTRATION_CREATED: "SubOrchestrationInstanceCreated",
    EventType.SUB_ORCHESTRATION_COMPLETED: "SubOrchestrationInstanceCompleted",
    EventType.SUB_ORCHESTRATION_FAILED: "SubOrchestrationInstanceFailed",
    EventType.TIMER_CREATED: "TimerCreated",
    EventType.TIMER_FIRED: "TimerFired",
    EventType.EVENT_RAISED: "EventRaised",
    EventType.GENERIC_EVENT: "GenericEvent",
    EventType.EXECUTION_SUSPENDED: "ExecutionSuspended",
    EventType.EXECUTION_RESUMED: "ExecutionResumed",
}
_SCHEDULING = (EventType.TASK_SCHEDULED, EventType.SUB_ORCHESTRATION_CREATED)
_COMPLETING = (
    EventType.TASK_COMPLETED,
    EventType.TASK_FAILED,
    EventType.SUB_ORCHESTRATION_COMPLETED,
    EventType.SUB_ORCHESTRATION_FAILED,
)
_HIDDEN_KEYS = frozenset(
    {
        "EventType",
        "EventId",
        "IsPlayed",
        "Timestamp",
        "TaskScheduledId",
        "TimerId",
        "OrchestrationInstance",
        "ParentInstance",
        "Version",
        "Tags",
        "ClientSpanId",
        "InstanceId",
    }
)
_CHILD_KEYS = frozenset({"InstanceId", "ClientSpanId"})


def parse_json_or_text(text: str | None) -> Any:
    """Return the parsed JSON, or `text` itself if it is not JSON."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def status_body(instance: Instance, *, show_input: bool = True) -> dict[str, Any]:
    """Return the status of an instance without its history."""
    return {
        "name": instance.name,
        "instanceId": instance.instance_id,
        "runtimeStatus": instance.status,
        "input": parse_json_or_text(instance.input) if show_input else None,
        "customStatus": parse_json_or_text(instance.custom_status),
        "output": parse_json_or_text(instance.output),
        "createdTime": to_seconds_text(from_micros(instance.created)),
        "lastUpdatedTime": to_seconds_text(from_micros(instance.updated)),
    }


def history_events(events: Sequence[Event], *, show_output: bool) -> list[dict[str, Any]]:
    """Return the `historyEvents` of a status response."""
    scheduled = {event["EventId"]: event for event in events if event["EventType"] in _SCHEDULING}
    completed = {event["TaskScheduledId"] for event in events if event["EventType"] in _COMPLETING}
    shown = []
    for event in events:
        kind = EventType(event["EventType"])
        if kind not in _NAMES or (kind in _SCHEDULING and event["EventId"] in completed):
            continue
        shown.append(_entry(kind, event, scheduled, show_output))
    return shown


def _entry(
    kind: EventType, event: Event, scheduled: dict[int, Event], show_output: bool
) -> dict[str, Any]:
    is_start = kind == EventType.EXECUTION_STARTED
    hidden = _HIDDEN_KEYS | {"Name"} if is_start else _HIDDEN_KEYS
    if kind == EventType.SUB_ORCHESTRATION_CREATED:
        hidden -= _CHILD_KEYS
    entry: dict[str, Any] = {"EventType": _NAMES[kind]}
    for key, value in event.items():
        if key == "Result":
            if show_output:
                entry[key] = parse_json_or_text(value)
        elif key not in hidden:
            entry[key] = value
    entry["Timestamp"] = event["Timestamp"]
    if kind in _COMPLETING and (cause := scheduled.get(event["TaskScheduledId"])):
        entry["ScheduledTime"] = cause["Timestamp"].removesuffix("Z") + "+00:00"
        entry["FunctionName"], entry["Input"] = cause["Name"], None
    elif is_start:
        entry["FunctionName"] = event["Name"]
    return entry
