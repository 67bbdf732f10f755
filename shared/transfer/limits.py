"""Limits that all copies of a process share: bytes in memory, threads and concurrent tasks.

Many activities copy at the same time in one worker, so only a shared limit bounds its memory. The
throughput hardly increases beyond 8 blocks of 8 MiB in flight.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# The size of one read and one write. One Put Blob request writes a blob of at most this size.
BLOCK_BYTES = 8 * 1024 * 1024
MAX_BYTES_IN_FLIGHT = 8 * BLOCK_BYTES
MAX_CONCURRENT_BLOBS = 64


class BytesInFlight:
    """A semaphore of bytes. It is fair, so that small blocks cannot starve a large one."""

    def __init__(self, max_bytes: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._max_bytes = self._free = max_bytes
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> int:
        """Wait until `size` bytes are free, at most the maximum.

        Returns:
            The number of bytes to pass to `release`.
        """
        size = min(size, self._max_bytes)
        if not self._waiters and self._free >= size:
            self._free -= size
            return size
        granted = asyncio.get_running_loop().create_future()
        self._waiters.append((size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted at the moment of the cancellation
                self.release(size)
            raise
        return size

    def release(self, size: int) -> None:
        """Return acquired bytes."""
        self._free += size
        while self._waiters and (self._waiters[0][1].done() or self._waiters[0][0] <= self._free):
            size, granted = self._waiters.popleft()
            if not granted.done():  # it is done if the waiter was cancelled
                self._free -= size
                granted.set_result(None)


class WorkerThreads:
    """A small thread pool for hashing and decompression, created at the first use."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in a thread and return its result."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                max(2, min(4, os.cpu_count() or 1)), thread_name_prefix="proof"
            )
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: function(*args, **kwargs)
        )

    def close(self) -> None:
        """Cancel the queued functions and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


async def run_concurrently(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all coroutines; if one fails, cancel the others and raise its error."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        error = first_error(errors)
    else:
        return
    raise error


def first_error(error: BaseException) -> BaseException:
    """Return the first exception in a (nested) group that is not itself a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
