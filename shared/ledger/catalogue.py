"""The catalogue table: the newest landed version and the last outcome of each export key.

The rows are derived from the version rows. Every run that ends refreshes the row of its key, and so
does every damage that is found. A key that never had data and whose last request Microsoft rejected
is not listed; only planning uses its row.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from typing import Any

from shared.clock import parse_iso
from shared.exports import Dataset, ExportKey, MonthScope
from shared.ledger.keys import scope_key
from shared.ledger.runs import Run
from shared.ledger.tables import Continuation, Row, RowFilter, Tables
from shared.ledger.versions import Version, Versions, get_newest
from shared.optimistic_concurrency import CONFLICT, Conflict, update


@dataclass(frozen=True)
class CatalogueEntry:
    """A row of the catalogue table.

    `version` is "" if no version has landed, or if all of them are damaged. The `last_*` columns
    describe the run that ended last, whatever its outcome.
    """

    key: str
    version: str = ""
    manifest_etag: str = ""
    path: str = ""
    created_at: str = ""
    first_seen: str = ""
    landed_at: str = ""
    blobs: int = 0
    bytes: int = 0
    rows: int = 0
    proof: str = ""
    settles_on: str = ""
    sums: str = ""  # JSON, of `version`; see shared/tie_out/line_sums.py
    invoice_id: str = ""
    billing_month: str = ""
    currency_code: str = ""
    attribute_set: str = ""
    damaged_version: str = ""  # a version that is newer than `version`, but is damaged
    damaged_at: str = ""
    last_outcome: str = ""
    last_code: str = ""
    last_run_id: str = ""
    last_ended_at: str = ""

    @property
    def known_rows(self) -> int | None:
        """The number of rows, or None if the proof did not count them."""
        return None if self.proof == "transfer" else self.rows

    @property
    def is_rejected(self) -> bool:
        """Whether the key never had data and Microsoft rejected its last request.

        The invoice ID or the currency of such a key is probably mistyped.
        """
        has_data = self.version or self.damaged_version
        return not has_data and self.last_code in REJECTED_CODES


REJECTED_CODES = ("graph_bad_request", "graph_not_found")
COLUMNS = tuple(field.name for field in fields(CatalogueEntry))
LAST_RUN_COLUMNS = ("last_outcome", "last_code", "last_run_id", "last_ended_at")
# The columns of the newest complete version, which have the same names in the version row.
VERSION_COLUMNS = (
    "version",
    "manifest_etag",
    "path",
    "created_at",
    "first_seen",
    "landed_at",
    "blobs",
    "bytes",
    "rows",
    "proof",
    "settles_on",
    "sums",
)


class Catalogue:
    """Access to the catalogue rows."""

    def __init__(self, tables: Tables, versions: Versions) -> None:
        self._tables, self._versions = tables, versions

    async def refresh(self, key: ExportKey, run: Run | None = None) -> None:
        """Update the row of an export key. Idempotent.

        The versions are read after the row that they replace, so that a slow caller never replaces
        the result of a newer one.

        Args:
            key: The export key.
            run: The run that ended, if the row is refreshed for this reason.
        """
        partition, row_key = key.dataset.value, scope_key(key)

        async def write(row: Row | None) -> Conflict | None:
            current = dict(row.values) if row else {}
            versions = [version async for version in self._versions.list_by_key(key)]
            values = _merge_values(key, versions, run, current)
            if row is None:
                etag = await self._tables.insert("catalogue", partition, row_key, values)
            elif all(current.get(name) == value for name, value in values.items()):
                return None
            else:
                etag = await self._tables.replace("catalogue", partition, row_key, values, row.etag)
            return None if etag else CONFLICT

        await update(
            lambda: self._tables.get("catalogue", partition, row_key),
            write,
            contended_code="catalogue_contended",
            component="Catalogue",
        )

    async def save_sums(self, key: ExportKey, version: Version) -> None:
        """Copy the sums of a version to the row of its key, if the row names this version."""
        partition, row_key = key.dataset.value, scope_key(key)

        async def write(row: Row | None) -> Conflict | None:
            values = row.values if row else {}
            if values.get("version") != version.version or values.get("sums") == version.sums:
                return None
            assert row is not None
            changes = {"sums": version.sums}
            etag = await self._tables.merge("catalogue", partition, row_key, changes, row.etag)
            return None if etag else CONFLICT

        await update(
            lambda: self._tables.get("catalogue", partition, row_key),
            write,
            contended_code="catalogue_contended",
            component="Catalogue",
        )

    async def get(self, key: ExportKey) -> CatalogueEntry | None:
        """Return the entry of an export key, or None if no run of the key has ended."""
        row = await self._tables.get("catalogue", key.dataset.value, scope_key(key))
        return _entry_from_row(row) if row else None

    async def get_page(
        self,
        dataset: Dataset,
        *,
        billing_month: str = "",
        limit: int,
        continuation: Continuation | None = None,
    ) -> tuple[list[CatalogueEntry], Continuation | None]:
        """Return a page of the entries of a dataset, ordered by scope, in one request.

        The page does not contain rejected keys, so it can be shorter than `limit`.
        """
        row_filter = RowFilter(equal={"billing_month": billing_month} if billing_month else {})
        page = await self._tables.get_page(
            "catalogue", dataset.value, where=row_filter, limit=limit, continuation=continuation
        )
        entries = [_entry_from_row(row) for row in page.rows]
        return [entry for entry in entries if not entry.is_rejected], page.continuation

    async def list_by_dataset(self, dataset: Dataset) -> AsyncIterator[CatalogueEntry]:
        """List the entries of a dataset, ordered by scope."""
        async for row in self._tables.list("catalogue", dataset.value):
            yield _entry_from_row(row)


def _entry_from_row(row: Row) -> CatalogueEntry:
    return CatalogueEntry(**{name: row.values[name] for name in COLUMNS if name in row.values})


def _merge_values(
    key: ExportKey, versions: list[Version], run: Run | None, current: dict[str, Any]
) -> dict[str, Any]:
    """Return the columns of the row."""
    entry: dict[str, Any] = {"key": str(key), "attribute_set": key.attribute_set.value}
    newest = get_newest(versions, "complete")
    shown = newest or Version(str(key), "", 0, "", "", "")
    entry |= {name: getattr(shown, name) for name in VERSION_COLUMNS}
    damaged = get_newest(versions, "damaged")
    is_newest = damaged is not None and (newest is None or damaged.age > newest.age)
    entry |= {
        "damaged_version": damaged.version if damaged and is_newest else "",
        "damaged_at": damaged.damaged_at if damaged and is_newest else "",
    }
    if isinstance(key.scope, MonthScope):
        entry |= {"billing_month": str(key.scope.month), "currency_code": key.scope.currency}
    else:
        entry["invoice_id"] = key.scope.invoice_id
        if shown.billing_month:  # for billed keys, only the root directory contains the month
            entry["billing_month"] = shown.billing_month
    entry = current | entry  # `replace` deletes the columns that are not written
    last_ended_at = current.get("last_ended_at")
    if run is None or (last_ended_at and parse_iso(last_ended_at) > parse_iso(run.ended_at)):
        return entry | {name: current.get(name, "") for name in LAST_RUN_COLUMNS}
    return entry | {
        "last_outcome": run.outcome,
        "last_code": run.code,
        "last_run_id": run.run_id,
        "last_ended_at": run.ended_at,
    }
