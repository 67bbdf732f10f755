"""Finds the newest date of a member over many lines, in bounded memory."""

import re
from datetime import date

from shared.clock import parse_iso
from shared.lines.json_lines import JSON_WHITESPACE
from shared.lines.members import MemberReader

NO_DATE = "none"
UNREADABLE_DATE = "unreadable"
US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?: .*)?")


class NewestDate:
    """Finds the newest date of the member `name`.

    `value` is an ISO date in UTC, or `NO_DATE` if all lines lack a date, or `UNREADABLE_DATE` if
    one line has a date that cannot be read, so that the newest date is unknown. A date that is null
    or empty counts as absent.
    """

    def __init__(self, name: str) -> None:
        self._members = MemberReader(name)
        self.value = NO_DATE

    def add(self, line: bytes) -> None:
        """Add one line; blank lines are ignored."""
        if self.value == UNREADABLE_DATE or not line.strip(JSON_WHITESPACE):
            return
        members = self._members.read(line)
        if members is None:
            self.value = UNREADABLE_DATE
            return
        for value in members[0]:
            if value is None or value == "":
                continue
            day = parse_date(value)
            if day is None:
                self.value = UNREADABLE_DATE
                return
            self.value = str(day) if self.value == NO_DATE else max(self.value, str(day))


def parse_date(value: object) -> date | None:
    """Return the date of a value in one of the formats of Microsoft's files, or None.

    >>> str(parse_date("2026-11-30T00:00:00Z")), str(parse_date("11/30/2026")), parse_date("5")
    ('2026-11-30', '2026-11-30', None)
    """
    if not isinstance(value, str):
        return None
    try:
        if match := US_DATE.fullmatch(value):
            return date(int(match[3]), int(match[1]), int(match[2]))
        # .NET writes seven decimal places.
        return parse_iso(re.sub(r"(\.\d{6})\d+", r"\1", value)).date()
    except (ValueError, OverflowError):
        return None
