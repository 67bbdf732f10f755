"""What time it is: the only place outside tests that asks the operating system."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """`now` for what is recorded or compared with Microsoft's words; `monotonic` (seconds) for how long something took."""

    def now(self) -> datetime:
        """Aware, in UTC."""
        ...

    def monotonic(self) -> float: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def iso(moment: datetime) -> str:
    """`2026-11-08T09:37:00Z`, with a fraction only where there is one; sorts as text within one precision.

    >>> iso(datetime(2026, 11, 8, 9, 37, tzinfo=UTC))
    '2026-11-08T09:37:00Z'
    """
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_iso(text: str) -> datetime:
    """The moment that iso() wrote, or any ISO 8601 time; one without a zone is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
