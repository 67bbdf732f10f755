"""The cycle rows in the runs table: the runs that a cycle started, and their outcomes."""

import json
from dataclasses import dataclass, field
from typing import Any

from shared.ledger import plan_lists
from shared.ledger.keys import cycle_keys
from shared.ledger.tables import Row, RowFilter, Tables


@dataclass(frozen=True)
class Cycle:
    """A cycle.

    Attributes:
        cycle_id: The ID of the cycle, which is also its first orchestration instance.
        state: `starting`, `running`, `ended`, or `failed` if its orchestration did not complete.
        tick: The scheduled time.
        requested_by: The caller, or "" for a scheduled cycle.
        started_at: ISO 8601 in UTC.
        ended_at: ISO 8601 in UTC, or "".
        next_check_at: When the orchestration continues, in ISO 8601 and UTC, or "" if it does not
            wait for the invoice list.
        hub: The task hub that started it; only this hub writes the row.
        instance_id: The current orchestration instance.
        restarts: How often the orphaned-run cleanup has started it again.
        code: The reason of the state `failed`, or "".
        left_out: The invoices without a request and the reasons, as JSON; see shared/invoices.py.
        runs: The run IDs, in the order of the plan.
        outcomes: The number of runs by outcome.
        etag: The ETag of the row; not a column.
    """

    cycle_id: str
    state: str
    tick: str
    requested_by: str = ""
    started_at: str = ""
    ended_at: str = ""
    next_check_at: str = ""
    hub: str = ""
    instance_id: str = ""
    restarts: int = 0
    code: str = ""
    left_out: str = ""
    runs: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    etag: str = field(default="", compare=False)

    @property
    def is_over(self) -> bool:
        """Whether the final state is stored."""
        return self.state in ("ended", "failed")


class Cycles:
    """Access to the cycle rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, cycle: Cycle) -> bool:
        """Insert a new cycle, and return False if its row already exists."""
        values = {
            "cycle_id": cycle.cycle_id,
            "state": cycle.state,
            "tick": cycle.tick,
            "requested_by": cycle.requested_by,
            "started_at": cycle.started_at,
            "hub": cycle.hub,
            "instance_id": cycle.instance_id,
        }
        return await self._tables.insert("runs", *cycle_keys(cycle.cycle_id), values) is not None

    async def save_plan(self, cycle_id: str, runs: list[str], left_out: str = "") -> None:
        """Store the runs of a cycle. Idempotent."""
        await plan_lists.save(
            self._tables,
            *cycle_keys(cycle_id),
            runs,
            left_out,
            state="running",
            next_check_at="",
        )

    async def save_wait(self, cycle_id: str, next_check_at: str) -> None:
        """Store when the cycle requests the invoice list again. Idempotent."""
        await self._tables.merge("runs", *cycle_keys(cycle_id), {"next_check_at": next_check_at})

    async def save_result(self, cycle_id: str, outcomes: dict[str, int], at: str) -> None:
        """Store the number of runs by outcome, and the end of the cycle."""
        await self._tables.merge(
            "runs",
            *cycle_keys(cycle_id),
            {"state": "ended", "outcomes": json.dumps(outcomes), "ended_at": at},
        )

    async def merge_if_unchanged(self, cycle: Cycle, **columns: Any) -> bool:
        """Update columns, and return False if the row was changed since it was read."""
        keys = cycle_keys(cycle.cycle_id)
        return await self._tables.merge("runs", *keys, columns, cycle.etag) is not None

    async def get(self, cycle_id: str) -> Cycle | None:
        """Return a cycle, or None if it does not exist."""
        row = await self._tables.get("runs", *cycle_keys(cycle_id))
        return None if row is None else await self._cycle_from_row(row)

    async def newest(self, month: str) -> Cycle | None:
        """Return the last cycle that started in a month (`yyyymm`), or None."""
        page = await self._tables.get_page("runs", f"cycle-{month}", where=RowFilter(), limit=1)
        return await self._cycle_from_row(page.rows[0]) if page.rows else None

    async def _cycle_from_row(self, row: Row) -> Cycle:
        values = row.values
        runs, left_out = await plan_lists.load(
            self._tables, cycle_keys(values["cycle_id"])[1], values
        )
        return Cycle(
            cycle_id=values["cycle_id"],
            state=values["state"],
            tick=values["tick"],
            requested_by=values.get("requested_by", ""),
            started_at=values.get("started_at", ""),
            ended_at=values.get("ended_at", ""),
            next_check_at=values.get("next_check_at", ""),
            hub=values.get("hub", ""),
            instance_id=values.get("instance_id", ""),
            restarts=values.get("restarts", 0),
            code=values.get("code", ""),
            left_out=left_out,
            runs=runs,
            outcomes=json.loads(values.get("outcomes", "{}")),
            etag=row.etag,
        )
