"""The HTTP management API of Durable Functions.

The responses are those of the original extension, recorded in `tests/host/golden`.
"""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import unquote

from .client_binding import check_status_links
from .commands import Commands
from .digest import history_events, status_body
from .errors import InstanceExistsError, InvalidCommandError
from .history import compact_json
from .http_messages import HostRequest, HostResponse, json_response
from .records import STATUSES, Filter, Instance
from .store import Store
from .timestamps import parse_utc, to_micros

DEFAULT_PAGE_SIZE = 100
INVALID_ARGUMENT_MESSAGE = "One or more of the arguments submitted is incorrect"
INTERNAL_ERROR_MESSAGE = "Something went wrong while processing your request"
WaitForEnd = Callable[[str, float], Awaitable[None]]


class Management:
    """Handles requests to the management API."""

    def __init__(
        self, commands: Commands, store: Store, hub: str, connection: str, wait_for_end: WaitForEnd
    ) -> None:
        """Create the handler.

        Args:
            commands: Executes client commands.
            store: State database.
            hub: Name of the task hub.
            connection: Name of the storage connection that links contain.
            wait_for_end: Called with an instance ID and a number of seconds. Returns when the
                instance has ended or the time has elapsed.
        """
        self._commands, self._store, self._hub, self._connection = commands, store, hub, connection
        self._wait_for_end = wait_for_end

    async def handle(self, request: HostRequest, path: str) -> HostResponse:
        """Handle a request. `path` is percent-encoded and relative to the base URL of the API."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        try:
            match request.method, parts:
                case "POST", ["orchestrators", name, *rest] if len(rest) <= 1:
                    return await self._start(request, name, rest[0] if rest else None)
                case "GET", ["instances"]:
                    return self._list(request)
                case "DELETE", ["instances"]:
                    return self._purge_many(request)
                case "GET", ["instances", instance_id]:
                    return self._status(request, instance_id)
                case "DELETE", ["instances", instance_id]:
                    return self._purge(instance_id)
                case "POST", ["instances", instance_id, "raiseEvent", name]:
                    return self._raise_event(request, instance_id, name)
                case "POST", ["instances", instance_id, operation]:
                    return self._operate(request, instance_id, operation)
        except InstanceExistsError as error:
            return _error(409, INTERNAL_ERROR_MESSAGE, error)
        except InvalidCommandError as error:
            return _error(400, INVALID_ARGUMENT_MESSAGE, error)
        return HostResponse(404)

    # -- one instance ---------------------------------------------------------

    async def _start(
        self, request: HostRequest, name: str, instance_id: str | None
    ) -> HostResponse:
        input_json = None
        if request.body:
            try:
                content = json.loads(request.body)
                input_json = None if content is None else compact_json(content)
            except (ValueError, RecursionError) as error:
                return _error(
                    400, "Invalid JSON content", error, "Newtonsoft.Json.JsonReaderException"
                )
        instance_id = self._commands.start(
            name, input_json, instance_id, request.query.get("version")
        )
        if (timeout := _parse_float(request.query.get("timeout"))) is not None:
            await self._wait_for_end(instance_id, timeout)
            instance = self._store.instance(instance_id)
            if instance is not None and not instance.is_live:
                body = status_body(instance)
                return json_response(
                    200, body["output"] if instance.status == "Completed" else body
                )
        return self._accepted(request, instance_id)

    def _accepted(self, request: HostRequest, instance_id: str) -> HostResponse:
        links = check_status_links(request.origin, instance_id, self._hub, self._connection)
        return json_response(
            202, links, ("Location", links["statusQueryGetUri"]), ("Retry-After", "10")
        )

    def _status(self, request: HostRequest, instance_id: str) -> HostResponse:
        instance, query = self._store.instance(instance_id), request.query
        if instance is None:
            return HostResponse(404)
        body = status_body(instance, show_input=not _is_false(query.get("showInput")))
        if _is_true(query.get("showHistory")):
            events = [
                json.loads(text) for text in self._store.history(instance_id, instance.execution_id)
            ]
            body["historyEvents"] = history_events(
                events, show_output=_is_true(query.get("showHistoryOutput"))
            )
        if instance.is_live:
            return json_response(202, body, ("Location", request.url), ("Retry-After", "5"))
        failed = instance.status == "Failed" and _is_true(
            query.get("returnInternalServerErrorOnFailure")
        )
        return json_response(500 if failed else 200, body)

    def _raise_event(self, request: HostRequest, instance_id: str, name: str) -> HostResponse:
        content_type = (request.header("Content-Type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            return json_response(
                400, {"Message": "Only application/json request content is supported"}
            )
        try:
            event = compact_json(json.loads(request.body))
        except (ValueError, RecursionError) as error:
            return _error(400, "Invalid JSON content", error, "Newtonsoft.Json.JsonReaderException")
        return _command_response(self._commands.raise_event(instance_id, name, event))

    def _operate(self, request: HostRequest, instance_id: str, operation: str) -> HostResponse:
        reason = request.query.get("reason")
        match operation:
            case "terminate":
                return _command_response(self._commands.terminate(instance_id, reason))
            case "suspend":
                status = self._commands.suspend(instance_id, reason)
                return (
                    self._refused(instance_id, "suspend", status)
                    if status == "Suspended"
                    else _command_response(status)
                )
            case "resume":
                status = self._commands.resume(instance_id, reason)
                if status in ("Pending", "Running"):
                    return self._refused(instance_id, "resume", status)
                return _command_response(status)
            case "rewind":
                instance = self._store.instance(instance_id)
                if instance is not None and instance.status == "Failed":
                    self._commands.rewind(instance, reason)
                    return HostResponse(202)
                return HostResponse(404 if instance is None else 410)
            case "restart":
                return self._restart(request, instance_id)
        return HostResponse(404)

    def _refused(self, instance_id: str, operation: str, status: str) -> HostResponse:
        text = (
            f"Cannot {operation} the orchestration instance {instance_id} "
            f"because instance is in the {status} state."
        )
        return _error(
            500, INTERNAL_ERROR_MESSAGE, ValueError(text), "System.InvalidOperationException"
        )

    def _restart(self, request: HostRequest, instance_id: str) -> HostResponse:
        instance = self._store.instance(instance_id)
        if instance is None:
            # The extension has the same spelling mistake.
            text = f"An orchestrastion with the instanceId {instance_id} was not found."
            return _error(
                400,
                "InstanceId does not match a valid orchestration instance.",
                InvalidCommandError(text),
            )
        in_place = _is_false(request.query.get("restartWithNewInstanceId"))
        return self._accepted(
            request, self._commands.restart(instance, new_instance_id=not in_place)
        )

    def _purge(self, instance_id: str) -> HostResponse:
        instance = self._store.instance(instance_id)
        if instance is None:
            return HostResponse(404)
        if instance.is_live:
            text = (
                f"Cannot purge the orchestration instance {instance_id} "
                f"because it is in the {instance.status} state."
            )
            return _error(
                412, INTERNAL_ERROR_MESSAGE, ValueError(text), "System.InvalidOperationException"
            )
        self._commands.purge_one(instance_id)
        return json_response(200, {"instancesDeleted": 1})

    # -- many instances -------------------------------------------------------

    def _list(self, request: HostRequest) -> HostResponse:
        query = request.query
        top = _parse_int32(query.get("top"))
        if top is not None and top < 1:
            return _error(
                400,
                INVALID_ARGUMENT_MESSAGE,
                InvalidCommandError("Take count must be positive and greater than 0."),
            )
        size = top or DEFAULT_PAGE_SIZE
        after = _read_token(request.header("x-ms-continuation-token"))
        instances = self._store.instances(_filter(query), after=after, limit=size + 1)
        page = instances[:size]
        token = _token(page[-1]) if len(instances) > size else ""
        show_input = not _is_false(query.get("showInput"))
        return json_response(
            200,
            [status_body(instance, show_input=show_input) for instance in page],
            ("x-ms-continuation-token", token),
        )

    def _purge_many(self, request: HostRequest) -> HostResponse:
        criteria = _filter(request.query)
        if criteria.created_from is None:
            return json_response(400, "Please provide value for 'createdTimeFrom' parameter.")
        deleted = self._commands.purge(criteria)
        return json_response(200, {"instancesDeleted": deleted}) if deleted else HostResponse(404)


def _command_response(status: str | None) -> HostResponse:
    if status is None:
        return HostResponse(404)
    return HostResponse(202 if status in ("Pending", "Running", "Suspended") else 410)


def _error(status: int, message: str, error: Exception, kind: str | None = None) -> HostResponse:
    return json_response(
        status,
        {
            "Message": message,
            "ExceptionMessage": str(error),
            "ExceptionType": kind or getattr(error, "exception_type", "System.Exception"),
            "StackTrace": "   at LocalHost",
        },
    )


def _filter(query: dict[str, str]) -> Filter:
    """Return the filter for a query. Invalid values are ignored, as in the extension."""
    statuses = (
        frozenset(name.strip() for name in query.get("runtimeStatus", "").split(",")) & STATUSES
    )
    return Filter(
        _parse_time(query.get("createdTimeFrom")),
        _parse_time(query.get("createdTimeTo")),
        statuses,
        query.get("instanceIdPrefix", ""),
    )


def _parse_time(text: str | None) -> int | None:
    # An unescaped plus sign of a UTC offset arrives as a space.
    for candidate in (text, text.replace(" ", "+")) if text else ():
        with suppress(ValueError, OverflowError):
            return to_micros(parse_utc(candidate))
    return None


def _token(instance: Instance) -> str:
    return base64.urlsafe_b64encode(instance.instance_id.encode()).decode()


def _read_token(token: str | None) -> str:
    try:
        return base64.urlsafe_b64decode(token or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _is_true(text: str | None) -> bool:
    return (text or "").lower() == "true"


def _is_false(text: str | None) -> bool:
    return (text or "").lower() == "false"


def _parse_float(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _parse_int32(text: str | None) -> int | None:
    """Return the 32-bit integer that the text contains, or None."""
    try:
        number = int(text) if text else None
    except ValueError:
        return None
    return None if number is None or abs(number) >= 2**31 else number
