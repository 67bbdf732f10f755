"""Compares the sums of a version's lines with the newest facts of its invoice.

The status is one of:

    tied_out   The sum equals the listed total: the difference is less than half of the smallest
               unit of the currency.
    off_by     The sum differs; `difference` is the sum minus the listed total.
    no_total   There is nothing to compare; `code` is the reason.
"""

from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

from shared.invoices import Invoice
from shared.money import EXACT, format_amount, get_smallest_unit
from shared.tie_out.line_sums import LineSums


class Comparison(TypedDict):
    """A comparison. All amounts are exact decimal strings."""

    status: Literal["tied_out", "off_by", "no_total"]
    difference: NotRequired[str]
    code: NotRequired[str]
    currency: str | None
    listed_total: str | None
    sums: dict[str, str]
    rows: int
    rows_without_total: int


def compare(sums: LineSums, invoice: Invoice | None) -> Comparison:
    """Compare the sums with the listed total of the invoice; None if it was never listed."""
    currency = invoice.currency if invoice else ""
    listed = invoice.total if invoice else None
    result: Comparison = {
        "status": "no_total",
        "currency": currency or None,
        "listed_total": None if listed is None else format_amount(listed, currency),
        "sums": sums.format_sums(),
        "rows": sums.rows,
        "rows_without_total": sums.rows_without_total,
    }
    if sums.code:
        return {**result, "code": sums.code}
    if listed is None or not currency:
        return {**result, "code": "invoice_total_unknown"}
    if sums.rows_without_total:
        return {**result, "code": "rows_without_total"}
    others = dict(sums.by_currency)
    difference = EXACT.subtract(others.pop(currency, Decimal(0)), listed)
    # A smaller difference results from the number of decimals, not from a missing amount.
    is_equal = EXACT.multiply(2, EXACT.abs(difference)) < get_smallest_unit(currency)
    if is_equal and not any(others.values()):
        return {**result, "status": "tied_out"}
    return {**result, "status": "off_by", "difference": format_amount(difference, currency)}


def compare_stored(sums: str, invoice: Invoice | None) -> Comparison | None:
    """Return the current comparison of a row's column `sums`, or None if the column is empty."""
    return compare(LineSums.from_json(sums), invoice) if sums else None
