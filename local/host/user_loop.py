"""The event loop that runs all async user code in the process, in its own thread.

All hosts of the process share it, and it runs until the process ends. The SDK's HTTP session and
lock, and asyncio objects in an app's modules, belong to the loop that first used them.
"""

import asyncio
import atexit
import logging
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

log = logging.getLogger(__name__)
Result = TypeVar("Result")
CLOSE_TIMEOUT_SECONDS = 10.0
SDK_HTTP_MODULE = "azure.durable_functions.models.utils.http_utils"


class UserLoop:
    """The loop and its thread. Use `UserLoop.shared()` to get the instance of the process."""

    _shared: "UserLoop | None" = None
    _creating = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._users = 0
        self._thread = threading.Thread(target=self._run, name="user-loop", daemon=True)
        self._thread.start()

    @classmethod
    def shared(cls) -> "UserLoop":
        """Return the loop of the process; create it on the first call."""
        with cls._creating:
            if cls._shared is None:
                cls._shared = cls()
                atexit.register(cls._shared.close)
            return cls._shared

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def enter(self) -> None:
        """Register a host that uses the loop."""
        with self._creating:
            self._users += 1

    def leave(self) -> None:
        """Unregister a host.

        The last call closes the HTTP session of the SDK, so no connection outlives its server.
        """
        with self._creating:
            self._users -= 1
            last = self._users == 0
        if last:
            self._close_session()

    def _close_session(self) -> None:
        try:
            self.submit(_close_sdk_session()).result(CLOSE_TIMEOUT_SECONDS)
        except TimeoutError:
            log.warning(
                "async code in the app is blocking the event loop; the SDK's HTTP session remains "
                "open"
            )

    def close(self) -> None:
        """Stop the loop and its thread."""
        if self.loop.is_closed():
            return
        self._close_session()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSE_TIMEOUT_SECONDS)
        if not self._thread.is_alive():
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


async def _close_sdk_session() -> None:
    if (module := sys.modules.get(SDK_HTTP_MODULE)) is not None:
        await module._close_session()
        await asyncio.sleep(0)  # lets the transports finish closing
