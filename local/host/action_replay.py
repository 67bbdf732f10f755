"""Replays the actions that an orchestrator returns, as the .NET extension does in an episode.

The replay reads the history event by event and invokes the actions as their predecessors complete.
It determines the task IDs, the new decisions, and the completion of the orchestrator; the JSON that
the SDK returns does not contain them. Comments cite the rules R1 to R13 of the protocol notes
(durable-protocol, section 3).
"""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from .decisions import CreateTimer, Decision, ScheduleActivity, StartChild
from .history import Event, EventType
from .timestamps import parse_utc

MAX_RETRY_DELAY = timedelta(days=6)
CHANGED_CODE_HINT = (
    "Was a change made to the orchestrator code after this instance had already started running?"
)

FunctionKind: TypeAlias = Literal["activity", "orchestrator"]


@dataclass(frozen=True)
class OrchestratorCompletion:
    """The completion of an orchestrator function: its output, or its error.

    `failure_details` is the Details of the event in the parent if they do not follow from `error`.
    """

    output: object = None
    error: str | None = None
    failure_details: str | None = None


class NonDeterminismError(Exception):
    """The code does not make the decisions that the history contains."""


class UnsupportedActionError(Exception):
    """The engine cannot perform an action, for example because the activity does not exist."""


class ReplayTask:
    """A task in the replay: the equivalent of a .NET `Task`, but without a value."""

    def __init__(self, done: bool = False) -> None:
        self.done, self.succeeded = done, True
        self._callbacks: list[Callable[[], None]] = []

    def on_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the task is done, or immediately if it is already done."""
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    def complete(self, succeeded: bool = True) -> None:
        """Complete the task and run its callbacks; do nothing if it is already complete."""
        if self.done:
            return
        self.done, self.succeeded = True, succeeded
        for callback in self._callbacks:
            callback()


class ActionReplay:
    """One replay of an orchestrator's actions.

    Process the complete history, then read `new_decisions`, `result`, `open_tasks` and the flags.
    """

    def __init__(
        self,
        *,
        instance_id: str,
        execution_id: str,
        parent_id: str | None,
        actions: Iterable[Event],
        completion: OrchestratorCompletion | None,
        exists: Callable[[FunctionKind, str], bool],
    ) -> None:
        self._instance_id, self._execution_id, self._parent_id, self._exists = (
            instance_id,
            execution_id,
            parent_id,
            exists,
        )
        self._pending_actions, self._completion = deque(actions), completion
        self._awaited: ReplayTask | None = None
        self._next_id = 0
        self._now: datetime | None = None
        self._unconfirmed: dict[int, Decision] = {}
        self._suspended_decisions: dict[int, Decision] = {}
        self._events_while_suspended: list[Event] = []
        self._waiters: dict[str, list[ReplayTask]] = defaultdict(list)
        self._buffered: dict[str, int] = defaultdict(int)
        self.open_tasks: dict[int, ReplayTask] = {}
        self.result: OrchestratorCompletion | None = None
        self.continues_as_new, self.next_input = False, None
        self.carried_events: list[Event] = []
        self.suspended, self.suspend_reason = False, None
        self.terminated, self.terminate_reason = False, None

    @property
    def new_decisions(self) -> list[Decision]:
        """The decisions that the history does not contain, ordered by task ID."""
        return [self._unconfirmed[task_id] for task_id in sorted(self._unconfirmed)]

    @property
    def next_id(self) -> int:
        """The ID of the next task."""
        return self._next_id

    # -- processing the history -----------------------------------------------

    def process(self, event: Event) -> None:
        """Process the next event of the history.

        Raises:
            NonDeterminismError: The event contradicts the actions.
            UnsupportedActionError: The event leads to an action that the engine cannot perform.
        """
        kind = event["EventType"]
        if kind == EventType.ORCHESTRATOR_STARTED:
            self._now = parse_utc(event["Timestamp"])
        elif self.suspended and kind not in (
            EventType.EXECUTION_RESUMED,
            EventType.EXECUTION_TERMINATED,
        ):
            if kind != EventType.EXECUTION_SUSPENDED:
                self._events_while_suspended.append(event)
        elif kind in (
            EventType.TASK_SCHEDULED,
            EventType.TIMER_CREATED,
            EventType.SUB_ORCHESTRATION_CREATED,
        ):
            self._check_decision(event)
        else:
            self._process_message(EventType(kind), event)

    def _process_message(self, kind: EventType, event: Event) -> None:
        match kind:
            case EventType.EXECUTION_STARTED:
                self._advance()
            case EventType.TASK_COMPLETED | EventType.SUB_ORCHESTRATION_COMPLETED:
                self._complete_task(event["TaskScheduledId"], succeeded=True)
            case EventType.TASK_FAILED | EventType.SUB_ORCHESTRATION_FAILED:
                self._complete_task(event["TaskScheduledId"], succeeded=False)
            case EventType.TIMER_FIRED:
                self._complete_task(event["TimerId"], succeeded=True)
            case EventType.EVENT_RAISED if self.continues_as_new:
                self.carried_events.append(event)
            case EventType.EVENT_RAISED:
                self._deliver(event["Name"].lower())
            case EventType.EXECUTION_TERMINATED:
                self.terminated, self.terminate_reason = True, event.get("Input")
            case EventType.EXECUTION_SUSPENDED:
                self.suspended, self.suspend_reason = True, event.get("Reason")
                self._suspended_decisions, self._unconfirmed = self._unconfirmed, {}
            case EventType.EXECUTION_RESUMED:
                self._resume()
            case _:
                # No task waits for OrchestratorCompleted, GenericEvent, or the ExecutionCompleted
                # of a rewound instance.
                pass

    def _resume(self) -> None:
        self.suspended, self.suspend_reason = False, None
        self._unconfirmed.update(self._suspended_decisions)
        events, self._events_while_suspended = self._events_while_suspended, []
        self._suspended_decisions = {}
        for event in events:
            self.process(event)

    def _complete_task(self, task_id: int, *, succeeded: bool) -> None:
        if task := self.open_tasks.pop(task_id, None):  # not for a cancelled timer
            task.complete(succeeded)

    def _deliver(self, name: str) -> None:
        if self._waiters[name]:
            self._waiters[name].pop().complete()  # the newest waiter receives the event (R5)
        else:
            self._buffered[name] += 1

    def _check_decision(self, event: Event) -> None:
        task_id, name = event["EventId"], event.get("Name")
        noun, expected_type, identification = _DESCRIPTIONS[EventType(event["EventType"])]
        decision = self._unconfirmed.get(task_id)
        before = f"A previous execution of this orchestration scheduled {noun} task with"
        named = f" named '{name}'" if name is not None else ""
        if decision is None:
            raise NonDeterminismError(
                f"{before} {identification.format(**event)} the current replay execution "
                f"hasn't (yet?) scheduled this task. {CHANGED_CODE_HINT}"
            )
        if not isinstance(decision, expected_type):
            raise NonDeterminismError(
                f"{before} sequence number {task_id}{named}, but the current orchestration replay "
                f"instead produced a {decision.dotnet_type} action with this sequence number. "
                f"{CHANGED_CODE_HINT}"
            )
        if not isinstance(decision, CreateTimer) and decision.name.lower() != str(name).lower():
            raise NonDeterminismError(
                f"{before} sequence number {task_id}{named}, but the current orchestration replay "
                f"instead scheduled {noun} task named '{decision.name}' with this sequence "
                f"number.  {CHANGED_CODE_HINT}"
            )
        del self._unconfirmed[task_id]

    # -- invoking the actions -------------------------------------------------

    def _advance(self) -> None:
        """Invoke the actions in order; each starts when the previous one is done."""
        while self._awaited is None or self._awaited.done:
            self._awaited = None
            if not self._pending_actions:
                self.result = self.result or self._completion
                return
            self._awaited = self._invoke(self._pending_actions.popleft())
        self._awaited.on_done(self._advance)

    def _invoke(self, action: Event) -> ReplayTask:
        match action["actionType"]:
            case 0:
                return self._schedule_activity(action)
            case 1:
                return self._invoke_with_retries(
                    action["retryOptions"], lambda: self._schedule_activity(action)
                )
            case 2:
                return self._start_child(action)
            case 3:
                return self._invoke_with_retries(
                    action["retryOptions"], lambda: self._start_child(action)
                )
            case 4:
                self.continues_as_new, self.next_input = True, action.get("input")
                return ReplayTask(done=True)
            case 5:
                return self._create_timer(
                    parse_utc(action["fireAt"]), cancelled=bool(action.get("isCanceled"))
                )
            case 6:
                return self._wait_for_event(action["externalEventName"].lower())
            case 11 | 12 as compound:
                return self._invoke_compound(action["compoundActions"], need_all=compound == 12)
            case other:
                feature = _UNSUPPORTED.get(other, f"actions of type {other}")
                raise UnsupportedActionError(f"The local host does not support {feature}.")

    def _add_decision(self, decision: Decision) -> ReplayTask:
        task = ReplayTask()
        self._unconfirmed[decision.id] = decision
        self.open_tasks[decision.id] = task
        self._next_id += 1
        return task

    def _schedule_activity(self, action: Event) -> ReplayTask:
        name = action["functionName"]
        self._require_function("activity", name)
        return self._add_decision(ScheduleActivity(self._next_id, name, action.get("input")))

    def _start_child(self, action: Event) -> ReplayTask:
        name, requested_id = action["functionName"], action.get("instanceId")
        self._require_function("orchestrator", name)
        if requested_id and requested_id in (self._instance_id, self._parent_id):
            raise UnsupportedActionError(
                "The instance ID of a sub-orchestration must be different than the instance ID "
                "of a parent orchestration."
            )
        return self._add_decision(
            StartChild(
                self._next_id,
                name,
                requested_id or f"{self._execution_id}:{self._next_id}",
                json.dumps(action.get("input")),
                action.get("version"),
            )
        )

    def _create_timer(self, fire_at: datetime, cancelled: bool = False) -> ReplayTask:
        task = self._add_decision(CreateTimer(self._next_id, fire_at))
        if cancelled:  # uses an ID and a timer message, but does not block completion (R4)
            self.open_tasks.popitem()
            task.complete()
        return task

    def _invoke_with_retries(
        self, options: dict[str, int], call: Callable[[], ReplayTask]
    ) -> ReplayTask:
        outcome = ReplayTask()
        first_delay = timedelta(milliseconds=options["firstRetryIntervalInMilliseconds"])
        failures = 0

        def attempt() -> None:
            task = call()
            task.on_done(lambda: on_attempt_done(task))

        def on_attempt_done(task: ReplayTask) -> None:
            nonlocal failures
            if task.succeeded:
                outcome.complete()
                return
            failures += 1
            assert self._now is not None
            if failures < options["maxNumberOfAttempts"]:
                self._create_timer(self._now + min(first_delay, MAX_RETRY_DELAY)).on_done(attempt)
            else:  # like the engine, create a timer after the last failure; the SDK expects it (R3)
                self._create_timer(self._now).on_done(lambda: outcome.complete(succeeded=False))

        attempt()
        return outcome

    def _wait_for_event(self, name: str) -> ReplayTask:
        task = ReplayTask()
        if self._buffered[name]:
            self._buffered[name] -= 1
            task.complete()
        else:
            self._waiters[name].append(task)
        return task

    def _invoke_compound(self, actions: list[Event], *, need_all: bool) -> ReplayTask:
        children = [self._invoke(action) for action in actions]  # assigns IDs in order
        outcome = ReplayTask(done=need_all and not children)
        remaining = len(children) if need_all else 1

        def on_child_done() -> None:
            nonlocal remaining
            remaining -= 1
            if remaining == 0:
                outcome.complete()

        for child in children:
            child.on_done(on_child_done)
        return outcome

    def _require_function(self, kind: FunctionKind, name: str) -> None:
        if not self._exists(kind, name):
            raise UnsupportedActionError(
                f"{missing_function_text(kind, name)} (On Azure, the instance would remain in the "
                f"Running state without an error.)"
            )


def missing_function_text(kind: FunctionKind, name: str) -> str:
    """Return the extension's error message for a function that does not exist."""
    article = "an activity" if kind == "activity" else "an orchestrator"
    return f"The function '{name}' doesn't exist, is disabled, or is not {article} function."


_DESCRIPTIONS: dict[EventType, tuple[str, type[Any], str]] = {
    EventType.TASK_SCHEDULED: (
        "an activity",
        ScheduleActivity,
        "sequence ID {EventId} and name '{Name}' (version '{Version}'), but",
    ),
    EventType.TIMER_CREATED: ("a timer", CreateTimer, "sequence number {EventId} but"),
    EventType.SUB_ORCHESTRATION_CREATED: (
        "a sub-orchestration",
        StartChild,
        "sequence ID {EventId} and name '{Name}' (version '{Version}', instance ID "
        "'{InstanceId}'), but",
    ),
}
_UNSUPPORTED = {
    7: "entities (call_entity)",
    8: "call_http; call an activity that sends the request instead",
    9: "entities (signal_entity)",
}
