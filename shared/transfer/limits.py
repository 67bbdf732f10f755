"""What one process may hold and do at once, over all its copies: bytes in memory first of all.

Many activities copy side by side in a worker, and each would be modest by itself; only a limit they share bounds what
the worker takes (reference: blob-copy, 3: 8 blocks of 8 MiB in flight are the knee of the curve).
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

BLOCK = (
    8 * 1024 * 1024
)  # bytes read and written at once; a blob of that size or less is written by one Put Blob
IN_FLIGHT = 8 * BLOCK  # bytes of blobs in memory
CONCURRENCY = 64  # blobs at once


class BytesInFlight:
    """A semaphore of bytes; first come, first served, so that a big block is not passed over for ever by small ones."""

    def __init__(self, most: int = IN_FLIGHT) -> None:
        self._most = self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> int:
        """Waits until `size` bytes, or all there are if it is more, are free; returns what to give back."""
        size = min(size, self._most)
        if not self._waiting and self._free >= size:
            self._free -= size
            return size
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():
                self.give(size)  # granted in the moment of the cancellation
            raise
        return size

    def give(self, size: int) -> None:
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, granted = self._waiting.popleft()
            if not granted.done():  # else its taker was cancelled
                self._free -= size
                granted.set_result(None)


class Threads:
    """A few threads for hashing and inflating, so that the event loop goes on; made at first use."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                max(2, min(4, os.cpu_count() or 1)), thread_name_prefix="proof"
            )
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: function(*args, **kwargs)
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """All of them side by side; the first that fails ends the others, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except BaseExceptionGroup as errors:
        first = first_of(errors)
    else:
        return
    raise first


def first_of(errors: BaseException) -> BaseException:
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors
