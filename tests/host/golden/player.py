"""Replays a recorded trace through the engine and the management API of the local host.

The recorded results replace the orchestrators and activities of the app. Everything else comes from
the local host: the requests to orchestrators, the history and the responses of the management API.
A `TraceDifferenceError` reports any difference, except for values that differ between recordings:
timestamps, execution IDs and stack traces.
"""

import asyncio
import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.host.calls import FunctionTerminatedError, exit_text
from local.host.client_binding import WEBHOOKS
from local.host.clock import VirtualClock
from local.host.commands import Commands
from local.host.episode import Identity, Outcome, run_episode
from local.host.failure_texts import activity_failure
from local.host.functions import AppFunction, FunctionIndex
from local.host.history import EventType, compact_json, orchestrator_started
from local.host.http_messages import HostRequest, HostResponse
from local.host.management import Management
from local.host.records import Instance, Message, Work
from local.host.steps import StepPlanner
from local.host.store import Store
from local.host.timestamps import parse_utc, to_micros
from local.host.traffic import Traffic

from .condense import TRACES, create_request

FAR_FUTURE_MICROS = 10**17
# A recorded response might reflect an episode later or earlier, because two clocks were used.
RECORDING_LAG, MAX_CLOCK_DIFFERENCE = timedelta(seconds=0.5), timedelta(seconds=6)
_SHORTENED = re.compile(r"<(.) \* (\d+)>")  # abbreviates a repeated character
CLIENT_EVENTS = (
    EventType.EVENT_RAISED,
    EventType.EXECUTION_TERMINATED,
    EventType.EXECUTION_SUSPENDED,
    EventType.EXECUTION_RESUMED,
)
CHILD_RESULTS = (EventType.SUB_ORCHESTRATION_COMPLETED, EventType.SUB_ORCHESTRATION_FAILED)
ACTIVITY_RESULTS = (EventType.TASK_COMPLETED, EventType.TASK_FAILED)


TERMINATED = exit_text(-signal.SIGKILL)  # the error of a call whose worker process was killed


class TraceDifferenceError(AssertionError):
    """The local host behaves differently from the recorded engine."""


def read_traces(path: Path = TRACES) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(_SHORTENED.sub(lambda match: match[1] * int(match[2]), line))


class _IdleEngine:
    """An engine that ignores notifications, because the recording determines the next step."""

    def notify(self, *instance_ids: str) -> None:
        pass

    def discard_cached_history(self, instance_id: str) -> None:
        pass


