"""The version rows: one per manifest ETag of an export key, and one per repetition of the ETag.

A version row determines the folder name of its version. Version rows are never deleted. The row
contains the state of the version:

    landing    blobs are missing; readers ignore the folder
    complete   all blobs are proven, and the completion marker and latest.json are written
    damaged    the version was complete, but blobs or the completion marker changed afterwards; the
               next run that finds the same ETag repairs it
    pruned     removed by retention after it was complete
    abandoned  removed by retention before it was complete

Every change of the state is a conditional write of `Versions.change_state`.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

from shared.clock import iso, parse_iso
from shared.exports import Dataset, ExportKey
from shared.ledger.keys import scope_key, short_etag_hash, version_row
from shared.ledger.tables import Row, Tables

VersionState = Literal["landing", "complete", "damaged", "pruned", "abandoned"]

TRANSITIONS: Mapping[VersionState, frozenset[VersionState]] = {
    "landing": frozenset({"complete", "abandoned"}),
    "complete": frozenset({"damaged", "pruned"}),
    "damaged": frozenset({"complete", "pruned"}),
    "pruned": frozenset(),
    "abandoned": frozenset(),
}
REMOVED: frozenset[VersionState] = frozenset(
    state for state, following in TRANSITIONS.items() if not following
)
"""Without a folder: the ETag can land again."""
INCOMPLETE: frozenset[VersionState] = frozenset(
    state for state, following in TRANSITIONS.items() if "complete" in following
)
"""A run can complete the version."""
ONCE_COMPLETE: frozenset[VersionState] = frozenset({"complete", "damaged", "pruned"})
"""The totals of the row are final."""


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
    names_hash: str = ""  # see Manifest.names_hash
    billing_month: str = ""  # as yyyy-mm, if the root directory of the source contains it
    state: VersionState = "landing"
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
    sequence: int = 0  # the newest known `sequence` of latest.json when it named this version
    damaged_at: str = ""  # when the newest damage was found
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


def select_by_etag(versions: Iterable[Version], manifest_etag: str) -> list[Version]:
    """Return the versions of a manifest ETag, ordered by `n`."""
    selected = [version for version in versions if version.manifest_etag == manifest_etag]
    return sorted(selected, key=lambda version: version.n)


def get_next_n(versions: Iterable[Version], manifest_etag: str) -> int:
    """Return the `n` of a new version of a manifest ETag.

    It is unique among all ETags with the same short hash, so that their rows and folders differ.
    """
    short_hash = short_etag_hash(manifest_etag)
    numbers = [
        version.n for version in versions if short_etag_hash(version.manifest_etag) == short_hash
    ]
    return max(numbers, default=0) + 1


def get_newest(versions: Iterable[Version], state: VersionState) -> Version | None:
    """Return the version with the newest data among those in a state."""
    selected = [version for version in versions if version.state == state]
    return max(selected, key=lambda version: version.age, default=None)


class Versions:
    """Access to the version rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

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
        versions = [
            version
            async for version in self.list_by_key(key)
            if before is None or version.age < before.age
        ]
        return get_newest(versions, "complete")

    async def get_max_sequence(self, key: ExportKey) -> int:
        """Return the newest `sequence` of latest.json that the rows of a key contain, or 0."""
        return max([version.sequence async for version in self.list_by_key(key)], default=0)

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

    async def change_state(
        self, version: Version, state: VersionState, **columns: Any
    ) -> Version | None:
        """Change the state and return the new version, or None if the row was changed meanwhile.

        Raises:
            ValueError: The state cannot follow the current one.
        """
        if state not in TRANSITIONS[version.state]:
            raise ValueError(f"A version that is {version.state} cannot become {state}.")
        return await self._merge(version, {**columns, "state": state})

    async def update(self, version: Version, **columns: Any) -> Version | None:
        """Update columns and return the new version, or None if the row was changed meanwhile."""
        if "state" in columns:
            raise ValueError("Only change_state changes the state of a version.")
        return await self._merge(version, columns)

    async def _merge(self, version: Version, columns: Mapping[str, Any]) -> Version | None:
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
    names_hash: str = "",
    billing_month: str = "",
) -> Version:
    """Return the row of a version whose landing is about to start."""
    return Version(
        key=str(key),
        manifest_etag=manifest_etag,
        n=n,
        version=version,
        created_at=iso(created),
        first_seen=iso(now),
        names_hash=names_hash,
        billing_month=billing_month,
        run_id=run_id,
        last_planned_at=iso(now),
    )
