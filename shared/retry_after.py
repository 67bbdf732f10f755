"""The `Retry-After` header, in whole seconds."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_WAIT_SECONDS = 7 * 24 * 3600  # a longer wait is an error of the server


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> int | None:
    """Return the seconds that the `Retry-After` header of a response requests.

    A date in the header is relative to the `Date` header, because the local clock can differ from
    the clock of the service. `now` replaces a `Date` header that is absent or invalid. The keys of
    `headers` must be case-insensitive.
    """
    return retry_after_seconds(
        headers.get("Retry-After"), parse_http_date(headers.get("Date")) or now
    )


def parse_http_date(text: str | None) -> datetime | None:
    """Return the time of a date header, aware, or None if it is absent or invalid."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def retry_after_seconds(header: str | None, now: datetime) -> int | None:
    """Return the seconds from `now` that a `Retry-After` header requests, rounded up.

    Returns None if the header is absent or invalid. `now` must have a time zone.

    >>> moment = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
    >>> headers = ("57", "Sun, 08 Nov 2026 09:38:30 GMT", "soon")
    >>> [retry_after_seconds(header, moment) for header in headers]
    [57, 90, None]
    """
    if header is None or len(header) > 64:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(int(text), MAX_WAIT_SECONDS)
    until = parse_http_date(text)
    if until is None:
        return None
    return max(0, min(math.ceil((until - now).total_seconds()), MAX_WAIT_SECONDS))
