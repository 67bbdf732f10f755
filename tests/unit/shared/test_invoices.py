"""The stored invoices keep the values that a later list does not contain."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from shared.invoices import Invoice
from shared.ledger.invoices import Invoices
from tests.support.in_memory import MemoryTables

FULL = Invoice(
    "G016907411",
    issued=datetime(2026, 11, 8, 7, 13, tzinfo=UTC),
    currency="USD",
    total=Decimal("12.50"),
    document_type="void_note",
    invoice_type="recurring",
    amended_by="G016907412",
)


async def test_save_of_short_entry_keeps_known_values() -> None:
    invoices = Invoices(MemoryTables())
    assert await invoices.save([FULL]) == (FULL,)
    short = Invoice("G016907411", total=Decimal(0), document_type="void_note")
    saved = await invoices.save([short, Invoice("G016907412")])
    expected = replace(FULL, total=Decimal(0))
    assert saved == (expected, Invoice("G016907412"))
    assert await invoices.get("G016907411") == expected
