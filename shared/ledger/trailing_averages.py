"""The average size of earlier versions, with which a landed version is compared.

An alert query covers only two days of logs, so the event of a landed version contains the
averages. The app makes no decisions based on them.

    unbilled   earlier versions of the same key, whose month is still growing
    billed     the newest version of each other invoice with the same dataset, attribute set and,
               where known, currency
"""

from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from shared.clock import parse_iso
from shared.exports import ExportKey, InvoiceScope
from shared.ledger.ledger import Ledger
from shared.ledger.versions import ONCE_COMPLETE, Version

MAX_VERSIONS = 7


@dataclass(frozen=True)
class _Totals:
    """The totals of a version.

    `age` orders versions by the timestamp of the data, then by the time when the app first found
    them.
    """

    age: tuple[datetime, datetime]
    rows: int | None
    bytes: int


@dataclass(frozen=True)
class TrailingAverages:
    """The average rows and bytes of `compared` versions; None if there are no such versions."""

    compared: int = 0
    rows: float | None = None
    bytes: float | None = None


async def get_trailing_averages(ledger: Ledger, version: Version) -> TrailingAverages:
    """Return the averages of the newest 7 versions that are comparable with `version`."""
    key = ExportKey.parse(version.key)
    if isinstance(key.scope, InvoiceScope):
        comparable = await _get_other_invoices(ledger, key, key.scope)
    else:
        comparable = await _get_earlier_versions(ledger, key, version)
    newest = sorted(comparable, key=lambda totals: totals.age, reverse=True)[:MAX_VERSIONS]
    if not newest:
        return TrailingAverages()
    rows = [totals.rows for totals in newest if totals.rows is not None]
    return TrailingAverages(
        len(newest),
        round(fmean(rows), 1) if rows else None,
        round(fmean(totals.bytes for totals in newest), 1),
    )


async def _get_earlier_versions(ledger: Ledger, key: ExportKey, version: Version) -> list[_Totals]:
    return [
        _Totals(earlier.age[:2], earlier.known_rows, earlier.bytes)
        async for earlier in ledger.versions.list_by_key(key)
        if earlier.state in ONCE_COMPLETE and earlier.age < version.age
    ]


async def _get_other_invoices(ledger: Ledger, key: ExportKey, scope: InvoiceScope) -> list[_Totals]:
    currencies = {invoice.invoice_id: invoice.currency for invoice in await ledger.invoices.list()}
    currency = currencies.get(scope.invoice_id, "")
    return [
        _Totals(
            (parse_iso(entry.created_at), parse_iso(entry.first_seen)),
            entry.known_rows,
            entry.bytes,
        )
        async for entry in ledger.catalogue.list_by_dataset(key.dataset)
        if entry.version
        and entry.key != str(key)
        and entry.attribute_set == key.attribute_set.value
        and currencies.get(entry.invoice_id, "") == currency
    ]
