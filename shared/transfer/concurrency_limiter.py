"""How many blobs at once, by what storage says of the load: one limit for the process.

Busy (429, 500, 503): the limit is halved, once for all that was under way together. Every blob that lands raises it
again by a little. What storage asks to wait is waited here while it is short, by everybody; a longer wait is not for an
activity: who comes within it is told at once, and the orchestration waits in its place (design, section 5).

The SDK's own repeats are switched off for copies: they ignore Retry-After and last up to 40 s (reference: blob-copy, 6).
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
from shared.transfer.limits import CONCURRENCY

R = TypeVar("R")

PAUSES = (0.2, 1.0)  # seconds before the second and third try of what broke
BUSY_PAUSES = (1.0, 2.0, 4.0)  # the same for what storage was too busy for and named no wait
PATIENCE = 15.0  # seconds; the longest wait within an activity
GROWTH = 2.0  # by so much the limit rises in the time in which as many blobs land as it lets in


class ConcurrencyLimiter:
    """`most` blobs at once when nothing is wrong. `sleep` is asyncio.sleep but in tests, as `clock` is theirs."""

    def __init__(
        self,
        clock: Clock,
        *,
        most: int = CONCURRENCY,
        patience: float = PATIENCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._most, self._patience, self._sleep = clock, most, patience, sleep
        self.limit = float(most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._lowered_at = float("-inf")
        self._quiet_until = float("-inf")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """One blob's turn. Raises Throttled where storage wants to be left alone for longer than an activity may wait."""
        await self._turn()
        try:
            quiet = self.quiet_seconds()
            if quiet > self._patience:
                raise ThrottledError("storage_busy", retry_after_seconds=math.ceil(quiet))
            if quiet > 0:
                await self._sleep(quiet)
            yield
        finally:
            self._running -= 1
            self._admit()

    def quiet_seconds(self) -> float:
        """For how long storage still wants to be left alone."""
        return max(0.0, self._quiet_until - self._clock.monotonic())

    def landed(self) -> None:
        """A blob went through."""
        self.limit = min(float(self._most), self.limit + GROWTH / self.limit)
        self._admit()

    async def persist(self, ask: Callable[[], Awaitable[R]], repeated: Callable[[], None]) -> R:
        """Repeats what broke (Unavailable), and what storage was too busy for (Throttled) if the wait is short.

        `repeated` is called before each repeat. Raises the last error, and all others at once.
        """
        broken, busy = iter(PAUSES), iter(BUSY_PAUSES)
        while True:
            began = self._clock.monotonic()
            said: ThrottledError | UnavailableError
            try:
                return await ask()
            except ThrottledError as error:
                said, own = error, next(busy, None)
                self._busy(error.retry_after_seconds, began)
                # with some chance in it: those who wait for one moment must not all come back in it
                wait = (
                    None
                    if own is None
                    else (error.retry_after_seconds or 0)
                    + own * secrets.SystemRandom().uniform(0.5, 1)
                )
            except UnavailableError as error:
                said, wait = error, next(broken, None)
            if wait is None or wait > self._patience:
                break
            repeated()
            await self._sleep(wait)
        raise said

    def _busy(self, retry_after_seconds: int | None, began: float) -> None:
        now = self._clock.monotonic()
        if (
            began > self._lowered_at
        ):  # else the question was under way when the limit was lowered: one sign, not two
            self.limit, self._lowered_at = max(1.0, self.limit / 2), now
        self._quiet_until = max(self._quiet_until, now + (retry_after_seconds or 0))

    async def _turn(self) -> None:
        if self._running < int(self.limit) and not self._waiting:
            self._running += 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted in the moment of the cancellation
                self._running -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0].done() or self._running < int(self.limit)):
            granted = self._waiting.popleft()
            if not granted.done():  # else its waiter was cancelled
                self._running += 1
                granted.set_result(None)
