"""How long an answer asks us to wait, in whole seconds."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = (
    7 * 24 * 3600
)  # seconds; a longer wait is a mistake, and would keep a run alive for no reason


def retry_after_seconds(header: str | None, now: datetime) -> int | None:
    """`Retry-After` as seconds from `now` (aware): delta seconds or an HTTP date, rounded up; None when absent or unreadable.

    >>> moment = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
    >>> [retry_after_seconds(text, moment) for text in ("57", "Sun, 08 Nov 2026 09:38:30 GMT", "soon")]
    [57, 90, None]
    """
    if header is None or len(header) > 64:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(int(text), LONGEST)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0, min(math.ceil((until - now).total_seconds()), LONGEST))
