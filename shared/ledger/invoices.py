"""The invoices as they were last listed, in their own partition of the catalogue table.

Cycles use them while Partner Center is unavailable, and landed versions take the date and the
total of their invoice from them.
"""

from collections.abc import Iterable

from shared.invoices import Invoice, invoice_of, row_of
from shared.ledger.tables import Tables

PARTITION = "invoices"


class Invoices:
    """Access to the invoice rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def save(self, invoices: Iterable[Invoice]) -> tuple[Invoice, ...]:
        """Store the listed invoices, and return them as stored. Idempotent.

        Invoices that are no longer listed stay. A value that the list does not contain now, but
        contained before, is kept.
        """
        known = {invoice.invoice_id: row_of(invoice) for invoice in await self.list()}
        rows = {
            invoice.invoice_id: known.get(invoice.invoice_id, {})
            | {name: value for name, value in row_of(invoice).items() if value}
            for invoice in invoices
        }
        changed = {
            invoice_id: row for invoice_id, row in rows.items() if known.get(invoice_id) != row
        }
        if changed:
            await self._tables.upsert_many("catalogue", PARTITION, changed)
        return tuple(map(invoice_of, rows.values()))

    async def get(self, invoice_id: str) -> Invoice | None:
        """Return an invoice, or None if it was never listed."""
        row = await self._tables.get("catalogue", PARTITION, invoice_id)
        return invoice_of(row.values) if row else None

    async def list_by_id(self) -> dict[str, Invoice]:
        """Return all invoices, by ID."""
        return {invoice.invoice_id: invoice for invoice in await self.list()}

    async def list(self) -> list[Invoice]:
        """Return all invoices, newest first; invoices without a date are last."""
        invoices = [
            invoice_of(row.values) async for row in self._tables.list("catalogue", PARTITION)
        ]
        return sorted(
            invoices,
            key=lambda invoice: (
                invoice.issued.timestamp() if invoice.issued else 0.0,
                invoice.invoice_id,
            ),
            reverse=True,
        )
