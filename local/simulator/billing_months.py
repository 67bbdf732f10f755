"""Billing months and the times at which their invoices are issued."""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

# An invoice is issued on the 8th of the month after the billing month.
INVOICE_DAY, INVOICE_HOUR, INVOICE_MINUTE = 8, 7, 13


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month, which is a billing period."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def compact(self) -> str:
        """The month in the format of root directories, such as `202610`."""
        return f"{self.year:04d}{self.number:02d}"

    @property
    def first(self) -> date:
        """The first day."""
        return date(self.year, self.number, 1)

    @property
    def last(self) -> date:
        """The last day."""
        return date(self.year, self.number, calendar.monthrange(self.year, self.number)[1])

    @property
    def days(self) -> tuple[date, ...]:
        """All days."""
        return tuple(self.first + timedelta(days=n) for n in range(self.last.day))

    @property
    def invoiced_at(self) -> datetime:
        """The time at which the invoice is issued."""
        following = self.plus(1)
        return datetime(
            following.year, following.number, INVOICE_DAY, INVOICE_HOUR, INVOICE_MINUTE, tzinfo=UTC
        )

    def plus(self, months: int) -> "Month":
        """Return the month a number of months later, or earlier if negative.

        >>> str(Month(2026, 1).plus(-2))
        '2025-11'
        """
        years, month = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(years, month + 1)

    @staticmethod
    def of(moment: datetime | date) -> "Month":
        """Return the month that contains a date or time."""
        return Month(moment.year, moment.month)

    @staticmethod
    def parse(text: str) -> "Month":
        """Parse a month such as `2026-11`."""
        moment = datetime.strptime(text, "%Y-%m")
        return Month(moment.year, moment.month)
