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
