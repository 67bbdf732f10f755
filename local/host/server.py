"""The server loop: an event loop in its own thread, and the aiohttp server if a port is open.

User code does not run on this loop, so a blocking function cannot block the management API.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .errors import PortInUseError
from .http_messages import HostRequest, HostResponse
from .request_router import RequestRouter, host_allowed

log = logging.getLogger(__name__)
MAX_REASON_LENGTH = 200
Result = TypeVar("Result")


class Server:
    """The server loop and the optional HTTP port."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="server-loop", daemon=True)
        self._runner: web.AppRunner | None = None
        self.port: int | None = None

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def listen(self, request_router: RequestRouter, port: int) -> None:
        """Open the port on 127.0.0.1. Port 0 selects a free one.

        Raises:
            PortInUseError: If the port cannot be opened.
        """
        self.port = self.submit(self._listen(request_router, port)).result(30)

    async def _listen(self, request_router: RequestRouter, port: int) -> int:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", _handler(request_router))
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0, logger=_server_log()
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", port).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise PortInUseError(f"Port {port} on 127.0.0.1 cannot be opened: {reason}.") from None
        return int(self._runner.addresses[0][1])

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self.submit(self._stop()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _handler(request_router: RequestRouter) -> Any:
    async def serve(request: web.Request) -> web.Response:
        host = request.headers.get("Host")
        if not host_allowed(host):
            return web.Response(
                status=421,
                text="The local host accepts only requests to 127.0.0.1 and localhost.\n",
            )
        headers = [(name, value) for name, value in request.headers.items()]
        try:
            host_request = HostRequest.from_target(
                request.method, request.raw_path, headers, b"", f"http://{host}"
            )
        except ValueError:  # the target is not a valid URL
            return web.Response(status=400)
        body = await _body(request, request_router.max_body_bytes(host_request.path))
        if body is None:
            return web.Response(status=413, headers={"Connection": "close"})
        return _web_response(await request_router.handle(replace(host_request, body=body)))

    return serve


async def _body(request: web.Request, limit: int | None) -> bytes | None:
    """Return the body, or None if it is larger than `limit`. In that case, the rest is not read."""
    if limit is None:
        return await request.content.read()
    if (request.content_length or 0) > limit:
        return None
    parts, size = [], 0
    async for part in request.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


class _OneLineFilter(logging.Filter):
    """Logs invalid requests and closed connections as one-line warnings without a stack trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | ConnectionError):
            record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
            reason = " ".join(str(error).split())[:MAX_REASON_LENGTH]
            record.msg, record.args = (
                "could not read a request: %s: %s",
                (type(error).__name__, reason),
            )
        return True


def _server_log() -> logging.Logger:
    server_log = logging.getLogger(f"{__name__}.http")
    if not server_log.filters:
        server_log.addFilter(_OneLineFilter())
    return server_log


def _web_response(response: HostResponse) -> web.Response:
    web_response = web.Response(status=response.status, body=response.body or None)
    for name, value in response.headers:
        if name.lower() == "content-type":
            web_response.headers[name] = value
        else:
            web_response.headers.add(name, value)
    return web_response
