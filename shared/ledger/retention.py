"""Retention of the ledger: blob rows are deleted; runs, versions and the catalogue are kept."""

from datetime import date, timedelta

from shared.clock import iso, parse_iso
from shared.exports import ExportKey
from shared.ledger.keys import blob_partition, blob_row
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.ledger.versions import INCOMPLETE

FIRST_DAY = date(2024, 1, 1)  # before the first release, so that no history is older


async def remove_blob_rows(ledger: Ledger, key: ExportKey, older_than: timedelta) -> int:
    """Delete the blob rows of old versions of an export key. Idempotent.

    Versions that a run can complete keep their blob rows, because the next run uses them to copy
    only the remaining blobs. A key that a run holds is skipped.

    Args:
        ledger: The ledger.
        key: The export key.
        older_than: The minimum time since a version was last planned.

    Returns:
        The number of deleted rows.
    """
    removed, now = 0, ledger.clock.now()
    if await ledger.locks.is_held(str(key)):
        return 0
    async for version in ledger.versions.list_by_key(key):
        last_planned = parse_iso(version.last_planned_at or version.first_seen)
        is_recent = now - last_planned <= older_than
        if version.state in INCOMPLETE or version.blob_rows_removed_at or is_recent:
            continue
        names = list(await ledger.blobs.get_by_version(key, version.version))
        await ledger.tables.delete(
            "blobs", blob_partition(key, version.version), [blob_row(name) for name in names]
        )
        await ledger.versions.update(version, blob_rows_removed_at=iso(now))
        removed += len(names)
    return removed


class PurgedUntil:
    """The day until which orchestration history is purged, so that a purge can be resumed."""

    def __init__(self, tables: Tables, hub: str) -> None:
        self._tables, self._row = tables, f"history~{hub}"

    async def get(self) -> date:
        """Return the stored day, or a day before the first release."""
        row = await self._tables.get("locks", "retention", self._row)
        return date.fromisoformat(row.values["until"]) if row else FIRST_DAY

    async def set(self, until: date) -> None:
        """Store the day."""
        await self._tables.upsert_many(
            "locks", "retention", {self._row: {"until": until.isoformat()}}
        )
