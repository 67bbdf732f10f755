"""Invoices as the invoice list describes them, and which of them can be exported.

G016907411   new commerce: usage and reconciliation can be exported
D016907411   legacy commerce: reported as left out
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.clock import iso, parse_iso
from shared.exports import BillingMonth
from shared.money import format_amount, parse_amount


@dataclass(frozen=True)
class Invoice:
    """An invoice from the list. A field is None or "" if the list does not contain its value.

    `issued` is aware and in UTC. `total` is Microsoft's totalCharges. `document_type` (invoice,
    void_note, adjustment_note, credit_note) and `invoice_type` (recurring, one_time) are converted
    to snake_case. `amends` is the invoice that this one replaces, and `amended_by` the one that
    replaces it. `is_requested` is true for an ID of INVOICE_IDS, which is requested whatever its
    kind.
    """

    invoice_id: str
    issued: datetime | None = None
    currency: str = ""
    total: Decimal | None = None
    document_type: str = "invoice"
    invoice_type: str = ""
    amends: str = ""
    amended_by: str = ""
    period_start: datetime | None = None
    is_requested: bool = False

    @property
    def legacy(self) -> bool:
        """Whether it is legacy commerce, which the exports do not contain."""
        return self.invoice_id.startswith("D")

    @property
    def voided(self) -> bool:
        return self.document_type == "void_note"


@dataclass(frozen=True)
class LeftOut:
    """An invoice that is not requested, or a fault of the list. `code` is from shared/errors.py.

    `issued` is the date of the invoice, if known.
    """

    code: str
    invoice_id: str = ""
    issued: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True)
class InvoiceList:
    """The invoices, each once, in the order of the list.

    If `complete` is false, the list was not available or not complete, `left_out` contains the
    reason, and these include the previously known invoices.
    """

    invoices: tuple[Invoice, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    complete: bool = True


# What no export contains, or what is requested in another way. Any other code of `left_out` means
# that data can exist that the plan does not request.
EXCLUSIONS = frozenset(
    {
        "invoice_duplicate",
        "invoice_legacy",
        "invoice_list_empty",
        "invoice_unknown_kind",
        "invoice_voided",
    }
)


def is_plan_complete(left_out: Iterable[LeftOut]) -> bool:
    """Return whether a plan requests everything that can have data.

    >>> is_plan_complete([LeftOut("invoice_legacy", "D016907411")])
    True
    >>> is_plan_complete([LeftOut("partner_center_unauthorized")])
    False
    """
    return all(item.code in EXCLUSIONS for item in left_out)


def why_left_out(invoice: Invoice) -> LeftOut | None:
    """Return why an invoice is not requested, or None if it is.

    Amendments are requested like other invoices.
    """
    if invoice.is_requested:
        return None
    if invoice.legacy:
        return LeftOut(code="invoice_legacy", invoice_id=invoice.invoice_id)
    if not invoice.invoice_id.startswith("G"):
        return LeftOut(code="invoice_unknown_kind", invoice_id=invoice.invoice_id)
    if invoice.voided:
        return LeftOut(code="invoice_voided", invoice_id=invoice.invoice_id)
    return None


def month_of(invoice: Invoice) -> BillingMonth | None:
    """Return the month of the billing period, or the month before the date, or None.

    The invoice of a month is issued on the 8th of the next month (Microsoft Learn, "Billing
    types").
    """
    if invoice.period_start is not None:
        return BillingMonth.of(invoice.period_start)
    return BillingMonth.of(invoice.issued).previous() if invoice.issued is not None else None


def settles_on(issued: datetime | None, settle_days: int) -> date | None:
    """Return the day from which the data of an invoice is considered final."""
    return (
        (issued.astimezone(UTC) + timedelta(days=settle_days)).date()
        if issued is not None
        else None
    )


def facts_of(invoice: Invoice) -> dict[str, Any]:
    """Return the facts for the completion marker and the version row. The total is a string."""
    return {
        "date": iso(invoice.issued) if invoice.issued else None,
        "total": _format_total(invoice),
        "currency": invoice.currency or None,
        "type": invoice.document_type,
        "amends": invoice.amends or None,
    }


def row_of(invoice: Invoice) -> dict[str, str]:
    """Return the invoice as a row of string columns, which `invoice_of` reads."""
    return {
        "invoice_id": invoice.invoice_id,
        "issued": iso(invoice.issued) if invoice.issued else "",
        "currency": invoice.currency,
        "total": _format_total(invoice) or "",
        "document_type": invoice.document_type,
        "invoice_type": invoice.invoice_type,
        "amends": invoice.amends,
        "amended_by": invoice.amended_by,
        "period_start": iso(invoice.period_start) if invoice.period_start else "",
    }


def _format_total(invoice: Invoice) -> str | None:
    return None if invoice.total is None else format_amount(invoice.total, invoice.currency)


def invoice_of(row: Mapping[str, Any]) -> Invoice:
    """Return the invoice of a row that `row_of` created."""

    def moment(name: str) -> datetime | None:
        return parse_iso(row[name]) if row.get(name) else None

    def text(name: str) -> str:
        return str(row.get(name, ""))

    return Invoice(
        text("invoice_id"),
        issued=moment("issued"),
        currency=text("currency"),
        total=parse_amount(text("total")),
        document_type=text("document_type") or "invoice",
        invoice_type=text("invoice_type"),
        amends=text("amends"),
        amended_by=text("amended_by"),
        period_start=moment("period_start"),
    )


def left_out_text(left_out: tuple[LeftOut, ...]) -> str:
    """Return the value of a table column, which `read_left_out` reads."""
    return json.dumps([[item.code, item.invoice_id] for item in left_out], separators=(",", ":"))


def read_left_out(text: str) -> tuple[LeftOut, ...]:
    """Return the items of a column that `left_out_text` created."""
    return tuple(
        LeftOut(code=code, invoice_id=invoice_id) for code, invoice_id in json.loads(text or "[]")
    )