class Player:
    """A replay of one trace.

    Attributes:
        local_ids: The local execution and instance IDs, by the IDs in the recording.
        recorded: The IDs of the instances whose executions were recorded.
        token: The continuation token of the next page.
        visible_statuses: The statuses of the main instance that a polling client can receive.
    """

    def __init__(self, trace: dict[str, Any]) -> None:
        self.trace = trace
        self.local_ids: dict[str, str] = {}
        self.recorded = {
            instance_id
            for instance_id, instance in trace["instances"].items()
            if instance["executions"]
        }
        self.token = ""
        self.visible_statuses: list[list[Any]] = []
        self.started_at = self._find_start()
        self.clock = VirtualClock(self.started_at - timedelta(days=1))
        self.store = Store(None, lambda: to_micros(self.clock.now()))
        self.functions = FunctionIndex(_list_functions(trace))
        self.planner = StepPlanner("", early_timers=True)
        commands = Commands(
            self.store,
            _IdleEngine(),  # type: ignore[arg-type]
            self.functions,
            self.clock,
            Traffic(),
            "",
        )
        self.management = Management(
            commands,
            self.store,
            "GoldenHub",
            "AzureWebJobsStorage",
            self._wait_for_end,
        )
        self.pending = sorted(self._read_episodes(), key=lambda episode: episode["at"])

    def _find_start(self) -> datetime:
        """Return the start time of the recording, derived from the first created instance."""
        for action in self.trace["actions"]:
            instance_id = (
                action["answer"].get("id") if isinstance(action.get("answer"), dict) else None
            )
            instance = self.trace["instances"].get(instance_id)
            if instance and instance["executions"] and "t" in action:
                started = next(
                    event
                    for event in instance["executions"][0]["history"]
                    if event["EventType"] == 0
                )
                return parse_utc(started["Timestamp"]) - timedelta(seconds=action["t"])
        return min(episode["at"] for episode in self._read_episodes())

    def _read_episodes(self) -> Iterator[dict[str, Any]]:
        for instance_id, instance in self.trace["instances"].items():
            for execution in instance["executions"]:
                for number, episode in enumerate(execution["episodes"]):
                    request = create_request(execution, episode)
                    is_last = number + 1 == len(execution["episodes"])
                    yield {
                        "instance_id": instance_id,
                        "execution": execution["execution"],
                        "request": request,
                        **episode,
                        "at": parse_utc(request["history"][episode["past"]]["Timestamp"]),
                        "rest": execution.get("rest") if is_last else None,
                    }

    # -- replay --------------------------------------------------------------

    def play(self) -> None:
        """Replay the trace. Raises `TraceDifferenceError` at the first difference."""
        try:
            asyncio.run(self._play())
        finally:
            self.store.close()

    async def _play(self) -> None:
        for action in self.trace["actions"]:
            if "seen while polling" in action:
                self._play_until(datetime.max.replace(tzinfo=UTC))
                self._compare_polled_statuses(action["seen while polling"])
            else:
                await self._perform_action(action)
        self._play_until(datetime.max.replace(tzinfo=UTC))
        if self.pending:
            raise TraceDifferenceError(
                f"The episode at {self.pending[0]['at']} received an event that was not sent here."
            )
        await self._compare_final_statuses()

    def _play_until(self, moment: datetime) -> None:
        while self._has_episode_until(moment):
            self._play_episode(self.pending.pop(0))

    def _has_episode_until(self, moment: datetime) -> bool:
        return (
            bool(self.pending)
            and self.pending[0]["at"] <= moment
            and self._is_possible(self.pending[0])
        )

    def _is_possible(self, episode: dict[str, Any]) -> bool:
        """Return False if the episode contains a client command that has not been sent yet.

        This can happen because the recording used two clocks.
        """
        instance_id = self._replace_ids(episode["instance_id"])
        commands = [
            event
            for event in episode["request"]["history"][episode["past"] :]
            if event["EventType"] in CLIENT_EVENTS
        ]
        pending_events = {
            _get_identity(message.event)
            for message in self.store.messages(instance_id, FAR_FUTURE_MICROS)
        }
        return self.store.instance(instance_id) is not None and all(
            _get_identity(event) in pending_events for event in commands
        )

    async def _wait_for_end(self, instance_id: str, seconds: float) -> None:
        deadline = self.clock.now() + timedelta(seconds=seconds)
        while self._has_episode_until(deadline):
            self._play_episode(self.pending.pop(0))
            instance = self.store.instance(instance_id)
            if instance is not None and not instance.is_live:
                return

    async def _perform_action(self, action: dict[str, Any]) -> None:
        timestamp = (
            self.started_at + timedelta(seconds=action["t"])
            if "t" in action
            else self.clock.now() + MAX_CLOCK_DIFFERENCE
        )
        is_query = action["method"] == "GET"
        self._play_until(timestamp - RECORDING_LAG if is_query else timestamp)
        self.clock.move_to(timestamp)
        if is_query:
            self._complete_unrecorded(action["answer"])
        response = await self._send(action)
        if is_query:
            while (
                difference := self._compare_response(action, response)
            ) and self._has_episode_until(timestamp + MAX_CLOCK_DIFFERENCE):
                self._play_episode(self.pending.pop(0))
                response = await self._send(action)
        else:
            difference = self._compare_response(action, response)
        if difference:
            raise TraceDifferenceError(difference)

    def _complete_unrecorded(self, recorded_status: Any) -> None:
        """Complete an instance for which only the final status was recorded."""
        if (
            not isinstance(recorded_status, dict)
            or recorded_status.get("runtimeStatus") != "Completed"
            or recorded_status["instanceId"] in self.recorded
        ):
            return
        instance = self.store.instance(recorded_status["instanceId"])
        if instance is not None and instance.is_live:
            messages = self.store.messages(instance.instance_id, FAR_FUTURE_MICROS)
            events = [
                orchestrator_started(self.clock.now()),
                *(message.event for message in messages),
            ]
            outcome = Outcome("Completed", compact_json(recorded_status["output"]))
            self.store.commit_step(
                self.planner.plan(
                    instance,
                    [message.id for message in messages],
                    [],
                    events,
                    outcome,
                    self.clock.now(),
                )
            )

    async def _send(self, action: dict[str, Any]) -> HostResponse:
        content_type = action.get("contentType", "application/json")
        headers = [("Content-Type", content_type)] if content_type else []
        if " (with the token)" in action["path"]:
            action = {**action, "path": action["path"].removesuffix(" (with the token)")}
            headers.append(("x-ms-continuation-token", self.token))
        body = (action.get("body") or "").encode()
        target = self._replace_ids(action["path"])
        request = HostRequest.from_target(
            action["method"], WEBHOOKS + target, headers, body, "http://HOST"
        )
        response = await self.management.handle(request, request.path.removeprefix(WEBHOOKS))
        self.token = response.header("x-ms-continuation-token") or ""
        recorded = action["answer"]
        if (
            isinstance(recorded, dict)
            and "statusQueryGetUri" in recorded
            and response.status == action["status"]
        ):
            self.local_ids[recorded["id"]] = response.json()["id"]
        return response

    def _replace_ids(self, text: str) -> str:
        """Replace the IDs in the recording with those of the local host."""
        for recorded_id, local_id in self.local_ids.items():
            text = text.replace(recorded_id, local_id)
        return text

    # -- one episode ----------------------------------------------------------

    def _play_episode(self, episode: dict[str, Any]) -> None:
        self.clock.move_to(episode["at"])
        instance_id = self._replace_ids(episode["instance_id"])
        instance = self.store.instance(instance_id)
        if instance is None:
            raise TraceDifferenceError(f"The instance {instance_id} does not exist.")
        self.local_ids.setdefault(episode["execution"], instance.execution_id)
        request = json.loads(self._replace_ids(json.dumps(episode["request"])))
        request["history"] = [
            event
            for event in request["history"]
            if event["EventType"] != EventType.ORCHESTRATOR_COMPLETED
        ]
        last_start = max(
            index
            for index, event in enumerate(request["history"])
            if event["EventType"] == EventType.ORCHESTRATOR_STARTED
        )
        new_events = request["history"][last_start:]
        messages = [self._get_message(instance, event) for event in new_events[1:]]
        past_texts = self.store.history(instance_id, instance.execution_id)
        past = [json.loads(text) for text in past_texts]
        events = [orchestrator_started(episode["at"]), *(message.event for message in messages)]

        def handle(context: str) -> str:
            compare("request", _normalize_request(json.loads(context)), _normalize_request(request))
            if "terminated" in episode:
                raise FunctionTerminatedError(TERMINATED)
            if "raised" in episode:
                raise _create_exception(self._replace_ids(episode["raised"]))
            return self._replace_ids(json.dumps(episode["returned"]))

        identity = Identity(
            instance_id,
            instance.execution_id,
            instance.name,
            instance.parent.instance_id if instance.parent else None,
        )
        outcome = run_episode(
            identity,
            [*past, *events],
            past_texts,
            _collect_differences(handle, differences := []),
            self.functions.exists,
        )
        if differences:
            raise differences[0]
        step = self.planner.plan(
            instance, [message.id for message in messages], past, events, outcome, episode["at"]
        )
        self.store.commit_step(step)
        if episode["rest"] is not None and step.continued is None:
            appended = step.appended[len(events) :]
            recorded = _create_rows(json.loads(self._replace_ids(json.dumps(episode["rest"]))))
            actual = _create_rows(appended)
            for recorded_row, actual_row in zip(recorded, actual, strict=False):
                if recorded_row["Result"] == "":  # the engine stores large results in a blob
                    recorded_row["Result"] = actual_row["Result"]
            compare("appended events", actual, recorded)
        if episode["instance_id"] == self.trace["main"]:
            self._record_visible_status(instance_id)

    def _get_message(self, instance: Instance, recorded: dict[str, Any]) -> Message:
        pending = [
            message
            for message in self.store.messages(instance.instance_id, FAR_FUTURE_MICROS)
            if message.execution_id in (None, instance.execution_id)
        ]
        for message in pending:
            if _get_identity(message.event) == _get_identity(recorded):
                return message
        if recorded["EventType"] in ACTIVITY_RESULTS:
            return self._finish_activity(instance, recorded)
        if recorded["EventType"] in CHILD_RESULTS and not self._is_child_recorded(
            instance, recorded["TaskScheduledId"]
        ):
            return Message(
                instance.instance_id, instance.execution_id, {**recorded, "IsPlayed": False}
            )
        raise TraceDifferenceError(
            f"The recorded engine received {_get_identity(recorded)}. "
            f"The pending messages are {[_get_identity(message.event) for message in pending]}."
        )

    def _is_child_recorded(self, parent: Instance, task_id: int) -> bool:
        for text in self.store.history(parent.instance_id, parent.execution_id):
            event = json.loads(text)
            if (
                event["EventType"] == EventType.SUB_ORCHESTRATION_CREATED
                and event["EventId"] == task_id
            ):
                return event["InstanceId"] in {
                    self._replace_ids(instance_id) for instance_id in self.recorded
                }
        return True

    def _finish_activity(self, instance: Instance, result: dict[str, Any]) -> Message:
        for work in self.store.unfinished_work():
            if (work.instance_id, work.execution_id, work.task_id) == (
                instance.instance_id,
                instance.execution_id,
                result["TaskScheduledId"],
            ):
                if result["EventType"] == EventType.TASK_FAILED:
                    _check_failure(work, result)
                self.store.finish_work([(work, {**result, "IsPlayed": False})])
                return self._get_message(instance, result)
        raise TraceDifferenceError(
            f"Activity {result['TaskScheduledId']} of {instance.instance_id} is not scheduled."
        )

    def _record_visible_status(self, instance_id: str) -> None:
        instance = self.store.instance(instance_id)
        assert instance is not None
        status = [
            instance.status,
            instance.custom_status and json.loads(instance.custom_status),
        ]
        if not self.visible_statuses or self.visible_statuses[-1] != status:
            self.visible_statuses.append(status)

    # -- comparison ------------------------------------------------------------

    def _compare_response(self, action: dict[str, Any], response: HostResponse) -> str | None:
        description = f"{action['method']} {action['path']}"
        recorded = json.loads(self._replace_ids(json.dumps(action)))
        if response.status != recorded["status"]:
            return f"{description}: {response.status} instead of {recorded['status']}"
        names = {"content-type", "location", "retry-after", "x-ms-continuation-token"}
        actual = {
            name.lower(): _normalize_text(value)
            for name, value in response.headers
            if name.lower() in names
        }
        expected = {name: _normalize_text(value) for name, value in recorded["headers"].items()}
        for headers in (actual, expected):
            if headers.get("x-ms-continuation-token"):
                headers["x-ms-continuation-token"] = "token"
        body = response.json() if response.body else None
        try:
            compare(f"{description}: headers", actual, expected)
            compare(f"{description}: body", normalize(body), normalize(recorded["answer"]))
        except TraceDifferenceError as difference:
            return str(difference)
        return None

    def _compare_polled_statuses(self, recorded: list[list[Any]]) -> None:
        statuses = iter([["Pending", None], *self.visible_statuses])
        for recorded_status in recorded:
            if not any(recorded_status == status for status in statuses):
                raise TraceDifferenceError(
                    f"A client cannot receive {recorded_status} here, but only "
                    f"{self.visible_statuses}."
                )

    async def _compare_final_statuses(self) -> None:
        for instance_id, instance in self.trace["instances"].items():
            query = "showInput=true&showHistory=true&showHistoryOutput=true"
            request = HostRequest.from_target(
                "GET",
                f"/instances/{self._replace_ids(instance_id)}?{query}",
                [],
                b"",
                "http://HOST",
            )
            response = await self.management.handle(request, request.path)
            recorded = json.loads(self._replace_ids(json.dumps(instance["status"])))
            body = response.json() if response.body else None
            if self.trace["status_with_history"] and instance_id == self.trace["main"]:
                # The extension does not return the history of such an instance.
                body.pop("historyEvents")
            if recorded and "historyEvents" not in recorded and body:
                body.pop("historyEvents", None)
            compare(f"final status of {instance_id}", normalize(body), normalize(recorded))


