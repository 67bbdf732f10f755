"""What the ledger forgets: rows of single blobs when they are old. Runs, versions and the catalogue are never forgotten."""

from datetime import date, timedelta

from shared.clock import iso, parse_iso
from shared.exports import ExportKey
from shared.ledger.keys import blob_partition, blob_row
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables

EPOCH = date(2024, 1, 1)  # before the first release: nothing of this app is older


async def remove_blob_rows(ledger: Ledger, key: ExportKey, older_than: timedelta) -> int:
    """The blob rows of versions that were last planned so long ago; how many. Idempotent; the version's row says it is done.

    A version that is still landing keeps them: they are what makes the next run copy only the rest.
    """
    removed, now = 0, ledger.clock.now()
    lock = await ledger.locks.get(str(key))
    if lock is not None and lock.run_id:
        return 0
    async for version in ledger.versions.list_by_key(key):
        last = parse_iso(version.last_planned_at or version.first_seen)
        if version.state == "landing" or version.blob_rows_removed_at or now - last <= older_than:
            continue
        names = list(await ledger.blobs.get_by_version(key, version.version))
        await ledger.tables.delete(
            "blobs", blob_partition(key, version.version), [blob_row(name) for name in names]
        )
        await ledger.versions.update(version, blob_rows_removed_at=iso(now))
        removed += len(names)
    return removed


class PurgedUntil:
    """How far orchestration history is purged: one row, moved a day at a time, so that a purge goes on where it stopped."""

    def __init__(self, tables: Tables, hub: str) -> None:
        self._tables, self._row = tables, f"history~{hub}"

    async def get(self) -> date:
        row = await self._tables.get("locks", "retention", self._row)
        return date.fromisoformat(row.values["until"]) if row else EPOCH

    async def set(self, until: date) -> None:
        await self._tables.upsert_many(
            "locks", "retention", {self._row: {"until": until.isoformat()}}
        )
