"""The ledger: all tables, and the check at the start of every activity."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from shared.clock import Clock
from shared.invoices import Invoice
from shared.ledger.backfills import Backfill, Backfills
from shared.ledger.blobs import Blobs
from shared.ledger.catalogue import Catalogue, CatalogueEntry
from shared.ledger.cycles import Cycle, Cycles
from shared.ledger.invoices import Invoices
from shared.ledger.locks import Locks
from shared.ledger.open_items import OpenItems
from shared.ledger.runs import Run, Runs
from shared.ledger.tables import Tables
from shared.ledger.throttle import Throttle
from shared.ledger.versions import Versions
from shared.messages import StoppedResult


class Ledger:
    """The tables of the app, for one task hub.

    Without `locking`, concurrent runs of a key repeat work, but the outcomes are the same.
    """

    def __init__(self, tables: Tables, clock: Clock, *, hub: str, locking: bool = True) -> None:
        self.tables, self.clock, self.hub, self.locking = tables, clock, hub, locking
        self.runs, self.versions, self.blobs = Runs(tables), Versions(tables), Blobs(tables)
        self.locks, self.catalogue, self.cycles = (
            Locks(tables),
            Catalogue(tables, self.versions),
            Cycles(tables),
        )
        self.invoices, self.backfills = Invoices(tables), Backfills(tables)
        self.open_items = OpenItems(tables)
        self.throttle = Throttle(tables, clock)

    async def holding(self, run_id: str) -> Run | StoppedResult:
        """Return the run if it can continue, and otherwise the result of the activity.

        A run can continue if it has not ended, is not cancelled and holds its key. The lease of
        its key is renewed if necessary.
        """
        run = await self.runs.get(run_id)
        if run is None:
            return {"status": "superseded", "live_run_id": ""}
        if run.result is not None:
            return {"status": "ended", "result": run.result}
        if run.cancelled:
            return {"status": "cancelled"}
        if self.locking:
            lock = await self.locks.get(run.key)
            if lock is None or lock.run_id != run_id or lock.epoch != run.epoch:
                return {"status": "superseded", "live_run_id": lock.run_id if lock else ""}
            await self.locks.renew(lock, self.clock.now())
            return replace(run, lock=lock)
        return run

    async def list_invoices_of(self, entries: Iterable[CatalogueEntry]) -> dict[str, Invoice]:
        """Return the listed invoices, by ID, if an entry has sums to compare; otherwise none."""
        return await self.invoices.list_by_id() if any(entry.sums for entry in entries) else {}

    async def insert_cycle(self, cycle: Cycle) -> bool:
        """Insert a cycle of this task hub, and return False if its row already exists."""
        await self.open_items.add(cycle.cycle_id, "cycle", self.hub, self.clock.now())
        return await self.cycles.insert(replace(cycle, hub=self.hub, instance_id=cycle.cycle_id))

    async def insert_backfill(self, backfill: Backfill) -> bool:
        """Insert a backfill of this task hub, and return False if its row already exists."""
        await self.open_items.add(backfill.backfill_id, "backfill", self.hub, self.clock.now())
        return await self.backfills.insert(
            replace(backfill, hub=self.hub, instance_id=backfill.backfill_id)
        )

    async def extend_lease(self, run: Run, wait_seconds: int) -> None:
        """Extend the lease of the run's key until after a wait.

        Args:
            run: The run as `holding` returned it.
            wait_seconds: The time without activity of the run.
        """
        until = self.clock.now() + timedelta(seconds=wait_seconds)
        if run.lock is not None and await self.locks.renew(run.lock, until):
            return
        lock = await self.locks.get(run.key) if self.locking else None
        if lock is not None and lock.run_id == run.run_id:
            await self.locks.renew(lock, until)

    async def count_outcomes(self, run_ids: Sequence[str], *, absent: str) -> dict[str, int]:
        """Return the number of runs by outcome.

        A run without a row counts as `absent`, and a run without an outcome counts as `lost`.
        """
        runs = await self.runs.get_many(run_ids)
        rows = (runs.get(run_id) for run_id in run_ids)
        return dict(Counter(absent if row is None else row.outcome or "lost" for row in rows))

    async def close(self) -> None:
        """Close the connections to the tables."""
        await self.tables.close()
