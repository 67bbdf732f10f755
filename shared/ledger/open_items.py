"""The index of open runs, cycles and backfills, which the orphaned-run cleanup examines.

Run rows are stored by month, so finding the open ones would need a scan of the whole table. An item
is inserted before the row that it refers to, and deleted after that row is closed. An item without
a row, or with a closed row, therefore exists only after an interruption.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from shared.clock import iso
from shared.ledger.locks import LEASE
from shared.ledger.tables import Row, Tables

ItemKind = Literal["run", "cycle", "backfill"]
KINDS: dict[str, ItemKind] = {"run": "run", "cycle": "cycle", "backfill": "backfill"}


@dataclass(frozen=True)
class OpenItem:
    """An open run, cycle or backfill.

    Attributes:
        item_id: The ID of the run, the cycle or the backfill.
        kind: What the ID identifies.
        hub: The task hub that started it.
        lease_until: The end of its lease, ISO 8601 in UTC. A run that holds a lock uses the lease
            of its lock instead.
        gone_since: When the cleanup first found that the current instance does not exist, or that
            it failed while the cycle or backfill that can call it again is live; otherwise "".
    """

    item_id: str
    kind: ItemKind
    hub: str
    lease_until: str
    gone_since: str = ""


class OpenItems:
    """Access to the index, which is a partition of the locks table."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def add(self, item_id: str, kind: ItemKind, hub: str, now: datetime) -> OpenItem:
        """Add an item, unless it is in the index. Idempotent."""
        item = OpenItem(item_id, kind, hub, iso(now + LEASE))
        values = {"kind": kind, "hub": hub, "lease_until": item.lease_until, "gone_since": ""}
        await self._tables.insert("locks", "open", item_id, values)
        return item

    async def renew(self, item_id: str, next_activity: datetime) -> None:
        """Extend the lease of an item to an hour after `next_activity`."""
        lease = {"lease_until": iso(next_activity + LEASE)}
        await self._tables.merge("locks", "open", item_id, lease)

    async def set_gone_since(self, item: OpenItem, since: str) -> OpenItem:
        """Store when the cleanup first found that the instance is gone."""
        await self._tables.merge("locks", "open", item.item_id, {"gone_since": since})
        return replace(item, gone_since=since)

    async def remove(self, item_id: str) -> None:
        """Remove an item. Idempotent."""
        await self._tables.delete_if_exists("locks", "open", item_id)

    async def list(self) -> AsyncIterator[OpenItem]:
        """List all items."""
        async for row in self._tables.list("locks", "open"):
            yield _item_from_row(row)


def _item_from_row(row: Row) -> OpenItem:
    values = row.values
    return OpenItem(
        str(values["RowKey"]),
        KINDS[values["kind"]],
        values["hub"],
        values["lease_until"],
        values.get("gone_since", ""),
    )
