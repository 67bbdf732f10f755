"""The health of the app: whether its tables are available."""

from shared.clock import Clock
from shared.ledger.ledger import Ledger

CACHE_SECONDS = 60.0  # limits the load that anonymous callers can cause


class HealthCheck:
    """A check that anonymous callers can start, so its result is cached."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._checked_at: float | None = None
        self._is_healthy = False

    async def is_healthy(self) -> bool:
        """Return whether the tables can be read. The reason of a failure is not returned."""
        now = self._clock.monotonic()
        if self._checked_at is None or now - self._checked_at >= CACHE_SECONDS:
            self._is_healthy, self._checked_at = await self._can_read(), now
        return self._is_healthy

    def invalidate(self) -> None:
        """Discard the cached result."""
        self._checked_at = None

    async def _can_read(self) -> bool:
        try:
            await self._ledger.locks.get("health")
        except Exception:  # callers are anonymous, so the response does not contain the reason
            return False
        return True
