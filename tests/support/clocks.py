"""Clocks for tests that must not depend on the day on which they run."""

import asyncio
from datetime import UTC, datetime, timedelta


class MidMonthClock:
    """A running clock that starts on the 15th of the next month.

    On the first day of a month, the simulator has no unbilled data for that month, as at Microsoft.
    The clock runs ahead of the real time, so that signatures which it dates have not expired.
    """

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self._offset = (now.replace(day=1) + timedelta(days=32)).replace(day=15) - now

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset


class FakeClock:
    """A clock that moves only when a test advances it or code sleeps on it.

    Attributes:
        moment: The current time.
        seconds: The current monotonic time.
        slept: The arguments of all calls of `sleep`.
    """

    def __init__(self, moment: datetime) -> None:
        self.moment = moment
        self.seconds = 1000.0
        self.slept: list[float] = []

    @classmethod
    def at(cls, text: str) -> "FakeClock":
        """Return a clock at an ISO 8601 time without a time zone, which is taken as UTC."""
        return cls(datetime.fromisoformat(text).replace(tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Advance the clock without waiting, and let other tasks run."""
        self.slept.append(seconds)
        self.advance(seconds=seconds)
        await asyncio.sleep(0)

    def advance(self, **delta: float) -> None:
        """Advance both times by `timedelta(**delta)`."""
        self.moment += timedelta(**delta)
        self.seconds += timedelta(**delta).total_seconds()
