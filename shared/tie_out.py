"""Compares the sum of an invoice's lines with the total that the invoice lists.

The status is one of:

    tied_out   The sum equals the listed total to the cent.
    off_by     The sum differs; `difference` is the sum minus the listed total.
    no_total   There is nothing to compare: the invoice lists no total, or at least one line has no
               readable amount.

Only the members `Total` and `Currency` of a line are decoded. Their names are case-insensitive, and
values can be numbers or strings. All arithmetic uses Decimal. Memory use is bounded.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Literal

from shared.lines.line_splitter import LineSplitter
from shared.lines.text_reader import TextReader

Status = Literal["tied_out", "off_by", "no_total"]

# In an object that contains no other object, an unescaped quote followed by a letter starts a name
# or a string value, and only a name is followed by a colon. The expression is therefore exact for
# such lines; all other lines are parsed as JSON.
MEMBER = re.compile(
    rb'(?<!\\)"(total|currency)"\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}\]"]+)', re.IGNORECASE
)
CURRENCY = re.compile(r"[A-Z]{3}")
# Precise enough to add a billion 15-digit amounts without rounding.
EXACT = Context(prec=60)
# A smaller difference results from the number of decimals, not from a missing amount.
MAX_DIFFERENCE = Decimal("0.005")
ROW_FIELDS = (
    "status",
    "difference",
    "code",
    "currency",
    "listed_total",
    "rows",
    "rows_without_total",
)


@dataclass
class LineTotals:
    """The sums by currency over any number of lines.

    `unread` is the number of lines without a readable total or currency.
    """

    rows: int = 0
    unread: int = 0
    by_currency: dict[str, Decimal] = field(default_factory=dict)

    def add(self, line: bytes) -> None:
        """Add one line; blank lines are ignored."""
        if not line.strip():
            return
        self.rows += 1
        amount = parse_amount(line)
        if amount is None:
            self.unread += 1
        else:
            currency, total = amount
            self.by_currency[currency] = EXACT.add(
                self.by_currency.get(currency, Decimal(0)), total
            )


class BlobTotalReader:
    """Adds the lines of one blob to the totals. The blob can be gzip or plain text."""

    def __init__(self, totals: LineTotals) -> None:
        self._lines = LineSplitter(totals.add)
        self._text = TextReader(self._lines.feed)

    def feed(self, data: bytes) -> None:
        """Read the next stored bytes.

        Raises:
            InvalidDataError: `proof_gzip`, `proof_bomb` or `proof_lines`.
        """
        self._text.feed(data)

    def finish(self) -> None:
        """Add the last line; raise `proof_gzip` if the blob is truncated."""
        self._text.finish()
        self._lines.finish()


def parse_amount(line: bytes) -> tuple[str, Decimal] | None:
    """Return the currency and the total of a line, or None if either is missing or ambiguous.

    >>> parse_amount(b'{"Total": 12.30, "Currency": "USD"}')
    ('USD', Decimal('12.30'))
    >>> parse_amount(b'{"TOTAL": "1e2", "currency": "eur"}')
    ('EUR', Decimal('1E+2'))
    """
    members = (
        [(name.lower(), value) for name, value in MEMBER.findall(line)]
        if line.count(b"{") == 1
        else []
    )
    if len(members) == 2 and members[0][0] != members[1][0]:
        values = dict(members)
        return _to_amount(_parse_value(values[b"total"]), _parse_value(values[b"currency"]))
    try:
        document = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    total, currency = (
        [value for key, value in document.items() if key.lower() == name]
        for name in ("total", "currency")
    )
    return _to_amount(total[0], currency[0]) if len(total) == len(currency) == 1 else None


def _parse_value(text: bytes) -> Any:
    if text[:1] != b'"':
        return text.decode("ascii", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return None


def _to_amount(total: Any, currency: Any) -> tuple[str, Decimal] | None:
    if (
        isinstance(total, bool)
        or not isinstance(total, str | int | Decimal)
        or not isinstance(currency, str)
    ):
        return None
    try:
        amount = Decimal(total.strip() if isinstance(total, str) else total)
    except InvalidOperation:
        return None
    code = currency.strip().upper()
    is_valid = amount.is_finite() and abs(amount.adjusted()) < 20 and CURRENCY.fullmatch(code)
    return (code, amount) if is_valid else None


def compare(totals: LineTotals, listed: Decimal | None, currency: str) -> dict[str, Any]:
    """Compare the totals with the listed total of the invoice.

    Returns:
        The members of the tie-out report: `status`, the listed total and the sum of every currency
        as strings, the row counts, and `difference` or `code` depending on the status.
    """
    report: dict[str, Any] = {
        "currency": currency or None,
        "listed_total": None if listed is None else str(listed),
        "sums": {code: str(total) for code, total in sorted(totals.by_currency.items())},
        "rows": totals.rows,
        "rows_without_total": totals.unread,
    }
    if listed is None or not currency:
        return {"status": "no_total", "code": "invoice_total_unknown", **report}
    if totals.unread:
        return {"status": "no_total", "code": "rows_without_total", **report}
    has_foreign = any(total for code, total in totals.by_currency.items() if code != currency)
    difference = EXACT.subtract(totals.by_currency.get(currency, Decimal(0)), listed)
    if abs(difference) < MAX_DIFFERENCE and not has_foreign:
        return {"status": "tied_out", **report}
    return {"status": "off_by", "difference": str(difference), **report}


def to_row_json(report: Mapping[str, Any]) -> str:
    """Return the part of a report that the version row contains, as JSON.

    The sums of the other currencies are omitted.
    """
    return json.dumps(
        {name: report[name] for name in ROW_FIELDS if report.get(name) is not None},
        separators=(",", ":"),
    )
