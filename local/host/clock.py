"""Clocks the host can run on: the system's, and a virtual one for tests. Nothing here sleeps or waits."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the host, an app under test and a simulator agree on as "now"."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class VirtualClock:
    """Time that stands still until somebody moves it. Thread safe; never goes backwards.

    Inside a `LocalHost` only the host moves it, and only while a test waits (`wait`, `run_until`, `advance`).

    >>> clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.move_to(clock.now() + timedelta(hours=1))
    >>> clock.now().isoformat()
    '2026-01-01T01:00:00+00:00'
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("VirtualClock needs an aware datetime: datetime(..., tzinfo=UTC)")
        self._now = start.astimezone(UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def move_to(self, moment: datetime) -> None:
        """Sets the time; a moment in the past is ignored."""
        with self._lock:
            self._now = max(self._now, moment.astimezone(UTC))

    def move_by(self, span: timedelta) -> None:
        self.move_to(self.now() + span)
