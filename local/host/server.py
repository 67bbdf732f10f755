"""The server loop: a thread with an event loop of its own, and aiohttp in front of `RequestRouter` when a port is wanted.

User code never runs here, so that a blocking function cannot stop the management API.
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
LONGEST_REASON = 200
Result = TypeVar("Result")


class Server:
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
        """Opens the port on 127.0.0.1; 0 takes a free one."""
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
                status=421, text="This host answers requests to 127.0.0.1 and localhost only.\n"
            )
        headers = [(name, value) for name, value in request.headers.items()]
        try:
            asked = HostRequest.from_target(
                request.method, request.raw_path, headers, b"", f"http://{host}"
            )
        except ValueError:  # a target that is no URL
            return web.Response(status=400)
        body = await _body(request, request_router.max_body_bytes(asked.path))
        if body is None:
            return web.Response(status=413, headers={"Connection": "close"})
        return _web_response(await request_router.handle(replace(asked, body=body)))

    return serve


async def _body(request: web.Request, limit: int | None) -> bytes | None:
    """None: it is too large; the rest of it is not read."""
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
    """What is no HTTP, and a caller that has gone, are not worth a stack trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | ConnectionError):
            record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
            why = " ".join(str(error).split())[:LONGEST_REASON]
            record.msg, record.args = (
                "a request that could not be read: %s: %s",
                (type(error).__name__, why),
            )
        return True


def _server_log() -> logging.Logger:
    server_log = logging.getLogger(f"{__name__}.http")
    if not server_log.filters:
        server_log.addFilter(_OneLineFilter())
    return server_log


def _web_response(answer: HostResponse) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body or None)
    for name, value in answer.headers:
        if name.lower() == "content-type":
            response.headers[name] = value
        else:
            response.headers.add(name, value)
    return response
