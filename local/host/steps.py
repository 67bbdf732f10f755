"""Conversion of an episode's outcome to database changes and to a log line.

The changes are history events, activities, timers, sub-orchestrations and a message to the parent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from . import history
from .decisions import CreateTimer, Decision, ScheduleActivity, StartChild
from .episode import Outcome
from .history import Event, EventType
from .new_instances import child_instance, next_generation
from .records import Instance, Message, Step, Work
from .timestamps import parse_utc, to_micros

MAX_SHOWN_EVENTS = 5


@dataclass(frozen=True)
class StepPlanner:
    """Builds the `Step` that the store commits after an episode."""

    default_version: str
    early_timers: bool

    def plan(
        self,
        instance: Instance,
        consumed: list[int],
        past_events: Sequence[Event],
        new_events: list[Event],
        outcome: Outcome,
        now: datetime,
    ) -> Step:
        """Build the step.

        Args:
            instance: The instance before the episode.
            consumed: IDs of the inbox rows that the episode processed.
            past_events: Events of earlier episodes.
            new_events: Events built from the inbox rows.
            outcome: Outcome of the episode.
            now: Timestamp of the new events.
        """
        step = Step(
            instance,
            consumed,
            status=outcome.status or ("Suspended" if outcome.suspended else "Running"),
            output=outcome.suspend_reason
            if outcome.suspended and outcome.status is None
            else outcome.output,
            custom_status=outcome.custom_status,
        )
        if outcome.status == "ContinuedAsNew":
            return self._continued(step, [*past_events, *new_events], outcome, now)
        step.appended.extend(
            history.mark_played(event) if outcome.new_events_played else event
            for event in new_events
        )
        for decision in outcome.decisions:
            match decision:
                case ScheduleActivity():
                    step.appended.append(history.task_scheduled(now, decision.id, decision.name))
                    step.work.append(
                        Work(
                            instance.instance_id,
                            instance.execution_id,
                            decision.id,
                            decision.name,
                            decision.input,
                        )
                    )
                case CreateTimer():
                    step.appended.append(history.timer_created(now, decision.id, decision.fire_at))
                    step.messages.append(self._timer_message(instance, decision, now))
                case StartChild():
                    self._start_child(step, decision, now)
        if outcome.status is not None:
            step.appended.append(
                history.execution_completed(now, outcome.next_id, outcome.status, outcome.output)
            )
            step.messages.extend(_message_to_parent(instance, outcome, now))
        step.appended.append(history.orchestrator_completed(now))
        return step

    def _continued(self, step: Step, events: list[Event], outcome: Outcome, now: datetime) -> Step:
        started = next(
            event for event in events if event["EventType"] == EventType.EXECUTION_STARTED
        )
        new = next_generation(step.instance, started["ParentInstance"], outcome.next_input, now)
        carried = [
            Message(new.instance_id, None, history.mark_carried_over(event))
            for event in outcome.carried_events
        ]
        return replace(step, continued=new, messages=carried)

    def _start_child(self, step: Step, call: StartChild, now: datetime) -> None:
        child = child_instance(step.instance, call, self.default_version, now)
        step.appended.append(
            history.sub_orchestration_created(
                now, call.id, call.name, child.version, call.instance_id
            )
        )
        step.children.append(child)

    def _timer_message(self, instance: Instance, timer: CreateTimer, now: datetime) -> Message:
        delay = max(timedelta(0), timer.fire_at - now)
        if self.early_timers:
            # Azure delivers timers through a queue whose delays are whole seconds.
            delay = timedelta(seconds=delay // timedelta(seconds=1))
        due = to_micros(now + delay) if delay else 0
        event = history.timer_fired(now, timer.id, timer.fire_at)
        return Message(instance.instance_id, instance.execution_id, event, due)


def _message_to_parent(instance: Instance, outcome: Outcome, now: datetime) -> list[Message]:
    if (parent := instance.parent) is None:
        return []
    if outcome.status == "Completed":
        event = history.sub_orchestration_completed(now, parent.task_id, outcome.output)
    else:
        event = history.sub_orchestration_failed(
            now, parent.task_id, outcome.output, outcome.failure_details
        )
    return [Message(parent.instance_id, parent.execution_id, event)]


def describe(
    step: Step,
    past_events: Sequence[Event],
    new_events: Sequence[Event],
    outcome: Outcome,
    seconds: float,
) -> str:
    """Return the log line of an episode.

    It contains the orchestrator, the instance ID, the new events, the decisions, the final status
    and the duration.
    """
    names = {
        event["EventId"]: event["Name"]
        for event in past_events
        if "Name" in event and event["EventId"] >= 0
    }
    events = _count_equal([_describe_event(event, names) for event in new_events[1:]])
    decisions = _count_equal([_describe_decision(decision, step) for decision in outcome.decisions])
    status = outcome.status or ("Suspended" if outcome.suspended else "")
    results = ", ".join([*decisions, status] if status else decisions) or "waiting"
    error = f": {str(outcome.output)[:300]}" if outcome.status == "Failed" else ""
    return (
        f"{step.instance.name} {step.instance.instance_id}: "
        f"{', '.join(events)} -> {results}{error} ({seconds * 1000:.0f} ms)"
    )


def _count_equal(texts: list[str]) -> list[str]:
    """Combine identical entries into `n x text` and truncate the list to `MAX_SHOWN_EVENTS`."""
    counted = [
        f"{texts.count(text)} x {text}" if texts.count(text) > 1 else text
        for text in dict.fromkeys(texts)
    ]
    if len(counted) > MAX_SHOWN_EVENTS:
        counted[MAX_SHOWN_EVENTS:] = [f"{len(counted) - MAX_SHOWN_EVENTS} more"]
    return counted


def _describe_event(event: Event, names: dict[int, str]) -> str:
    kind = EventType(event["EventType"])
    if (task_id := event.get("TaskScheduledId")) is not None:
        failed = kind in (EventType.TASK_FAILED, EventType.SUB_ORCHESTRATION_FAILED)
        return f"{names.get(task_id, '?')} {'failed' if failed else 'completed'}"
    if kind == EventType.EVENT_RAISED:
        return f"event {event['Name']}"
    return _EVENT_DESCRIPTIONS.get(kind, kind.name.lower())


def _describe_decision(decision: Decision, step: Step) -> str:
    match decision:
        case ScheduleActivity():
            return f"activity {decision.name}"
        case StartChild():
            return f"sub-orchestration {decision.name}"
        case CreateTimer():
            started = next(
                (
                    event
                    for event in step.appended
                    if event["EventType"] == EventType.ORCHESTRATOR_STARTED
                ),
                None,
            )
            now = parse_utc(started["Timestamp"]) if started else decision.fire_at
            return f"timer {max(0.0, (decision.fire_at - now).total_seconds()):g} s"


_EVENT_DESCRIPTIONS = {
    EventType.EXECUTION_STARTED: "started",
    EventType.TIMER_FIRED: "timer fired",
    EventType.EXECUTION_TERMINATED: "terminated",
    EventType.EXECUTION_SUSPENDED: "suspended",
    EventType.EXECUTION_RESUMED: "resumed",
    EventType.GENERIC_EVENT: "rewound",
}
