"""Billing months: which one `current` means, when its invoice is issued. Pure: a time in, a month out."""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

INVOICE_DAY, INVOICE_HOUR, INVOICE_MINUTE = (
    8,
    7,
    13,
)  # the invoice of a month is issued on the 8th of the next


@dataclass(frozen=True, order=True)
class Month:
    """One calendar month, which is one billing period."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def compact(self) -> str:
        """As root directories write it: `202610`."""
        return f"{self.year:04d}{self.number:02d}"

    @property
    def first(self) -> date:
        return date(self.year, self.number, 1)

    @property
    def last(self) -> date:
        return date(self.year, self.number, calendar.monthrange(self.year, self.number)[1])

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(self.first + timedelta(days=n) for n in range(self.last.day))

    @property
    def invoiced_at(self) -> datetime:
        following = self.plus(1)
        return datetime(
            following.year, following.number, INVOICE_DAY, INVOICE_HOUR, INVOICE_MINUTE, tzinfo=UTC
        )

    def plus(self, months: int) -> "Month":
        """>>> str(Month(2026, 1).plus(-2))
        '2025-11'
        """
        years, month = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(years, month + 1)

    @staticmethod
    def of(moment: datetime | date) -> "Month":
        return Month(moment.year, moment.month)

    @staticmethod
    def parse(text: str) -> "Month":
        """From `2026-11`."""
        moment = datetime.strptime(text, "%Y-%m")
        return Month(moment.year, moment.month)
