"""Adds the lines of a landed version by currency.

Only the members `Total` and `Currency` of a line are decoded. Their names are case-insensitive, and
values can be numbers or strings. The arithmetic is exact, and memory use is bounded.
"""

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared.lines.json_lines import JSON_WHITESPACE
from shared.lines.members import MemberReader
from shared.money import EXACT, format_amount, parse_amount

MEMBERS = MemberReader("Total", "Currency")
CURRENCY = re.compile(r"[A-Z]{3}")
MAX_CURRENCIES = 100  # an invoice has one; limits the size of the row


@dataclass
class LineSums:
    """The sums by currency over any number of lines.

    `rows_without_total` is the number of lines without a readable total or currency. If `code` is
    not "", the lines cannot be read, and the error with this code is the reason.
    """

    rows: int = 0
    rows_without_total: int = 0
    by_currency: dict[str, Decimal] = field(default_factory=dict)
    code: str = ""

    def add(self, line: bytes) -> None:
        """Add one line; blank lines are ignored."""
        if not line.strip(JSON_WHITESPACE):
            return
        self.rows += 1
        amount = parse_line(line)
        if amount is not None:
            currency, total = amount
            if currency in self.by_currency or len(self.by_currency) < MAX_CURRENCIES:
                previous = self.by_currency.get(currency, Decimal(0))
                self.by_currency[currency] = EXACT.add(previous, total)
                return
        self.rows_without_total += 1

    def to_json(self) -> str:
        """Return the value of a table column, which `from_json` reads."""
        return json.dumps(
            {
                "rows": self.rows,
                "rows_without_total": self.rows_without_total,
                "sums": self.format_sums(),
                **({"code": self.code} if self.code else {}),
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str) -> "LineSums":
        """Return the sums of a column that `to_json` created."""
        values = json.loads(text)
        return LineSums(
            values["rows"],
            values["rows_without_total"],
            {currency: Decimal(total) for currency, total in values["sums"].items()},
            values.get("code", ""),
        )

    def format_sums(self) -> dict[str, str]:
        """Return the sum of each currency as an exact decimal string."""
        return {
            currency: format_amount(total, currency)
            for currency, total in sorted(self.by_currency.items())
        }


def parse_line(line: bytes) -> tuple[str, Decimal] | None:
    """Return the currency and the total of a line, or None if either is missing or ambiguous.

    >>> parse_line(b'{"Total": 12.30, "Currency": "USD"}')
    ('USD', Decimal('12.3'))
    >>> parse_line(b'{"TOTAL": "1e2", "currency": "eur"}')
    ('EUR', Decimal('1E+2'))
    """
    members = MEMBERS.read(line)
    if members is None:
        return None
    totals, currencies = members
    return _to_amount(totals[0], currencies[0]) if len(totals) == len(currencies) == 1 else None


def _to_amount(total: Any, currency: Any) -> tuple[str, Decimal] | None:
    if not isinstance(total, str) or not isinstance(currency, str):
        return None
    amount, code = parse_amount(total), currency.strip().upper()
    return (code, amount) if amount is not None and CURRENCY.fullmatch(code) else None
