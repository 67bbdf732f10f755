"""What a landed version is compared with: the mean of those before it.

An alert query sees two days of log, so the event that tells of a landing carries the mean; nothing is decided by it.

    unbilled   the versions of the same key before it: a month that grows
    billed     the newest version of each other invoice of the dataset, attribute set and, where known, currency
"""

from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from shared.clock import parse_iso
from shared.exports import ExportKey, InvoiceScope
from shared.ledger.ledger import Ledger
from shared.ledger.versions import Version

MAX_VERSIONS = 7
LANDED = frozenset({"complete", "pruned"})  # what retention removed keeps its totals


@dataclass(frozen=True)
class _Totals:
    """`age`: of the data, then of the day they were first seen."""

    age: tuple[datetime, datetime]
    rows: int
    bytes: int


@dataclass(frozen=True)
class TrailingAverages:
    """`compared` versions had so many rows and bytes on average; 0, None, None where there is nothing to compare with."""

    compared: int = 0
    rows: float | None = None
    bytes: float | None = None


async def get_trailing_averages(ledger: Ledger, version: Version) -> TrailingAverages:
    """The newest 7 at most of those that `version` is like."""
    key = ExportKey.parse(version.key)
    alike = await (
        _invoices(ledger, key)
        if isinstance(key.scope, InvoiceScope)
        else _before(ledger, key, version)
    )
    newest = sorted(alike, key=lambda one: one.age, reverse=True)[:MAX_VERSIONS]
    if not newest:
        return TrailingAverages()
    return TrailingAverages(
        len(newest),
        round(fmean(one.rows for one in newest), 1),
        round(fmean(one.bytes for one in newest), 1),
    )


async def _before(ledger: Ledger, key: ExportKey, version: Version) -> list[_Totals]:
    return [
        _Totals(one.age[:2], one.rows, one.bytes)
        async for one in ledger.versions.list_by_key(key)
        if one.state in LANDED and one.age < version.age
    ]


async def _invoices(ledger: Ledger, key: ExportKey) -> list[_Totals]:
    assert isinstance(key.scope, InvoiceScope)
    currencies = {invoice.invoice_id: invoice.currency for invoice in await ledger.invoices.list()}
    own = currencies.get(key.scope.invoice_id, "")
    return [
        _Totals((parse_iso(one.created_at), parse_iso(one.first_seen)), one.rows, one.bytes)
        async for one in ledger.catalogue.list_by_dataset(key.dataset)
        if one.version
        and one.key != str(key)
        and one.attribute_set == key.attribute_set.value
        and currencies.get(one.invoice_id, "") == own
    ]
