"""Converts timestamps to protocol text (UTC with `Z`) and to integers (microseconds)."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,7})?[+-]\d\d:\d\d")


def to_micros(moment: datetime) -> int:
    """Convert a time to microseconds since 1970, as stored in the database."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Convert microseconds since 1970 to a UTC time."""
    return EPOCH + timedelta(microseconds=micros)


def to_text(moment: datetime) -> str:
    """Format a time as .NET does, without trailing zeros in the fraction.

    >>> to_text(datetime(2026, 1, 2, 3, 4, 5, 120000, UTC))
    '2026-01-02T03:04:05.12Z'
    """
    return (
        moment.astimezone(UTC)
        .replace(tzinfo=None)
        .isoformat(timespec="microseconds")
        .rstrip("0")
        .rstrip(".")
        + "Z"
    )


def to_seconds_text(moment: datetime) -> str:
    """Format a time with whole seconds, as in `createdTime` and `lastUpdatedTime`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> datetime:
    """Parse a time with any number of fractional digits. A time without an offset is UTC.

    >>> parse_utc("2026-01-02T03:04:05.1234567Z").isoformat()
    '2026-01-02T03:04:05.123456+00:00'
    """
    moment = datetime.fromisoformat(text.strip())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def rewrite_offsets(value: object) -> object:
    """Convert all dates with an offset to UTC, as .NET does in the output of an orchestrator.

    >>> rewrite_offsets({"when": "2026-01-02T03:04:05.1230000+02:00", "s": "2026-01-02T03:04:05Z"})
    {'when': '2026-01-02T01:04:05.123+00:00', 's': '2026-01-02T03:04:05Z'}
    """
    if isinstance(value, dict):
        return {key: rewrite_offsets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rewrite_offsets(item) for item in value]
    if isinstance(value, str) and _WITH_OFFSET.fullmatch(value):
        try:
            return to_text(parse_utc(value)).removesuffix("Z") + "+00:00"
        except ValueError:
            return value
    return value
