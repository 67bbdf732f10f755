"""What is known of an invoice, and which of them have exports. Pure: the facts of the list, whoever read it.

G016907411   new commerce: usage and reconciliation can be exported
D016907411   legacy commerce: named and left out
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.clock import iso, parse_iso
from shared.exports import BillingMonth


@dataclass(frozen=True)
class Invoice:
    """An invoice as listed. `issued` is aware UTC; None, "" where the list does not say. `total` is Microsoft's totalCharges.

    `document_type` and `invoice_type` are in snake_case whatever the spelling: invoice, void_note, adjustment_note,
    credit_note; recurring, one_time. `amends` is the invoice that this one replaces, `amended_by` the one that replaces it.
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

    @property
    def legacy(self) -> bool:
        """Legacy commerce: these exports are for new commerce, `G...` (graph-partner-billing, 6)."""
        return self.invoice_id.startswith("D")

    @property
    def voided(self) -> bool:
        return self.document_type == "void_note"


@dataclass(frozen=True)
class LeftOut:
    """An invoice that is not asked for, or something that is wrong with the list; `code` is one of shared/errors.py."""

    code: str
    invoice_id: str = ""


@dataclass(frozen=True)
class InvoiceList:
    """Each invoice once, in the order of the list. `complete` False: this is what was known before, not what is listed now."""

    invoices: tuple[Invoice, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    complete: bool = True


def why_left_out(invoice: Invoice) -> LeftOut | None:
    """None for an invoice that is to be asked for; an amendment is one like any other (graph-partner-billing, 10)."""
    if invoice.legacy:
        return LeftOut(code="invoice_legacy", invoice_id=invoice.invoice_id)
    if not invoice.invoice_id.startswith("G"):
        return LeftOut(code="invoice_unknown_kind", invoice_id=invoice.invoice_id)
    if invoice.voided:
        return LeftOut(code="invoice_voided", invoice_id=invoice.invoice_id)
    return None


def month_of(invoice: Invoice) -> BillingMonth | None:
    """The month that it bills: that of its period, else the one before its date; None where neither is known.

    The invoice of a month is issued on the 8th of the next (graph-partner-billing, 6).
    """
    if invoice.period_start is not None:
        return BillingMonth.of(invoice.period_start)
    return BillingMonth.of(invoice.issued).previous() if invoice.issued is not None else None


def settles_on(issued: datetime | None, settle_days: int) -> date | None:
    """The day from which an invoice's data count as final."""
    return (
        (issued.astimezone(UTC) + timedelta(days=settle_days)).date()
        if issued is not None
        else None
    )


def facts_of(invoice: Invoice) -> dict[str, Any]:
    """As the landing's marker and the version's row tell of it: the date, the total as a text, currency, type, what it amends."""
    return {
        "date": iso(invoice.issued) if invoice.issued else None,
        "total": str(invoice.total) if invoice.total is not None else None,
        "currency": invoice.currency or None,
        "type": invoice.document_type,
        "amends": invoice.amends or None,
    }


def row_of(invoice: Invoice) -> dict[str, str]:
    """As one row of text columns; invoice_of() reads it."""
    return {
        "invoice_id": invoice.invoice_id,
        "issued": iso(invoice.issued) if invoice.issued else "",
        "currency": invoice.currency,
        "total": str(invoice.total) if invoice.total is not None else "",
        "document_type": invoice.document_type,
        "invoice_type": invoice.invoice_type,
        "amends": invoice.amends,
        "amended_by": invoice.amended_by,
        "period_start": iso(invoice.period_start) if invoice.period_start else "",
    }


def invoice_of(row: Mapping[str, Any]) -> Invoice:
    def moment(name: str) -> datetime | None:
        return parse_iso(row[name]) if row.get(name) else None

    def text(name: str) -> str:
        return str(row.get(name, ""))

    try:
        total = Decimal(text("total")) if row.get("total") else None
    except InvalidOperation:
        total = None
    return Invoice(
        text("invoice_id"),
        issued=moment("issued"),
        currency=text("currency"),
        total=total,
        document_type=text("document_type") or "invoice",
        invoice_type=text("invoice_type"),
        amends=text("amends"),
        amended_by=text("amended_by"),
        period_start=moment("period_start"),
    )


def left_out_text(left_out: tuple[LeftOut, ...]) -> str:
    """As one column: the code and the invoice of each."""
    return json.dumps([[one.code, one.invoice_id] for one in left_out], separators=(",", ":"))


def read_left_out(text: str) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(code=code, invoice_id=invoice_id) for code, invoice_id in json.loads(text or "[]")
    )
