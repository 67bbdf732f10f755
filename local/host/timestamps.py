"""Moments as the protocol writes them (UTC text with `Z`) and as the database keeps them (whole microseconds)."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,7})?[+-]\d\d:\d\d")


def to_micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def to_text(moment: datetime) -> str:
    """As .NET writes it: trailing zeros of the fraction are cut.

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
    """`createdTime` and `lastUpdatedTime` of status answers: whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> datetime:
    """Reads a moment with any number of fraction digits; without an offset it is UTC.

    >>> parse_utc("2026-01-02T03:04:05.1234567Z").isoformat()
    '2026-01-02T03:04:05.123456+00:00'
    """
    moment = datetime.fromisoformat(text.strip())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def rewrite_offsets(value: object) -> object:
    """What .NET does to an orchestrator's output: texts that are dates with an offset come back in UTC.

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
