"""Parses the schedules of Azure Functions timer triggers (NCRONTAB).

A schedule has six fields, `second minute hour day month weekday` (Sunday is 0), has five fields
(without seconds), or is a TimeSpan. Day and weekday must both match, unlike in POSIX cron.

The app and the local host share this package. It uses only the standard library and imports
neither of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 6),
)
_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?")
# The longest possible wait: 29 February on a certain weekday, around a century without a leap year.
_MAX_YEARS = 41


class InvalidScheduleError(ValueError):
    """The text is not a valid schedule. The message states the reason."""


@dataclass(frozen=True)
class Interval:
    """A schedule that is a TimeSpan, such as `00:05:00`."""

    span: timedelta

    def next_after(self, moment: datetime) -> datetime:
        """Return the end of an interval that starts at `moment`."""
        return moment + self.span


@dataclass(frozen=True)
class Crontab:
    """The allowed values of each field, in the time zone `zone`."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 = Sunday
    zone: tzinfo = UTC

    def next_after(self, moment: datetime) -> datetime:
        """Return the first tick after `moment` (aware), in UTC.

        Raises:
            InvalidScheduleError: The schedule has no next tick, for example because it specifies 30
            February.
        """
        local = moment.astimezone(self.zone).replace(tzinfo=None, microsecond=0)
        start = local + timedelta(seconds=1)
        day = start.date()
        last_year = day.year + _MAX_YEARS
        while day.year <= last_year:
            if (
                day.month in self.months
                and day.day in self.days
                and day.isoweekday() % 7 in self.weekdays
            ):
                earliest = start if day == start.date() else datetime(day.year, day.month, day.day)
                for time in self._times_of(earliest):
                    for fold in (0, 1):  # 1: the repetition of an hour after a clock change
                        tick = time.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
                        if tick > moment:
                            return tick
            day += timedelta(days=1)
        raise InvalidScheduleError("The schedule has no occurrence")

    def _times_of(self, earliest: datetime) -> Iterator[datetime]:
        """Yield the matching times of one day, starting at `earliest`."""
        for hour in self.hours:
            if hour < earliest.hour:
                continue
            for minute in self.minutes:
                if (hour, minute) < (earliest.hour, earliest.minute):
                    continue
                for second in self.seconds:
                    if (hour, minute, second) >= (earliest.hour, earliest.minute, earliest.second):
                        yield earliest.replace(hour=hour, minute=minute, second=second)


Schedule: TypeAlias = Crontab | Interval


def parse(text: str, zone: tzinfo = UTC) -> Schedule:
    """Parse a schedule whose times are in `zone`.

    >>> parse("0 30 9 * Jan Mon").next_after(datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2026-01-05T09:30:00+00:00'
    >>> parse("00:05:00")
    Interval(span=datetime.timedelta(seconds=300))

    Raises:
        InvalidScheduleError: The text is not a valid schedule, or it has no occurrence.
    """
    if span := _TIME_SPAN.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in span.groups())
        if hours > 23 or minutes > 59 or seconds > 59:
            raise InvalidScheduleError(f"'{text}' is not a valid TimeSpan")
        if not (length := timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)):
            raise InvalidScheduleError(f"'{text}' is an interval of zero seconds")
        return Interval(length)
    fields = text.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise InvalidScheduleError(
            f"'{text}' has {len(fields)} fields; a schedule must be a TimeSpan or have five "
            f"fields, or six fields of which the first is the seconds"
        )
    values = [_values(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)]
    second, minute, hour, day, month, weekday = values
    crontab = Crontab(
        tuple(sorted(second)),
        tuple(sorted(minute)),
        tuple(sorted(hour)),
        frozenset(day),
        frozenset(month),
        frozenset(weekday),
        zone,
    )
    crontab.next_after(datetime(2024, 1, 1, tzinfo=UTC))
    return crontab


def next_tick(schedule: str, after: datetime) -> datetime | None:
    """Return the first tick after `after` in UTC, or None for a TimeSpan or an invalid schedule.

    >>> next_tick("0 0 5 * * *", datetime(2026, 11, 21, 5, tzinfo=UTC)).isoformat()
    '2026-11-22T05:00:00+00:00'
    """
    try:
        parsed = parse(schedule)
    except InvalidScheduleError:
        return None
    return parsed.next_after(after) if isinstance(parsed, Crontab) else None


def _values(field: str, name: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        body, slash, step_text = part.partition("/")
        if slash and not (step_text.isascii() and step_text.isdigit() and int(step_text) > 0):
            raise InvalidScheduleError(
                f"'{part}' is not a valid {name}: the step must be a number that is at least 1"
            )
        step = int(step_text) if slash else 1
        if body == "*":
            first, last = low, high
        elif "-" in body:
            begin, _, end = body.partition("-")
            first, last = sorted((_number(begin, name, low, high), _number(end, name, low, high)))
        else:
            first = _number(body, name, low, high)
            last = high if slash else first  # `a/n` ends at the maximum
        values.update(range(first, last + 1, step))
    return values


def _number(text: str, name: str, low: int, high: int) -> int:
    names = {"month": _MONTHS, "weekday": _DAYS}.get(name, ())
    if text.isascii() and text.isdigit():
        number = int(text)
    elif len(text) >= 3 and text[:3].lower() in names:
        number = names.index(text[:3].lower()) + low
    else:
        raise InvalidScheduleError(f"'{text}' is not a valid {name}")
    if not low <= number <= high:
        raise InvalidScheduleError(
            f"{number} is not a valid {name}: it must be from {low} to {high}"
        )
    return number
