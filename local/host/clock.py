"""The clocks of the host: the system clock, and a virtual clock for tests.

The clocks only return the time; they do not sleep or wait.
"""

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The time source that the host shares with the app under test and the simulator."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""
        ...


class SystemClock:
    """The system clock."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)


class VirtualClock:
    """A clock that changes only when it is set; it never goes back. Thread-safe.

    In a `LocalHost`, only the host sets the clock, and only while a test waits (`wait`,
    `run_until`, `advance`).

    >>> clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.move_to(clock.now() + timedelta(hours=1))
    >>> clock.now().isoformat()
    '2026-01-01T01:00:00+00:00'
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("VirtualClock requires an aware datetime: datetime(..., tzinfo=UTC)")
        self._now = start.astimezone(UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the current virtual time in UTC."""
        with self._lock:
            return self._now

    def move_to(self, moment: datetime) -> None:
        """Set the clock to `moment`; a moment before the current time has no effect."""
        with self._lock:
            self._now = max(self._now, moment.astimezone(UTC))

    def move_by(self, span: timedelta) -> None:
        """Advance the clock by `span`; a negative `span` has no effect."""
        self.move_to(self.now() + span)
