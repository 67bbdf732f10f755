"""When a schedule fires next, for people to see; the platform's own reading decides what really happens.

    0 0 5 * * *     second minute hour day month weekday (0 = Sunday); five fields: without seconds
    0 */10 8-18 * * Mon-Fri

Day and weekday must both match, as the platform has it. Times are UTC.
"""

import re
from datetime import UTC, datetime, timedelta

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
HORIZON = timedelta(days=366 * 41)  # 29 February on a given weekday, around a century without one


def next_tick(schedule: str, after: datetime) -> datetime | None:
    """The first moment behind `after`; None for what cannot be read or never comes.

    >>> next_tick("0 0 5 * * *", datetime(2026, 11, 21, 5, tzinfo=UTC))
    datetime.datetime(2026, 11, 22, 5, 0, tzinfo=datetime.timezone.utc)
    """
    fields = schedule.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        return None
    read = [_values(text.lower(), bounds) for text, bounds in zip(fields, BOUNDS, strict=True)]
    if not all(read):
        return None
    seconds, minutes, hours, days, months, weekdays = read
    moment = after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    limit = moment + HORIZON
    while moment < limit:
        if (
            moment.month not in months
            or moment.day not in days
            or moment.isoweekday() % 7 not in weekdays
        ):
            moment = moment.replace(hour=0, minute=0, second=0) + timedelta(days=1)
        elif moment.hour not in hours:
            moment = moment.replace(minute=0, second=0) + timedelta(hours=1)
        elif moment.minute not in minutes:
            moment = moment.replace(second=0) + timedelta(minutes=1)
        elif moment.second not in seconds:
            moment += timedelta(seconds=1)
        else:
            return moment
    return None


def _values(text: str, bounds: tuple[int, int]) -> set[int]:
    """Empty for what cannot be read."""
    least, most = bounds
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\*|[0-9a-z]{1,9})(?:-([0-9a-z]{1,9}))?(?:/([0-9]{1,2}))?", part)
        if not match or match[3] in ("0", "00"):
            return set()
        step = int(match[3]) if match[3] else 1
        first = least if match[1] == "*" else _number(match[1], most)
        last = (
            _number(match[2], most) if match[2] else most if match[1] == "*" or match[3] else first
        )
        if (
            first is None
            or last is None
            or not least <= min(first, last) <= max(first, last) <= most
        ):
            return set()
        found |= set(range(min(first, last), max(first, last) + 1, step))
    return found


def _number(text: str, most: int) -> int | None:
    if text.isdigit():
        return int(text)
    names = MONTHS if most == 12 else DAYS if most == 6 else ()
    return names.index(text[:3]) + (most == 12) if text[:3] in names else None
