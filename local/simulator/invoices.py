"""The partner's invoices over time: one per month and currency, and a legacy invoice."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from local.simulator.behaviour import Behaviour
from local.simulator.billing_months import Month
from local.simulator.data_reconciliation import invoice_total, reconciliation_lines
from local.simulator.data_usage import Period
from local.simulator.partner import Customer, Partner


@dataclass(frozen=True)
class Invoice:
    """An invoice. `D...` invoices are legacy and have no export. `total` includes tax."""

    invoice_id: str
    month: Month
    currency: str
    issued: datetime
    total: Decimal
    legacy: bool = False
    document_type: str = "invoice"  # or "void_note"
    amends: str | None = None
    amended_by: str | None = None


class InvoiceBook:
    """The invoices issued up to now. The first month depends on when the object is created."""

    def __init__(
        self,
        seed: int,
        partner: Partner,
        customers: tuple[Customer, ...],
        now: Callable[[], datetime],
        behaviour: Callable[[], Behaviour],
    ) -> None:
        self._seed, self._partner, self._customers, self._now, self._behaviour = (
            seed,
            partner,
            customers,
            now,
            behaviour,
        )
        newest = _newest_invoiced(now())
        self._opened_at = newest
        self._first = newest.plus(1 - partner.invoice_months)
        self._totals: dict[tuple[Month, str], Decimal] = {}
        self._lock = threading.Lock()
        # The totals that the list contains instead of those of the data; None: no total.
        self.listed_totals: dict[str, Decimal | None] = {}

    def invoices(self) -> tuple[Invoice, ...]:
        """Return the issued invoices, oldest first."""
        return tuple(invoice for invoice in self._all() if invoice.issued <= self._now())

    def invoice(self, invoice_id: str) -> Invoice:
        """Return an invoice. Raises KeyError if it does not exist or has not been issued yet."""
        for invoice in self.invoices():
            if invoice.invoice_id == invoice_id:
                return invoice
        raise KeyError(invoice_id)

    def _all(self) -> list[Invoice]:
        newest, month, invoices = _newest_invoiced(self._now()), self._first, list[Invoice]()
        while month <= newest:
            for currency in self._partner.currencies:
                amended = month == newest and self._behaviour().amended_invoice == "reissued"
                invoices.extend(
                    self._amended(month, currency) if amended else [self._modern(month, currency)]
                )
            month = month.plus(1)
        letters = "QXR" if self._behaviour().legacy_invoice_id == "letters" else ""
        invoices.append(
            Invoice(
                self._number("D", self._opened_at, "legacy") + letters,
                self._opened_at,
                self._partner.currencies[0],
                self._opened_at.invoiced_at,
                Decimal("1250.40"),
                legacy=True,
            )
        )
        return sorted(invoices, key=lambda invoice: (invoice.issued, invoice.invoice_id))

    def _modern(self, month: Month, currency: str) -> Invoice:
        return Invoice(
            self._number("G", month, currency),
            month,
            currency,
            month.invoiced_at,
            self._total(month, currency),
        )

    def _amended(self, month: Month, currency: str) -> list[Invoice]:
        first, second = (
            self._number("G", month, currency),
            self._number("G", month, f"{currency} reissued"),
        )
        total, issued = self._total(month, currency), month.invoiced_at
        return [
            Invoice(
                first, month, currency, issued, total, document_type="void_note", amended_by=second
            ),
            Invoice(second, month, currency, issued + timedelta(minutes=40), total, amends=first),
        ]

    def _number(self, kind: str, month: Month, subject: str) -> str:
        source = Random(f"invoice {self._seed} {month} {subject}")
        return f"{kind}{source.randrange(10_000_000, 100_000_000):09d}"

    def _total(self, month: Month, currency: str) -> Decimal:
        with self._lock:
            if (month, currency) not in self._totals:
                lines = reconciliation_lines(
                    self._seed, self._customers, Period(month, currency, month.last)
                )
                self._totals[month, currency] = invoice_total(lines)
            return self._totals[month, currency]


def _newest_invoiced(now: datetime) -> Month:
    month = Month.of(now).plus(-1)
    return month if month.invoiced_at <= now else month.plus(-1)
