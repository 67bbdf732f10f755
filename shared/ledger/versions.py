"""The version rows: one per manifest ETag of an export key, and one per forced repetition.

A version row determines the folder name of its version. Version rows are never deleted.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from shared.clock import iso, parse_iso
from shared.exports import Dataset, ExportKey
from shared.ledger.keys import scope_key, short_etag_hash, version_row
from shared.ledger.tables import Row, Tables

ABSENT = frozenset({"pruned", "abandoned"})  # without a folder: the ETag can land again


@dataclass(frozen=True)
class Version:
    """A row of the versions table.

    `version` is the folder name without `version=`. Times are ISO 8601 in UTC.
    """

    key: str
    manifest_etag: str
    n: int
    version: str
    created_at: str  # from the manifest; the time of the data
    first_seen: str
    state: str = "landing"  # landing, complete, abandoned, pruned
    run_id: str = ""
    last_planned_at: str = ""
    landed_at: str = ""
    path: str = ""
    supersedes: str = ""
    proof: str = ""
    settles_on: str = ""  # a date; "" if unknown, and for unbilled data
    invoice: str = ""  # the listed invoice, JSON; see shared/invoices.py
    sums: str = ""  # of the lines of an invoice, JSON; see shared/tie_out/line_sums.py
    reported_tie_out: str = ""  # the comparison in the newest report, JSON; not for readers
    blobs: int = 0
    bytes: int = 0
    rows: int = 0
    pruned_at: str = ""  # when retention started to delete the folder
    emptied_at: str = ""  # when the folder was empty
    blob_rows_removed_at: str = ""  # by retention; the completion marker replaces them
    etag: str = ""  # not a column

    @property
    def age(self) -> tuple[datetime, datetime, int]:
        """A sort key that orders the versions of an export key from old to new."""
        return parse_iso(self.created_at), parse_iso(self.first_seen), self.n

    @property
    def known_rows(self) -> int | None:
        """The number of rows, or None if the proof did not count them."""
        return None if self.proof == "transfer" else self.rows


COLUMNS = tuple(field.name for field in fields(Version) if field.name != "etag")


def version_from_row(row: Row) -> Version:
    """Return the version in a row."""
    return Version(
        **{name: row.values[name] for name in COLUMNS if name in row.values}, etag=row.etag
    )


class Versions:
    """Access to the version rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def list_by_etag(self, key: ExportKey, manifest_etag: str) -> list[Version]:
        """Return the versions of a manifest ETag, ordered by `n`."""
        return [
            row
            for row in await self._list_by_short_hash(key, manifest_etag)
            if row.manifest_etag == manifest_etag
        ]

    async def get_next_n(self, key: ExportKey, manifest_etag: str) -> int:
        """Return the `n` of a new version.

        It is unique among all ETags with the same short hash, so that their rows and folders
        differ.
        """
        return (
            max((row.n for row in await self._list_by_short_hash(key, manifest_etag)), default=0)
            + 1
        )

    async def _list_by_short_hash(self, key: ExportKey, manifest_etag: str) -> list[Version]:
        rows = [
            version_from_row(row)
            async for row in self._tables.list(
                "versions",
                key.dataset.value,
                prefix=f"{scope_key(key)}~{short_etag_hash(manifest_etag)}~",
            )
        ]
        return sorted(rows, key=lambda row: row.n)

    async def list_by_key(self, key: ExportKey) -> AsyncIterator[Version]:
        """List all versions of an export key."""
        async for row in self._tables.list(
            "versions", key.dataset.value, prefix=f"{scope_key(key)}~"
        ):
            yield version_from_row(row)

    async def list_by_dataset(self, dataset: Dataset) -> AsyncIterator[Version]:
        """List all versions of all export keys of a dataset."""
        async for row in self._tables.list("versions", dataset.value):
            yield version_from_row(row)

    async def get_newest_complete(
        self, key: ExportKey, *, before: Version | None = None
    ) -> Version | None:
        """Return the newest complete version, or the newest one that is older than `before`."""
        complete = [
            version
            async for version in self.list_by_key(key)
            if version.state == "complete" and (before is None or version.age < before.age)
        ]
        return max(complete, key=lambda version: version.age, default=None)

    async def insert(self, version: Version) -> Version | None:
        """Insert a version and return it with its ETag, or None if the row already exists."""
        etag = await self._tables.insert("versions", *self._keys(version), _values(version))
        return replace(version, etag=etag) if etag else None

    async def get(self, key: ExportKey, manifest_etag: str, n: int) -> Version | None:
        """Return a version, or None if it does not exist."""
        row = await self._tables.get(
            "versions", key.dataset.value, version_row(key, manifest_etag, n)
        )
        return version_from_row(row) if row else None

    async def update(self, version: Version, **columns: Any) -> Version | None:
        """Update columns and return the new version, or None if the row was changed meanwhile."""
        etag = await self._tables.merge("versions", *self._keys(version), columns, version.etag)
        return replace(version, **columns, etag=etag) if etag else None

    def _keys(self, version: Version) -> tuple[str, str]:
        key = ExportKey.parse(version.key)
        return key.dataset.value, version_row(key, version.manifest_etag, version.n)


def _values(version: Version) -> dict[str, Any]:
    return {name: getattr(version, name) for name in COLUMNS}


def new_version(
    key: ExportKey,
    manifest_etag: str,
    n: int,
    version: str,
    *,
    created: datetime,
    now: datetime,
    run_id: str,
) -> Version:
    """Return the row of a version whose landing is about to start."""
    return Version(
        key=str(key),
        manifest_etag=manifest_etag,
        n=n,
        version=version,
        created_at=iso(created),
        first_seen=iso(now),
        run_id=run_id,
        last_planned_at=iso(now),
    )
