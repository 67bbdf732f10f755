"""The clock of the app, and the format of times. Tests replace the clock."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """Return the current time with the UTC time zone."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start, for the measurement of durations."""
        ...


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> datetime:
        """Return the current time with the UTC time zone."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        return time.monotonic()


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, with a fraction only if it is not zero.

    Strings of the same precision sort by time.

    >>> iso(datetime(2026, 11, 8, 9, 37, tzinfo=UTC))
    '2026-11-08T09:37:00Z'
    """
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_iso(text: str) -> datetime:
    """Return the time of an ISO 8601 string; a string without a time zone is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
