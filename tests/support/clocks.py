"""Clocks for tests that must not depend on the day on which they run."""

import asyncio
from datetime import UTC, datetime, timedelta


class MidMonthClock:
    """A running clock that starts on the 15th day of the next month.

    On the first day of a month, the simulator, like Microsoft, has no unbilled data for that month.
    The clock is ahead of real time, so that the signatures that use it have not expired.
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
        slept: The arguments of all calls to `sleep`.
    """

    def __init__(self, moment: datetime) -> None:
        self.moment = moment
        self.seconds = 1000.0
        self.slept: list[float] = []

    @classmethod
    def at(cls, text: str) -> "FakeClock":
        """Return a clock that is set to an ISO 8601 time in UTC, without a time zone."""
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