def _create_exception(text: str) -> Exception:
    """Recreate a recorded exception.

    Exceptions from the SDK contain the orchestration state after a marker.
    """
    kind, _, message = text.partition(": ")
    return (
        Exception(text)
        if "$OutOfProcData$" in text or not kind.isidentifier()
        else type(kind, (Exception,), {})(message)
    )


def compare(description: str, actual: Any, expected: Any) -> None:
    if actual != expected:
        raise TraceDifferenceError(f"{description}: {_describe_first_difference(actual, expected)}")


def _describe_first_difference(actual: Any, expected: Any, path: str = "") -> str:
    if isinstance(actual, dict) and isinstance(expected, dict):
        for key in sorted({*actual, *expected}):
            if actual.get(key, "(missing)") != expected.get(key, "(missing)"):
                return _describe_first_difference(
                    actual.get(key, "(missing)"), expected.get(key, "(missing)"), f"{path}.{key}"
                )
    if isinstance(actual, list) and isinstance(expected, list):
        for index, (actual_item, expected_item) in enumerate(zip(actual, expected, strict=False)):
            if actual_item != expected_item:
                return _describe_first_difference(actual_item, expected_item, f"{path}[{index}]")
        additional, missing = actual[len(expected) :], expected[len(actual) :]
        description = f"{path} has {len(actual)} items instead of {len(expected)}"
        return f"{description}: {additional} {missing}"[:600]
    return f"{path} is {str(actual)[:400]!r} instead of {str(expected)[:400]!r}"


