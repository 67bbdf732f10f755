"""Plays a recorded trace through the host's own store, planner, client commands and management API.

The orchestrators' recorded answers stand in for the app; the results of activities are the recorded ones. Everything else
is this host's: what it sends to an orchestrator, what it writes, what its API answers. Whatever differs is a `Difference`,
except what differs from one recording to the next (golden README, section 3): moments, execution ids, stack traces.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.host.client_binding import WEBHOOKS
from local.host.clock import VirtualClock
from local.host.commands import Commands
from local.host.episode import Identity, Outcome, run_episode
from local.host.functions import AppFunction, FunctionIndex
from local.host.history import EventType, compact_json, orchestrator_started
from local.host.http_messages import HostRequest, HostResponse
from local.host.management import Management
from local.host.records import Instance, Message, Work
from local.host.steps import StepPlanner
from local.host.store import Store
from local.host.timestamps import parse_utc, to_micros
from local.host.traffic import Traffic

from .condense import TRACES, request_of

FAR = 10**17
LAG, PATIENCE = (
    timedelta(seconds=0.5),
    timedelta(seconds=6),
)  # an answer shows an episode so late, or so early: two clocks
_SHORTENED = re.compile(r"<(.) \* (\d+)>")  # how the recordings write a long run of one character
CLIENT_EVENTS = (
    EventType.EVENT_RAISED,
    EventType.EXECUTION_TERMINATED,
    EventType.EXECUTION_SUSPENDED,
    EventType.EXECUTION_RESUMED,
)
CHILD_RESULTS = (EventType.SUB_ORCHESTRATION_COMPLETED, EventType.SUB_ORCHESTRATION_FAILED)
RESULTS = (EventType.TASK_COMPLETED, EventType.TASK_FAILED)


class Difference(AssertionError):
    """The host does something else than the recorded engine."""


def traces(path: Path = TRACES) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(_SHORTENED.sub(lambda found: found[1] * int(found[2]), line))


class _NoEngine:
    """Commands tell the engine what has come; here the recording says what happens next."""

    def notify(self, *instance_ids: str) -> None:
        pass

    def forget(self, instance_id: str) -> None:
        pass


class Player:
    def __init__(self, trace: dict[str, Any]) -> None:
        self.trace = trace
        self.ours: dict[
            str, str
        ] = {}  # execution and instance ids of the recording -> those made here
        self.recorded = {
            iid for iid, instance in trace["instances"].items() if instance["executions"]
        }
        self.token = ""  # of the page that comes next
        self.shown: list[list[Any]] = []  # what somebody who polls the main instance can see
        self.began = self._beginning()
        self.clock = VirtualClock(self.began - timedelta(days=1))
        self.store = Store(None, lambda: to_micros(self.clock.now()))
        self.functions = FunctionIndex(_functions(trace))
        self.planner = StepPlanner("", early_timers=True)
        self.management = Management(
            Commands(self.store, _NoEngine(), self.functions, self.clock, Traffic(), ""),  # type: ignore[arg-type]
            self.store,
            "GoldenHub",
            "AzureWebJobsStorage",
            self._wait_for_end,
        )
        self.pending = sorted(self._episodes(), key=lambda episode: episode["at"])

    def _beginning(self) -> datetime:
        """When the recording's clock showed 0: known from the first instance that was created."""
        for action in self.trace["actions"]:
            iid = action["answer"].get("id") if isinstance(action.get("answer"), dict) else None
            instance = self.trace["instances"].get(iid)
            if instance and instance["executions"] and "t" in action:
                started = next(
                    event
                    for event in instance["executions"][0]["history"]
                    if event["EventType"] == 0
                )
                return parse_utc(started["Timestamp"]) - timedelta(seconds=action["t"])
        return min(episode["at"] for episode in self._episodes())

    def _episodes(self) -> Iterator[dict[str, Any]]:
        for iid, instance in self.trace["instances"].items():
            for execution in instance["executions"]:
                for number, episode in enumerate(execution["episodes"]):
                    request = request_of(execution, episode)
                    last = number + 1 == len(execution["episodes"])
                    yield {
                        "iid": iid,
                        "execution": execution["execution"],
                        "request": request,
                        **episode,
                        "at": parse_utc(request["history"][episode["past"]]["Timestamp"]),
                        "rest": execution.get("rest") if last else None,
                    }

    # -- playing --------------------------------------------------------------

    def play(self) -> None:
        try:
            asyncio.run(self._play())
        finally:
            self.store.close()

    async def _play(self) -> None:
        for action in self.trace["actions"]:
            if "seen while polling" in action:
                self._play_until(datetime.max.replace(tzinfo=UTC))
                self._compare_polled(action["seen while polling"])
            else:
                await self._act(action)
        self._play_until(datetime.max.replace(tzinfo=UTC))
        if self.pending:
            raise Difference(
                f"the episode at {self.pending[0]['at']} heard what nobody has sent here"
            )
        await self._compare_endings()

    def _play_until(self, moment: datetime) -> None:
        while self._more_until(moment):
            self._episode(self.pending.pop(0))

    def _more_until(self, moment: datetime) -> bool:
        return (
            bool(self.pending)
            and self.pending[0]["at"] <= moment
            and self._possible(self.pending[0])
        )

    def _possible(self, episode: dict[str, Any]) -> bool:
        """False: the episode heard of a client's command that is still to come; the two clocks differ a little."""
        iid = self._in_our_words(episode["iid"])
        commands = [
            event
            for event in episode["request"]["history"][episode["past"] :]
            if event["EventType"] in CLIENT_EVENTS
        ]
        there = {_identity(message.event) for message in self.store.messages(iid, FAR)}
        return self.store.instance(iid) is not None and all(
            _identity(event) in there for event in commands
        )

    async def _wait_for_end(self, instance_id: str, seconds: float) -> None:
        until = self.clock.now() + timedelta(seconds=seconds)
        while self._more_until(until):
            self._episode(self.pending.pop(0))
            instance = self.store.instance(instance_id)
            if instance is not None and not instance.is_live:
                return

    async def _act(self, action: dict[str, Any]) -> None:
        at = (
            self.began + timedelta(seconds=action["t"])
            if "t" in action
            else self.clock.now() + PATIENCE
        )
        asks = action["method"] == "GET"
        self._play_until(at - LAG if asks else at)
        self.clock.move_to(at)
        if asks:
            self._end_unrecorded(action["answer"])
        answer = await self._ask(action)
        if asks:
            while (text := self._compare_answer(action, answer)) and self._more_until(
                at + PATIENCE
            ):
                self._episode(self.pending.pop(0))
                answer = await self._ask(action)
        else:
            text = self._compare_answer(action, answer)
        if text:
            raise Difference(text)

    def _end_unrecorded(self, shown: Any) -> None:
        """An instance of which only the ending was recorded ends now, as it did."""
        if (
            not isinstance(shown, dict)
            or shown.get("runtimeStatus") != "Completed"
            or shown["instanceId"] in self.recorded
        ):
            return
        instance = self.store.instance(shown["instanceId"])
        if instance is not None and instance.is_live:
            messages = self.store.messages(instance.instance_id, FAR)
            events = [
                orchestrator_started(self.clock.now()),
                *(message.event for message in messages),
            ]
            outcome = Outcome("Completed", compact_json(shown["output"]))
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

    async def _ask(self, action: dict[str, Any]) -> HostResponse:
        content_type = action.get("contentType", "application/json")
        headers = [("Content-Type", content_type)] if content_type else []
        if " (with the token)" in action["path"]:
            action = {**action, "path": action["path"].removesuffix(" (with the token)")}
            headers.append(("x-ms-continuation-token", self.token))
        body = (action.get("body") or "").encode()
        target = self._in_our_words(action["path"])
        request = HostRequest.from_target(
            action["method"], WEBHOOKS + target, headers, body, "http://HOST"
        )
        answer = await self.management.handle(request, request.path.removeprefix(WEBHOOKS))
        self.token = answer.header("x-ms-continuation-token") or ""
        recorded = action["answer"]
        if (
            isinstance(recorded, dict)
            and "statusQueryGetUri" in recorded
            and answer.status == action["status"]
        ):
            self.ours[recorded["id"]] = answer.json()["id"]
        return answer

    def _in_our_words(self, text: str) -> str:
        for recorded, ours in self.ours.items():
            text = text.replace(recorded, ours)
        return text

    # -- one episode ----------------------------------------------------------

    def _episode(self, episode: dict[str, Any]) -> None:
        self.clock.move_to(episode["at"])
        iid = self._in_our_words(episode["iid"])
        instance = self.store.instance(iid)
        if instance is None:
            raise Difference(f"there is no instance {iid}")
        self.ours.setdefault(episode["execution"], instance.execution_id)
        request = json.loads(self._in_our_words(json.dumps(episode["request"])))
        request["history"] = [
            event
            for event in request["history"]
            if event["EventType"] != EventType.ORCHESTRATOR_COMPLETED
        ]
        started = max(
            n
            for n, event in enumerate(request["history"])
            if event["EventType"] == EventType.ORCHESTRATOR_STARTED
        )
        fresh = request["history"][started:]
        messages = [self._message(instance, event) for event in fresh[1:]]
        past_texts = self.store.history(iid, instance.execution_id)
        past = [json.loads(text) for text in past_texts]
        events = [orchestrator_started(episode["at"]), *(message.event for message in messages)]

        def handle(context: str) -> str:
            compare(
                "request", _comparable_request(json.loads(context)), _comparable_request(request)
            )
            if "raised" in episode:
                raise _exception(self._in_our_words(episode["raised"]))
            return self._in_our_words(json.dumps(episode["returned"]))

        who = Identity(
            iid,
            instance.execution_id,
            instance.name,
            instance.parent.instance_id if instance.parent else None,
        )
        outcome = run_episode(
            who,
            [*past, *events],
            past_texts,
            _noting(handle, problems := []),
            self.functions.exists,
        )
        if problems:
            raise problems[0]
        step = self.planner.plan(
            instance, [message.id for message in messages], past, events, outcome, episode["at"]
        )
        self.store.commit_step(step)
        if episode["rest"] is not None and step.continued is None:
            made = step.appended[len(events) :]
            recorded = _rows(json.loads(self._in_our_words(json.dumps(episode["rest"]))))
            for row, ours in zip(recorded, found := _rows(made), strict=False):
                if row["Result"] == "":  # kept elsewhere because it is large
                    row["Result"] = ours["Result"]
            compare("what follows", found, recorded)
        if episode["iid"] == self.trace["main"]:
            self._show(iid)

    def _message(self, instance: Instance, recorded: dict[str, Any]) -> Message:
        waiting = [
            message
            for message in self.store.messages(instance.instance_id, FAR)
            if message.execution_id in (None, instance.execution_id)
        ]
        for message in waiting:
            if _identity(message.event) == _identity(recorded):
                return message
        if recorded["EventType"] in RESULTS:
            return self._finish_activity(instance, recorded)
        if recorded["EventType"] in CHILD_RESULTS and not self._child_was_recorded(
            instance, recorded["TaskScheduledId"]
        ):
            return Message(
                instance.instance_id, instance.execution_id, {**recorded, "IsPlayed": False}
            )
        raise Difference(
            f"the engine heard {_identity(recorded)}; here waits {[_identity(m.event) for m in waiting]}"
        )

    def _child_was_recorded(self, parent: Instance, task_id: int) -> bool:
        for text in self.store.history(parent.instance_id, parent.execution_id):
            event = json.loads(text)
            if (
                event["EventType"] == EventType.SUB_ORCHESTRATION_CREATED
                and event["EventId"] == task_id
            ):
                return event["InstanceId"] in {self._in_our_words(iid) for iid in self.recorded}
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
                return self._message(instance, result)
        raise Difference(
            f"no activity {result['TaskScheduledId']} of {instance.instance_id} was to run"
        )

    def _show(self, iid: str) -> None:
        instance = self.store.instance(iid)
        assert instance is not None
        shown = [instance.status, instance.custom_status and json.loads(instance.custom_status)]
        if not self.shown or self.shown[-1] != shown:
            self.shown.append(shown)

    # -- comparing ------------------------------------------------------------

    def _compare_answer(self, action: dict[str, Any], answer: HostResponse) -> str | None:
        what = f"{action['method']} {action['path']}"
        recorded = json.loads(self._in_our_words(json.dumps(action)))
        if answer.status != recorded["status"]:
            return f"{what}: {answer.status} instead of {recorded['status']}"
        names = {"content-type", "location", "retry-after", "x-ms-continuation-token"}
        found = {
            name.lower(): _plain_text(value)
            for name, value in answer.headers
            if name.lower() in names
        }
        wanted = {name: _plain_text(value) for name, value in recorded["headers"].items()}
        for headers in (found, wanted):
            if headers.get("x-ms-continuation-token"):
                headers["x-ms-continuation-token"] = "something"
        body = answer.json() if answer.body else None
        try:
            compare(f"{what}: headers", found, wanted)
            compare(f"{what}: body", _plain(body), _plain(recorded["answer"]))
        except Difference as difference:
            return str(difference)
        return None

    def _compare_polled(self, recorded: list[list[Any]]) -> None:
        seen = iter([["Pending", None], *self.shown])
        for entry in recorded:
            if not any(entry == shown for shown in seen):
                raise Difference(f"nobody who polls could see {entry} here, but {self.shown}")

    async def _compare_endings(self) -> None:
        for iid, instance in self.trace["instances"].items():
            query = "showInput=true&showHistory=true&showHistoryOutput=true"
            request = HostRequest.from_target(
                "GET", f"/instances/{self._in_our_words(iid)}?{query}", [], b"", "http://HOST"
            )
            answer = await self.management.handle(request, request.path)
            recorded = json.loads(self._in_our_words(json.dumps(instance["status"])))
            body = answer.json() if answer.body else None
            if self.trace["status_with_history"] and iid == self.trace["main"]:
                body.pop(
                    "historyEvents"
                )  # the extension fails to show the history of such an instance
            if recorded and "historyEvents" not in recorded and body:
                body.pop("historyEvents", None)
            compare(f"the end of {iid}", _plain(body), _plain(recorded))


