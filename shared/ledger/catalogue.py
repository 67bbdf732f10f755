"""The catalogue rows: what is landed, the newest version of every key. Derived from the version rows, so never wrong for long."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from typing import Any

from shared.clock import parse_iso
from shared.errors import InfrastructureError
from shared.exports import Dataset, ExportKey, MonthScope
from shared.ledger.keys import scope_key
from shared.ledger.runs import Run
from shared.ledger.tables import Continuation, Row, RowFilter, Tables
from shared.ledger.versions import Version
from shared.manifest import billing_month

MOST_TRIES = 50


@dataclass(frozen=True)
class CatalogueEntry:
    """`version` "" = nothing landed yet. `last_*` speak of the newest run that ended, whatever became of it."""

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
    settles_on: str = ""
    tie_out: str = ""  # JSON; see shared/tie_out.py
    invoice_id: str = ""
    billing_month: str = ""
    currency_code: str = ""
    attribute_set: str = ""
    last_outcome: str = ""
    last_code: str = ""
    last_run_id: str = ""
    last_ended_at: str = ""


COLUMNS = tuple(field.name for field in fields(CatalogueEntry))


class Catalogue:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def refresh(self, key: ExportKey, newest: Version | None, run: Run) -> None:
        """Makes the row say what the version rows and this ended run say; repeated, it changes nothing."""
        partition, row = key.dataset.value, scope_key(key)
        for _ in range(MOST_TRIES):
            there = await self._tables.get("catalogue", partition, row)
            said = dict(there.values) if there else {}
            wanted = _entry(key, newest, run, said)
            if there is None:
                if await self._tables.insert("catalogue", partition, row, wanted):
                    return
            elif all(said.get(name) == value for name, value in wanted.items()):
                return
            elif await self._tables.replace("catalogue", partition, row, wanted, there.etag):
                return
        raise InfrastructureError("catalogue_contended", "Catalogue")

    async def get(self, key: ExportKey) -> CatalogueEntry | None:
        row = await self._tables.get("catalogue", key.dataset.value, scope_key(key))
        return _read(row) if row else None

    async def get_page(
        self,
        dataset: Dataset,
        *,
        billing_month: str = "",
        limit: int,
        continuation: Continuation | None = None,
    ) -> tuple[list[CatalogueEntry], Continuation | None]:
        """The keys of a dataset in the order of their scopes, in one request."""
        where = RowFilter(equal={"billing_month": billing_month} if billing_month else {})
        page = await self._tables.get_page(
            "catalogue", dataset.value, where=where, limit=limit, continuation=continuation
        )
        return [_read(row) for row in page.rows], page.continuation

    async def list_by_dataset(self, dataset: Dataset) -> AsyncIterator[CatalogueEntry]:
        async for row in self._tables.list("catalogue", dataset.value):
            yield _read(row)


def _read(row: Row) -> CatalogueEntry:
    return CatalogueEntry(**{name: row.values[name] for name in COLUMNS if name in row.values})


def _entry(
    key: ExportKey, newest: Version | None, run: Run, said: dict[str, Any]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"key": str(key), "attribute_set": key.attribute_set.value}
    if isinstance(key.scope, MonthScope):
        entry |= {"billing_month": str(key.scope.month), "currency_code": key.scope.currency}
    else:
        entry["invoice_id"] = key.scope.invoice_id
    if newest is not None and not _is_behind(newest, said):
        entry |= {
            "version": newest.version,
            "manifest_etag": newest.manifest_etag,
            "path": newest.path,
            "created_at": newest.created_at,
            "first_seen": newest.first_seen,
            "landed_at": newest.landed_at,
            "blobs": newest.blobs,
            "bytes": newest.bytes,
            "rows": newest.rows,
            "settles_on": newest.settles_on,
            "tie_out": newest.tie_out,
        }
        month = billing_month(run.root_directory) if run.version == newest.version else None
        if month is not None:  # of a billed key, only its files' own directory says which
            entry.setdefault("billing_month", str(month))
    entry = said | entry  # what is written replaces the row
    ended = said.get("last_ended_at")
    if ended and parse_iso(ended) > parse_iso(
        run.ended_at
    ):  # a run that was closed late says nothing new
        return entry | {
            name: said.get(name, "")
            for name in ("last_outcome", "last_code", "last_run_id", "last_ended_at")
        }
    return entry | {
        "last_outcome": run.outcome,
        "last_code": run.code,
        "last_run_id": run.run_id,
        "last_ended_at": run.ended_at,
    }


def _is_behind(newest: Version, said: dict[str, Any]) -> bool:
    """Whether the row tells of a newer version than this caller saw: it moves forward only, as latest.json does."""
    if not said.get("version"):
        return False
    return newest.age[:2] < (parse_iso(said["created_at"]), parse_iso(said["first_seen"]))