def _collect_differences(handle: Any, differences: list[TraceDifferenceError]) -> Any:
    """Wrap a handler so that differences are not treated as orchestrator errors."""

    def collecting_handler(context: str) -> Any:
        try:
            return handle(context)
        except TraceDifferenceError as difference:
            differences.append(difference)
            raise

    return collecting_handler


def _list_functions(trace: dict[str, Any]) -> Iterator[AppFunction]:
    """Return the functions that the recorded engine executed."""
    orchestrators, activities = set(), set()
    for instance in trace["instances"].values():
        for execution in instance["executions"]:
            for event in [*execution["history"], *(execution.get("rest") or [])]:
                match event["EventType"]:
                    case 0 | 7 | "SubOrchestrationInstanceCreated":
                        orchestrators.add(event["Name"])
                    case 4 | "TaskScheduled":
                        activities.add(event["Name"])
    for names, trigger in (
        (orchestrators, "orchestrationTrigger"),
        (activities, "activityTrigger"),
    ):
        for name in sorted({name.lower() for name in names}):
            yield AppFunction(
                name, trigger, print, "context", (), wants_context=False, returns_http=False
            )


def _get_identity(event: dict[str, Any]) -> tuple[Any, ...]:
    keys = (
        ("TaskScheduledId", "TimerId", "Name", "Input", "Reason")
        if event["EventType"] != 0
        else ("Name", "Input")
    )
    if event["EventType"] in (EventType.SUB_ORCHESTRATION_FAILED, EventType.TASK_FAILED):
        keys = ("TaskScheduledId",)
    return (event["EventType"], *(event.get(key) for key in keys))


