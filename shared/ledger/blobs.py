"""The blob rows: the blobs of a version, with the facts that prove their content."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

from shared.blob_facts import BlobFacts
from shared.exports import ExportKey
from shared.ledger.keys import blob_partition, blob_row
from shared.ledger.tables import Continuation, Row, RowFilter, Tables

MAX_ROWS_PER_QUERY = 10  # a filter is limited to 15 comparisons


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob of a version.

    If `ok` is true, `facts` are the facts that the proof has computed. If it is false and `facts`
    contain a hash, the content was proven before the blob was changed or deleted. Each fact is a
    column of the table; the names in `columns` are separated by commas.
    """

    name: str
    ok: bool
    run_id: str
    destination_etag: str = ""
    facts: BlobFacts = field(default_factory=BlobFacts)
    source_etag: str = ""
    copy_method: str = ""
    tries: int = 0
    seconds: float = 0.0
    code: str = ""
    detail: str = ""  # why the copy failed, or why the blob was streamed
    row_etag: str = field(default="", compare=False)  # not a column; "" for a new row


FACTS = tuple(field.name for field in fields(BlobFacts))
COLUMNS = tuple(field.name for field in fields(BlobRow) if field.name not in ("facts", "row_etag"))


@dataclass(frozen=True)
class BlobTotals:
    """The number of proven blobs, and the sums of their bytes and rows.

    `rows` is None if the proof of a blob did not count its rows.
    """

    blobs: int
    bytes: int
    rows: int | None


@lru_cache
def _split_columns(columns: str) -> tuple[str, ...]:
    """Return the names. The files of a version have the same columns, so the rows share them."""
    return tuple(name for name in columns.split(",") if name)


def _blob_from_row(row: Row) -> BlobRow:
    facts = {name: row.values[name] for name in FACTS if name in row.values}
    facts["columns"] = _split_columns(facts.get("columns", ""))
    columns = {name: row.values[name] for name in COLUMNS if name in row.values}
    return BlobRow(**columns, facts=BlobFacts(**facts), row_etag=row.etag)


def _values(row: BlobRow) -> dict[str, Any]:
    columns = {name: getattr(row, name) for name in COLUMNS}
    return {
        **columns,
        **{name: getattr(row.facts, name) for name in FACTS},
        "columns": ",".join(row.facts.columns),
    }


class Blobs:
    """Access to the blob rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def record(self, key: ExportKey, version: str, rows: Iterable[BlobRow]) -> None:
        """Insert or update rows, in one transaction per 100 rows."""
        values: dict[str, Mapping[str, Any]] = {blob_row(row.name): _values(row) for row in rows}
        if values:
            await self._tables.upsert_many("blobs", blob_partition(key, version), values)

    async def record_failure(
        self, key: ExportKey, version: str, row: BlobRow, known: BlobRow | None
    ) -> bool:
        """Store the failure of a blob, unless the row was changed in the meantime.

        An activity can run twice, and the slower execution can fail after the other one has
        copied the blob. The row of a proven blob therefore stays. If the blob was proven before,
        its row keeps the facts about its content, with which a restored blob can be proven.

        Args:
            key: The export key.
            version: The version.
            row: The row with the failure.
            known: The row as it was read before the copy, or None if there was none.

        Returns:
            False if the row was changed since it was read.
        """
        partition, name = blob_partition(key, version), blob_row(row.name)
        if known is None:
            return await self._tables.insert("blobs", partition, name, _values(row)) is not None
        if known.facts.has_hash:
            row = replace(row, facts=known.facts, source_etag=known.source_etag)
        return (
            await self._tables.replace("blobs", partition, name, _values(row), known.row_etag)
            is not None
        )

    async def get_by_version(self, key: ExportKey, version: str) -> dict[str, BlobRow]:
        """Return the rows of a version by blob name."""
        rows = [
            _blob_from_row(row)
            async for row in self._tables.list("blobs", blob_partition(key, version))
        ]
        return {row.name: row for row in rows}

    async def get_page(
        self,
        key: ExportKey,
        version: str,
        *,
        ok: bool | None = None,
        limit: int,
        continuation: Continuation | None = None,
    ) -> tuple[list[BlobRow], Continuation | None]:
        """Return a page of the rows of a version, ordered by the hash of the name.

        Args:
            key: The export key.
            version: The version.
            ok: Return only proven blobs (True) or only the others (False).
            limit: The maximum number of rows.
            continuation: The continuation of the previous page.
        """
        row_filter = RowFilter(equal={} if ok is None else {"ok": ok})
        page = await self._tables.get_page(
            "blobs",
            blob_partition(key, version),
            where=row_filter,
            limit=limit,
            continuation=continuation,
        )
        return [_blob_from_row(row) for row in page.rows], page.continuation

    async def get(self, key: ExportKey, version: str, name: str) -> BlobRow | None:
        """Return the row of a blob, or None if there is none."""
        row = await self._tables.get("blobs", blob_partition(key, version), blob_row(name))
        return _blob_from_row(row) if row else None

    async def get_many(
        self, key: ExportKey, version: str, names: Sequence[str]
    ) -> dict[str, BlobRow]:
        """Return the existing rows of the given blobs by name, with one request per ten names."""
        if len(names) == 1:  # a read by key is cheaper than a query
            row = await self.get(key, version, names[0])
            return {row.name: row} if row else {}
        rows = {}
        for first in range(0, len(names), MAX_ROWS_PER_QUERY):
            row_filter = RowFilter(
                row_keys=[blob_row(name) for name in names[first : first + MAX_ROWS_PER_QUERY]]
            )
            async for row_read in self._tables.list(
                "blobs", blob_partition(key, version), where=row_filter
            ):
                rows[row_read.values["name"]] = _blob_from_row(row_read)
        return rows

    async def totals(self, key: ExportKey, version: str) -> BlobTotals:
        """Return the totals of the proven blobs, with one request per 1,000 rows."""
        blobs = size = lines = uncounted = 0
        async for row in self._tables.list(
            "blobs", blob_partition(key, version), select=("ok", "bytes", "rows", "encoding")
        ):
            if row.values.get("ok"):
                blobs, size, lines = (
                    blobs + 1,
                    size + int(row.values.get("bytes", 0)),
                    lines + int(row.values.get("rows", 0)),
                )
                uncounted += not row.values.get("encoding")
        return BlobTotals(blobs, size, None if uncounted else lines)
