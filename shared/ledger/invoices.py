"""The invoices as they were last listed: beside the catalogue's datasets, in a partition of their own.

What cycles fall back on while Partner Center does not answer, and what tells a landed version its invoice's date and total.
"""

from collections.abc import Iterable

from shared.invoices import Invoice, invoice_of, row_of
from shared.ledger.tables import Tables

PARTITION = "invoices"


class Invoices:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def save(self, invoices: Iterable[Invoice]) -> None:
        """Repeated, it writes the same; an invoice that is listed no more stays."""
        rows = {invoice.invoice_id: row_of(invoice) for invoice in invoices}
        known = {invoice.invoice_id: row_of(invoice) for invoice in await self.list()}
        changed = {
            invoice_id: row for invoice_id, row in rows.items() if known.get(invoice_id) != row
        }
        if changed:
            await self._tables.upsert_many("catalogue", PARTITION, changed)

    async def get(self, invoice_id: str) -> Invoice | None:
        row = await self._tables.get("catalogue", PARTITION, invoice_id)
        return invoice_of(row.values) if row else None

    async def list(self) -> list[Invoice]:
        """Newest first, those without a date at the end."""
        found = [invoice_of(row.values) async for row in self._tables.list("catalogue", PARTITION)]
        return sorted(
            found,
            key=lambda one: (one.issued.timestamp() if one.issued else 0.0, one.invoice_id),
            reverse=True,
        )