def _check_failure(work: Work, failed: dict[str, Any]) -> None:
    """Verify that the local failure message for an activity matches the recorded one."""
    details = json.loads(failed["Details"])
    text = str(details["Message"]).strip()
    kind, _, message = text.partition(": ")
    error = (
        FunctionTerminatedError(TERMINATED)
        if text == TERMINATED
        else type(kind, (Exception,), {})(message)
    )
    reason, local_details = activity_failure(work.name, error)
    compare("Reason", reason.rstrip(": "), failed["Reason"].rstrip(": "))
    compare("Details", _get_keys(json.loads(local_details)), _get_keys(details))


def _get_keys(details: dict[str, Any] | None) -> Any:
    return {
        key: _get_keys(value) if isinstance(value, dict) else None
        for key, value in (details or {}).items()
    }


def _normalize_request(request: dict[str, Any]) -> dict[str, Any]:
    """Remove OrchestratorCompleted events, because their position varies."""
    return {
        **request,
        "history": [
            _normalize_event(event)
            for event in request["history"]
            if event["EventType"] != EventType.ORCHESTRATOR_COMPLETED
        ],
    }


def _normalize_event(event: dict[str, Any]) -> dict[str, Any]:
    """Remove the values that differ between recordings.

    The times that the host determines remain: the clock and the due times of timers.
    """
    normalized = dict(event)
    if event["EventType"] != EventType.ORCHESTRATOR_STARTED:
        normalized.pop("Timestamp")
    else:
        normalized["Timestamp"] = parse_utc(normalized["Timestamp"])
    if "FireAt" in normalized:
        normalized["FireAt"] = parse_utc(normalized["FireAt"])
    if "ClientSpanId" in normalized:
        normalized["ClientSpanId"] = None
    return {
        key: normalize(value) if key in ("Details", "Reason", "ParentInstance") else value
        for key, value in normalized.items()
    }


