"""The comparison of the sums of an invoice with its listed total."""

from decimal import Decimal
from typing import Any

import pytest

from shared.errors import CATALOGUE
from shared.invoices import Invoice
from shared.tie_out.comparison import compare, compare_stored
from shared.tie_out.line_sums import LineSums


def sums_of(**sums: str) -> LineSums:
    return LineSums(rows=3, by_currency={code: Decimal(total) for code, total in sums.items()})


def list_invoice(total: str | None, currency: str = "USD") -> Invoice:
    return Invoice("G1", currency=currency, total=None if total is None else Decimal(total))


@pytest.mark.parametrize(
    ("sums", "listed", "currency", "status", "difference", "code"),
    [
        (sums_of(USD="10.00"), "10", "USD", "tied_out", None, None),
        (sums_of(USD="10.004"), "10", "USD", "tied_out", None, None),
        (sums_of(USD="10.005"), "10", "USD", "off_by", "0.005", None),
        (sums_of(USD="9.99"), "10.00", "USD", "off_by", "-0.01", None),
        (sums_of(), "10.00", "USD", "off_by", "-10.00", None),
        (sums_of(USD="10", EUR="0"), "10", "USD", "tied_out", None, None),
        (sums_of(USD="10", EUR="1"), "10", "USD", "off_by", "0.00", None),
        (sums_of(), "0", "USD", "tied_out", None, None),
        (sums_of(), "0E-20", "USD", "tied_out", None, None),
        # The tolerance is half of the smallest unit of the currency.
        (sums_of(JPY="1000.4"), "1000", "JPY", "tied_out", None, None),
        (sums_of(JPY="1000.5"), "1000", "JPY", "off_by", "0.5", None),
        (sums_of(JPY="999"), "1000", "JPY", "off_by", "-1", None),
        (sums_of(KRW="-1000.49"), "-1000", "KRW", "tied_out", None, None),
        (sums_of(BHD="1.0004"), "1", "BHD", "tied_out", None, None),
        (sums_of(BHD="1.004"), "1", "BHD", "off_by", "0.004", None),
        (sums_of(BGN="1.004"), "1", "BGN", "tied_out", None, None),
        (sums_of(USD="10"), None, "USD", "no_total", None, "invoice_total_unknown"),
        (sums_of(USD="10"), "10", "", "no_total", None, "invoice_total_unknown"),
        (LineSums(2, 1, {"USD": Decimal(10)}), "10", "USD", "no_total", None, "rows_without_total"),
        (LineSums(code="proof_gzip"), "10", "USD", "no_total", None, "proof_gzip"),
    ],
)
def test_compare_returns_the_status(
    sums: LineSums, listed: str | None, currency: str, status: str, difference: Any, code: Any
) -> None:
    result = compare(sums, list_invoice(listed, currency))
    assert (result["status"], result.get("difference"), result.get("code")) == (
        status,
        difference,
        code,
    )
    assert code is None or code in CATALOGUE


def test_compare_invoice_that_was_never_listed_has_no_total() -> None:
    assert compare(sums_of(USD="10"), None)["code"] == "invoice_total_unknown"


def test_compare_stored_uses_the_newest_facts_of_the_invoice() -> None:
    stored = sums_of(USD="10").to_json()
    statuses = [
        (compare_stored(stored, list_invoice(total)) or {})["status"]
        for total in (None, "10", "12", "10.00")
    ]
    assert statuses == ["no_total", "tied_out", "off_by", "tied_out"]
    assert compare_stored("", list_invoice("10")) is None