def _exception(text: str) -> Exception:
    """As the SDK raised it: its own carry the state behind a mark, others are what they are."""
    kind, _, message = text.partition(": ")
    return (
        Exception(text)
        if "$OutOfProcData$" in text or not kind.isidentifier()
        else type(kind, (Exception,), {})(message)
    )


def compare(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise Difference(f"{what}: {_first_difference(found, wanted)}")


def _first_difference(found: Any, wanted: Any, path: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            if found.get(key, "(missing)") != wanted.get(key, "(missing)"):
                return _first_difference(
                    found.get(key, "(missing)"), wanted.get(key, "(missing)"), f"{path}.{key}"
                )
    if isinstance(found, list) and isinstance(wanted, list):
        for position, (one, other) in enumerate(zip(found, wanted, strict=False)):
            if one != other:
                return _first_difference(one, other, f"{path}[{position}]")
        return f"{path} has {len(found)} items instead of {len(wanted)}: {found[len(wanted) :]} {wanted[len(found) :]}"[
            :600
        ]
    return f"{path} is {str(found)[:400]!r} instead of {str(wanted)[:400]!r}"


def _noting(handle: Any, problems: list[Difference]) -> Any:
    """A difference must not be taken for an error of the orchestrator."""

    def noting(context: str) -> Any:
        try:
            return handle(context)
        except Difference as difference:
            problems.append(difference)
            raise

    return noting


def _functions(trace: dict[str, Any]) -> Iterator[AppFunction]:
    """The functions that the recorded engine knew: those it ran."""
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


def _identity(event: dict[str, Any]) -> tuple[Any, ...]:
    keys = (
        ("TaskScheduledId", "TimerId", "Name", "Input", "Reason")
        if event["EventType"] != 0
        else ("Name", "Input")
    )
    if event["EventType"] in (EventType.SUB_ORCHESTRATION_FAILED, EventType.TASK_FAILED):
        keys = ("TaskScheduledId",)
    return (event["EventType"], *(event.get(key) for key in keys))


def _check_failure(work: Work, failed: dict[str, Any]) -> None:
    """Our words for a failing activity are the engine's."""
    from local.host.failure_texts import activity_failure

    details = json.loads(failed["Details"])
    kind, _, message = str(details["Message"]).strip().partition(": ")
    reason, ours = activity_failure(work.name, type(kind, (Exception,), {})(message))
    compare("Reason", reason.rstrip(": "), failed["Reason"].rstrip(": "))
    compare("Details", _shape(json.loads(ours)), _shape(details))


def _shape(details: dict[str, Any] | None) -> Any:
    return {
        key: _shape(value) if isinstance(value, dict) else None
        for key, value in (details or {}).items()
    }


def _comparable_request(request: dict[str, Any]) -> dict[str, Any]:
    """Without OrchestratorCompleted, whose place varies."""
    return {
        **request,
        "history": [
            _comparable_event(event)
            for event in request["history"]
            if event["EventType"] != EventType.ORCHESTRATOR_COMPLETED
        ],
    }


def _comparable_event(event: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run. Moments remain where the host decides them: the clock, and when timers fire."""
    kept = dict(event)
    if event["EventType"] != EventType.ORCHESTRATOR_STARTED:
        kept.pop("Timestamp")
    else:
        kept["Timestamp"] = parse_utc(kept["Timestamp"])
    if "FireAt" in kept:
        kept["FireAt"] = parse_utc(kept["FireAt"])
    if "ClientSpanId" in kept:
        kept["ClientSpanId"] = None
    return {
        key: _plain(value) if key in ("Details", "Reason", "ParentInstance") else value
        for key, value in kept.items()
    }


_NUMBERS = {
    "ExecutionCompleted": 1,
    "TaskScheduled": 4,
    "SubOrchestrationInstanceCreated": 7,
    "TimerCreated": 10,
    "OrchestratorCompleted": 13,
}


def _rows(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for event in events:
        kind = (
            _NUMBERS.get(event["EventType"], event["EventType"])
            if isinstance(event["EventType"], str)
            else event["EventType"]
        )
        row = {key: event.get(key) for key in ("EventId", "Name", "OrchestrationStatus")}
        result = event.get("Result")
        rows.append(
            {
                "EventType": kind,
                **row,
                "Result": _plain_text(result) if isinstance(result, str) else result,
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """JSON without moments, stack traces, keys and the list of known functions."""
    if isinstance(value, dict):
        if value.get("ExceptionType") == "Newtonsoft.Json.JsonReaderException":
            value = {**value, "ExceptionMessage": "what the parser says"}
        return {key: _moment(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _plain_text(value) if isinstance(value, str) else value


_MOMENTS = frozenset(
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


def _moment(key: str, value: Any) -> Any:
    if key == "ClientSpanId":
        return None
    if key in _MOMENTS and isinstance(value, str):
        return "there"
    return _plain(value)


_VARYING = (
    (re.compile(r"code=[^&\"']*"), "code=KEY"),
    (re.compile(r"(known orchestrator functions: ).*", re.DOTALL), r"\1..."),
    (re.compile(r"(StackTrace: ).*", re.DOTALL), r"\1..."),
    (re.compile(r'(\\*"StackTrace\\*":).*', re.DOTALL), r"\1..."),
    (re.compile(r"(Stack: ).*", re.DOTALL), r"\1..."),
)


def _plain_text(text: str) -> str:
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text