EVENT_NUMBERS = {
    "ExecutionCompleted": 1,
    "TaskScheduled": 4,
    "SubOrchestrationInstanceCreated": 7,
    "TimerCreated": 10,
    "OrchestratorCompleted": 13,
}


def _create_rows(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for event in events:
        event_type = (
            EVENT_NUMBERS.get(event["EventType"], event["EventType"])
            if isinstance(event["EventType"], str)
            else event["EventType"]
        )
        row = {key: event.get(key) for key in ("EventId", "Name", "OrchestrationStatus")}
        result = event.get("Result")
        rows.append(
            {
                "EventType": event_type,
                **row,
                "Result": _normalize_text(result) if isinstance(result, str) else result,
            }
        )
    return rows


def normalize(value: Any) -> Any:
    """Remove timestamps, stack traces, keys and the list of known functions from a JSON value."""
    if isinstance(value, dict):
        if value.get("ExceptionType") == "Newtonsoft.Json.JsonReaderException":
            value = {**value, "ExceptionMessage": "message of the parser"}
        return {key: _normalize_field(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [normalize(item) for item in value]
    return _normalize_text(value) if isinstance(value, str) else value


_VARIABLE_KEYS = frozenset(
    {
        "Timestamp",
        "ScheduledTime",
        "createdTime",
        "lastUpdatedTime",
        "FireAt",
        "StackTrace",
        "ClientSpanId",
    }
)


def _normalize_field(key: str, value: Any) -> Any:
    if key == "ClientSpanId":
        return None
    if key in _VARIABLE_KEYS and isinstance(value, str):
        return "timestamp"
    return normalize(value)


_VARIABLE_PARTS = (
    (re.compile(r"code=[^&\"']*"), "code=KEY"),
    (re.compile(r"(known orchestrator functions: ).*", re.DOTALL), r"\1..."),
    (re.compile(r"(NonDeterministicOrchestrationException: .*?running\?).*", re.DOTALL), r"\1..."),
    (re.compile(r"(StackTrace: ).*", re.DOTALL), r"\1..."),
    (re.compile(r'(\\*"StackTrace\\*":).*', re.DOTALL), r"\1..."),
    (re.compile(r"(Stack: ).*", re.DOTALL), r"\1..."),
)


def _normalize_text(text: str) -> str:
    for pattern, replacement in _VARIABLE_PARTS:
        text = pattern.sub(replacement, text)
    return text
