"""The blob rows: one per blob of a version, with what proves it. One transaction for the blobs of one activity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.exports import ExportKey
from shared.ledger.keys import blob_partition, blob_row
from shared.ledger.tables import Continuation, Row, RowFilter, Tables

ROWS_A_QUERY = 10


@dataclass(frozen=True)
class BlobRow:
    """`ok` = proven; then all facts but md5 and columns are there. Sizes in bytes; md5 base64, sha256 hex."""

    name: str
    ok: bool
    run_id: str
    destination_etag: str = ""
    bytes: int = 0
    rows: int = 0
    md5: str = ""
    sha256: str = ""
    source_etag: str = ""
    encoding: str = ""
    columns: str = ""  # names in the first line, comma-separated
    copy_method: str = ""
    tries: int = 0
    seconds: float = 0.0
    code: str = ""
    detail: str = ""  # one sentence: what went wrong, or why it was streamed
    row_etag: str = field(
        default="", compare=False
    )  # of the row that was read; "" for one that is to be written


FACTS = tuple(name for name in BlobRow.__dataclass_fields__ if name != "row_etag")


@dataclass(frozen=True)
class BlobTotals:
    blobs: int
    bytes: int
    rows: int


def _blob(row: Row) -> BlobRow:
    return BlobRow(
        **{fact: row.values[fact] for fact in FACTS if fact in row.values}, row_etag=row.etag
    )


def _values(row: BlobRow) -> dict[str, Any]:
    return {fact: getattr(row, fact) for fact in FACTS}


class Blobs:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def record(self, key: ExportKey, version: str, rows: Iterable[BlobRow]) -> None:
        values: dict[str, Mapping[str, Any]] = {blob_row(row.name): _values(row) for row in rows}
        if values:
            await self._tables.upsert_many("blobs", blob_partition(key, version), values)

    async def record_failure(
        self, key: ExportKey, version: str, row: BlobRow, known: BlobRow | None
    ) -> bool:
        """Over the row that was `known` when the work began, or where there was none; False where somebody was quicker.

        An activity may run twice, and the slower one may fail where the other has landed: what is proven stays so.
        """
        partition, name = blob_partition(key, version), blob_row(row.name)
        if known is None:
            return await self._tables.insert("blobs", partition, name, _values(row)) is not None
        return (
            await self._tables.replace("blobs", partition, name, _values(row), known.row_etag)
            is not None
        )

    async def get_by_version(self, key: ExportKey, version: str) -> dict[str, BlobRow]:
        """By name."""
        rows = [
            _blob(row) async for row in self._tables.list("blobs", blob_partition(key, version))
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
        """In the order of the names' hashes, in one request. `ok`: only the proven ones, or only the others."""
        where = RowFilter(equal={} if ok is None else {"ok": ok})
        page = await self._tables.get_page(
            "blobs",
            blob_partition(key, version),
            where=where,
            limit=limit,
            continuation=continuation,
        )
        return [_blob(row) for row in page.rows], page.continuation

    async def get(self, key: ExportKey, version: str, name: str) -> BlobRow | None:
        row = await self._tables.get("blobs", blob_partition(key, version), blob_row(name))
        return _blob(row) if row else None

    async def get_many(
        self, key: ExportKey, version: str, names: Sequence[str]
    ) -> dict[str, BlobRow]:
        """By name, those of `names` that have a row; ten of them to a request."""
        if len(names) == 1:  # by its keys: the cheapest there is
            row = await self.get(key, version, names[0])
            return {row.name: row} if row else {}
        found = {}
        for first in range(0, len(names), ROWS_A_QUERY):
            where = RowFilter(
                row_keys=[blob_row(name) for name in names[first : first + ROWS_A_QUERY]]
            )
            async for read in self._tables.list("blobs", blob_partition(key, version), where=where):
                found[read.values["name"]] = _blob(read)
        return found

    async def totals(self, key: ExportKey, version: str) -> BlobTotals:
        """Of the proven blobs so far: one request per thousand."""
        blobs = size = lines = 0
        async for row in self._tables.list(
            "blobs", blob_partition(key, version), select=("ok", "bytes", "rows")
        ):
            if row.values.get("ok"):
                blobs, size, lines = (
                    blobs + 1,
                    size + int(row.values.get("bytes", 0)),
                    lines + int(row.values.get("rows", 0)),
                )
        return BlobTotals(blobs, size, lines)
