"""Routing of HTTP requests to the management API, the admin API, and the app's HTTP triggers."""

import asyncio
import logging
import re
from urllib.parse import unquote

from .calls import FunctionInvoker, FunctionTerminatedError, HostStoppedError
from .client_binding import RPC, WEBHOOKS
from .functions import AppFunction, FunctionIndex
from .http_messages import HostRequest, HostResponse, json_response
from .management import Management
from .routes import best_match
from .schedules import Schedules
from .store import StoreClosedError
from .traffic import Traffic

log = logging.getLogger(__name__)
MAX_TRIGGER_BODY_BYTES = 100 * 1024 * 1024
_LOCAL_HOST = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?", re.IGNORECASE)


class RequestRouter:
    """The entry point for all HTTP requests."""

    def __init__(
        self,
        *,
        functions: FunctionIndex,
        invoker: FunctionInvoker,
        management: Management,
        schedules: Schedules,
        traffic: Traffic,
    ) -> None:
        self._functions, self._invoker, self._management, self._schedules, self._traffic = (
            functions,
            invoker,
            management,
            schedules,
            traffic,
        )
        self.stopping = False  # set when the host stops; functions are no longer called
        self._routes = [
            (function.route, function)
            for function in functions.list_by_trigger("httpTrigger")
            if function.route is not None
        ]

    @staticmethod
    def max_body_bytes(path: str) -> int | None:
        """Return the maximum size of a request body in bytes, or None if there is no limit."""
        return (
            None if path.lower().startswith((f"{WEBHOOKS}/", f"{RPC}/")) else MAX_TRIGGER_BODY_BYTES
        )

    async def handle(self, request: HostRequest) -> HostResponse:
        """Return the response to a request."""
        with self._traffic.track():
            try:
                return await self._route(request)
            except StoreClosedError:
                return HostResponse(503)

    async def _route(self, request: HostRequest) -> HostResponse:
        for base in (WEBHOOKS, RPC):
            if request.path.lower().startswith(f"{base}/"):
                return await self._management.handle(request, request.path[len(base) :])
        if self.stopping:
            return HostResponse(503)
        if request.path.lower().startswith("/admin/"):
            return self._handle_admin(request)
        return await self._handle_trigger(request)

    # -- admin ----------------------------------------------------------------

    def _handle_admin(self, request: HostRequest) -> HostResponse:
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        match request.method, parts:
            case "POST", ["admin", "functions", name]:
                if self._functions.find(name) is None:
                    return HostResponse(404)
                if self._schedules.fire_now(name) is None:
                    return json_response(
                        400,
                        {
                            "Message": "The local host can invoke only timer triggers with this "
                            f"route; '{name}' is not a timer trigger."
                        },
                    )
                return HostResponse(202)
            case "GET", ["admin", "functions"]:
                return json_response(
                    200,
                    [
                        {
                            "name": function.name,
                            "trigger": function.trigger,
                            "isDisabled": function.disabled,
                        }
                        for function in self._functions.all
                    ],
                )
            case "GET", ["admin", "host", "status"]:
                return json_response(200, {"state": "Running", "host": "local"})
        return HostResponse(404)

    # -- HTTP triggers --------------------------------------------------------

    async def _handle_trigger(self, request: HostRequest) -> HostResponse:
        for function, parameters in best_match(self._routes, request.path):
            if request.method in function.methods:
                return await self._call(function, request, parameters)
        if request.path == "/" and request.method == "GET":
            return HostResponse(
                200, (("Content-Type", "text/plain"),), b"The local Functions host is running.\n"
            )
        return HostResponse(404)

    async def _call(
        self, function: AppFunction, request: HostRequest, parameters: dict[str, str]
    ) -> HostResponse:
        if len(request.body) > MAX_TRIGGER_BODY_BYTES:
            return HostResponse(413)
        try:
            future = self._invoker.call_http(function, request, parameters)
            response: HostResponse = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            raise
        except (FunctionTerminatedError, HostStoppedError) as error:
            log.error("%s %s: function %s: %s", request.method, request.path, function.name, error)
            return HostResponse(500)
        except Exception:
            log.exception("%s %s: function %s failed", request.method, request.path, function.name)
            return HostResponse(500)
        log.info("%s %s -> %d (%s)", request.method, request.path, response.status, function.name)
        return response


def host_allowed(host: str | None) -> bool:
    """Return whether a Host header refers to this machine.

    The check prevents DNS rebinding: a web page cannot reach the host by resolving its own domain
    to 127.0.0.1.
    """
    return host is not None and _LOCAL_HOST.fullmatch(host) is not None
