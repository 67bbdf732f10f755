"""The server loop: a thread with an event loop of its own, and aiohttp in front of `Front` when a port is wanted.

User code never runs here, so that a blocking function cannot stop the management API.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from aiohttp import web

from .errors import PortTaken
from .front import Front, host_allowed
from .http_messages import HostRequest, HostResponse

log = logging.getLogger(__name__)
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

    def listen(self, front: Front, port: int) -> None:
        """Opens the port on 127.0.0.1; 0 takes a free one."""
        self.port = self.submit(self._listen(front, port)).result(30)

    async def _listen(self, front: Front, port: int) -> int:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", _handler(front))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", port).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise PortTaken(f"Port {port} on 127.0.0.1 cannot be opened: {reason}.") from None
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


def _handler(front: Front) -> Any:
    async def serve(request: web.Request) -> web.Response:
        host = request.headers.get("Host")
        if not host_allowed(host):
            return web.Response(status=421, text="This host answers requests to 127.0.0.1 and localhost only.\n")
        body = await request.content.read()
        headers = [(name, value) for name, value in request.headers.items()]
        answer = await front.handle(HostRequest.of(request.method, request.raw_path, headers, body, f"http://{host}"))
        return _web_response(answer)

    return serve


def _web_response(answer: HostResponse) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body or None)
    for name, value in answer.headers:
        if name.lower() == "content-type":
            response.headers[name] = value
        else:
            response.headers.add(name, value)
    return response
