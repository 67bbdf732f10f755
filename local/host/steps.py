"""Turns the outcome of an episode into what is written: history, activities, timers, children, a message to the parent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from . import failure_texts, history
from .decisions import CreateTimer, Decision, ScheduleActivity, StartChild
from .episode import Outcome
from .history import Event, EventType
from .new_instances import child_instance, next_generation
from .records import Instance, Message, Step, Work
from .timestamps import parse_utc, to_micros

MAX_SHOWN_EVENTS = 5


@dataclass(frozen=True)
class StepPlanner:
    default_version: str
    early_timers: bool

    def plan(
        self,
        instance: Instance,
        consumed: list[int],
        past: Sequence[Event],
        fresh: list[Event],
        outcome: Outcome,
        now: datetime,
    ) -> Step:
        """`consumed`: the rows of the inbox that the episode has read; `fresh`: the events made of them."""
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
            return self._continued(step, [*past, *fresh], outcome, now)
        step.appended.extend(history.mark_played(event) for event in fresh)
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
        if self.early_timers:  # the queue that carries timers in Azure counts whole seconds
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
        details = (
            failure_texts.child_failure_details(outcome.error)
            if outcome.error is not None
            else None
        )
        event = history.sub_orchestration_failed(now, parent.task_id, outcome.output, details)
    return [Message(parent.instance_id, parent.execution_id, event)]


def describe(
    step: Step, past: Sequence[Event], fresh: Sequence[Event], outcome: Outcome, seconds: float
) -> str:
    """One line for the log: the orchestrator and its instance, what it heard, what it wants or how it ended, what that took."""
    names = {
        event["EventId"]: event["Name"]
        for event in past
        if "Name" in event and event["EventId"] >= 0
    }
    heard = [_describe_event(event, names) for event in fresh[1:]]
    counted = [
        f"{heard.count(text)} x {text}" if heard.count(text) > 1 else text
        for text in dict.fromkeys(heard)
    ]
    wants = [_describe_decision(decision, step) for decision in outcome.decisions]
    wanted = [
        f"{wants.count(text)} x {text}" if wants.count(text) > 1 else text
        for text in dict.fromkeys(wants)
    ]
    for texts in (counted, wanted):
        if len(texts) > MAX_SHOWN_EVENTS:
            texts[MAX_SHOWN_EVENTS:] = [f"{len(texts) - MAX_SHOWN_EVENTS} more"]
    ended = outcome.status or ("Suspended" if outcome.suspended else "")
    following = ", ".join([*wanted, ended] if ended else wanted) or "waits"
    text = f": {str(outcome.output)[:300]}" if outcome.status == "Failed" else ""
    return (
        f"{step.instance.name} {step.instance.instance_id}: {', '.join(counted)} -> {following}{text} "
        f"({seconds * 1000:.0f} ms)"
    )


def _describe_event(event: Event, names: dict[int, str]) -> str:
    kind = EventType(event["EventType"])
    if (task_id := event.get("TaskScheduledId")) is not None:
        failed = kind in (EventType.TASK_FAILED, EventType.SUB_ORCHESTRATION_FAILED)
        return f"{names.get(task_id, '?')} {'failed' if failed else 'done'}"
    if kind == EventType.EVENT_RAISED:
        return f"event {event['Name']}"
    return _EVENT_DESCRIPTIONS.get(kind, kind.name.lower())


def _describe_decision(decision: Decision, step: Step) -> str:
    match decision:
        case ScheduleActivity():
            return f"activity {decision.name}"
        case StartChild():
            return f"child {decision.name}"
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
            return f"wait {max(0.0, (decision.fire_at - now).total_seconds()):g} s"


_EVENT_DESCRIPTIONS = {
    EventType.EXECUTION_STARTED: "starts",
    EventType.TIMER_FIRED: "wait over",
    EventType.EXECUTION_TERMINATED: "terminate",
    EventType.EXECUTION_SUSPENDED: "suspend",
    EventType.EXECUTION_RESUMED: "resume",
    EventType.GENERIC_EVENT: "rewind",
}
