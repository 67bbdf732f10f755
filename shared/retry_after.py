"""The `Retry-After` header, in whole seconds."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_WAIT_SECONDS = 7 * 24 * 3600  # a longer wait is an error of the server


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
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0, min(math.ceil((until - now).total_seconds()), MAX_WAIT_SECONDS))
