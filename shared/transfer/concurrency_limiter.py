"""Limits the number of concurrent blobs according to the load that storage reports.

A 429, 500 or 503 response halves the limit, once for all requests that were in progress. Every
transferred blob raises it slightly. A short Retry-After wait takes place here and applies to all
blobs; a longer wait fails the blob immediately, and the orchestration waits instead.

The retries of the SDK are disabled for copies because they ignore Retry-After and take up to 40 s.
"""

import asyncio
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from shared.clock import Clock
from shared.errors import ThrottledError, UnavailableError
from shared.transfer.limits import MAX_CONCURRENT_BLOBS

R = TypeVar("R")

UNAVAILABLE_RETRY_SECONDS = (0.2, 1.0)  # before the second and the third attempt
THROTTLED_RETRY_SECONDS = (1.0, 2.0, 4.0)  # in addition to Retry-After
MAX_WAIT_SECONDS = 15.0  # within an activity
# The increase of the limit after as many blobs as the limit admits.
LIMIT_INCREASE = 2.0


class ConcurrencyLimiter:
    """Limits the concurrent blob copies in a process."""

    def __init__(
        self,
        clock: Clock,
        *,
        max_concurrency: int = MAX_CONCURRENT_BLOBS,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Create a limiter; tests replace `clock` and `sleep` together."""
        self._clock, self._sleep = clock, sleep
        self._max_concurrency, self._max_wait_seconds = max_concurrency, max_wait_seconds
        self.limit = float(max_concurrency)
        self._running = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._lowered_at = float("-inf")
        self._throttled_until = float("-inf")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the concurrent slots.

        Raises:
            ThrottledError: Storage requires a longer wait than an activity allows.
        """
        await self._acquire()
        try:
            wait = self.remaining_wait_seconds()
            if wait > self._max_wait_seconds:
                raise ThrottledError("storage_busy", retry_after_seconds=math.ceil(wait))
            if wait > 0:
                await self._sleep(wait)
            yield
        finally:
            self._running -= 1
            self._admit()

    def remaining_wait_seconds(self) -> float:
        """Return the rest of the wait that storage requested."""
        return max(0.0, self._throttled_until - self._clock.monotonic())

    def record_success(self) -> None:
        """Raise the limit after a transferred blob."""
        self.limit = min(float(self._max_concurrency), self.limit + LIMIT_INCREASE / self.limit)
        self._admit()

    async def retry(self, operation: Callable[[], Awaitable[R]], on_retry: Callable[[], None]) -> R:
        """Run an operation, and repeat it after an UnavailableError or a short throttling wait.

        `on_retry` is called before each repetition. After the last attempt its error is raised; all
        other errors are raised immediately.
        """
        unavailable_waits = iter(UNAVAILABLE_RETRY_SECONDS)
        throttled_waits = iter(THROTTLED_RETRY_SECONDS)
        while True:
            started_at = self._clock.monotonic()
            failure: ThrottledError | UnavailableError
            try:
                return await operation()
            except ThrottledError as error:
                failure, extra = error, next(throttled_waits, None)
                self._throttle(error.retry_after_seconds, started_at)
                # Jitter, so that the waiting operations do not all continue at the same moment.
                wait = (
                    None
                    if extra is None
                    else (error.retry_after_seconds or 0)
                    + extra * secrets.SystemRandom().uniform(0.5, 1)
                )
            except UnavailableError as error:
                failure, wait = error, next(unavailable_waits, None)
            if wait is None or wait > self._max_wait_seconds:
                break
            on_retry()
            await self._sleep(wait)
        raise failure

    def _throttle(self, retry_after_seconds: int | None, started_at: float) -> None:
        now = self._clock.monotonic()
        # Requests that were in progress when the limit was lowered report the same overload.
        if started_at > self._lowered_at:
            self.limit, self._lowered_at = max(1.0, self.limit / 2), now
        self._throttled_until = max(self._throttled_until, now + (retry_after_seconds or 0))

    async def _acquire(self) -> None:
        if self._running < int(self.limit) and not self._waiters:
            self._running += 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiters.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted at the moment of the cancellation
                self._running -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiters and (self._waiters[0].done() or self._running < int(self.limit)):
            granted = self._waiters.popleft()
            if not granted.done():  # it is done if the waiter was cancelled
                self._running += 1
                granted.set_result(None)
