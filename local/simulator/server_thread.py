"""Runs HTTP applications in a thread with its own event loop, on loopback ports."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

HOST = "127.0.0.1"


class ServerThread:
    """A thread that serves HTTP applications.

    Args:
        make: Creates the applications. It is called on the thread's event loop.
        port: The port of the first application. 0 selects a free port.
        close: Releases resources on the event loop after the servers are closed.
    """

    def __init__(
        self,
        make: Callable[[], Sequence[web.Application]],
        port: int,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self._make, self._port, self._close = make, port, close
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
        self._ready, self._origins = threading.Event(), list[str]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None

    def start(self) -> list[str]:
        """Start the servers and return their origins, in the order of the applications."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self._thread.join()
            raise self._failure
        return self._origins

    def stop(self) -> None:
        """Stop the servers and wait for the thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def call(self, make: Callable[[], Awaitable[None]]) -> None:
        """Run a coroutine on the server's event loop and wait for it."""
        assert self._loop is not None

        async def run() -> None:
            await make()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # start() raises it in its own thread
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runners: list[web.AppRunner] = []
        try:
            for number, app in enumerate(self._make()):
                runner = web.AppRunner(
                    app, access_log=None, shutdown_timeout=0.5, handler_cancellation=False
                )
                runners.append(runner)
                await runner.setup()
                await web.TCPSite(runner, HOST, self._port if number == 0 else 0).start()
                self._origins.append(f"http://{HOST}:{runner.addresses[0][1]}")
            self._ready.set()
            await self._stop.wait()
        finally:
            for runner in runners:
                await runner.cleanup()
            await self._close()
