"""Clocks for tests that must not depend on the day on which they run."""

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
    """A clock that moves only when a test moves it."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    @classmethod
    def at(cls, text: str) -> "FakeClock":
        """Return a clock at an ISO 8601 time without a time zone, which is taken as UTC."""
        return cls(datetime.fromisoformat(text).replace(tzinfo=UTC))

    def now(self) -> datetime:
        return self.moment

    def advance(self, **delta: float) -> None:
        """Advance the time by `timedelta(**delta)`."""
        self.moment += timedelta(**delta)
