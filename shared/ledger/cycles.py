"""The cycle rows, beside the run rows: which runs a cycle started and how they ended."""

import json
from dataclasses import dataclass, field

from shared.ledger import plan_lists
from shared.ledger.keys import cycle_keys
from shared.ledger.tables import Row, RowFilter, Tables


@dataclass(frozen=True)
class Cycle:
    """`state`: starting, running, ended. `runs`: run ids in the order of the plan."""

    cycle_id: str
    state: str
    tick: str
    requested_by: str = ""
    started_at: str = ""
    ended_at: str = ""
    left_out: str = (
        ""  # what of the invoice list is not asked for, and why: shared/invoices.py reads it
    )
    runs: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)


class Cycles:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, cycle: Cycle) -> bool:
        values = {
            "cycle_id": cycle.cycle_id,
            "state": cycle.state,
            "tick": cycle.tick,
            "requested_by": cycle.requested_by,
            "started_at": cycle.started_at,
        }
        return await self._tables.insert("runs", *cycle_keys(cycle.cycle_id), values) is not None

    async def save_plan(self, cycle_id: str, runs: list[str], left_out: str = "") -> None:
        """Repeated, it writes the same."""
        await plan_lists.save(self._tables, *cycle_keys(cycle_id), runs, left_out, state="running")

    async def save_result(self, cycle_id: str, outcomes: dict[str, int], at: str) -> None:
        await self._tables.merge(
            "runs",
            *cycle_keys(cycle_id),
            {"state": "ended", "outcomes": json.dumps(outcomes), "ended_at": at},
        )

    async def get(self, cycle_id: str) -> Cycle | None:
        row = await self._tables.get("runs", *cycle_keys(cycle_id))
        return None if row is None else await self._read(row)

    async def newest(self, month: str) -> Cycle | None:
        """The last cycle that began in a month (`yyyymm`), if one did."""
        page = await self._tables.get_page("runs", f"cycle-{month}", where=RowFilter(), limit=1)
        return await self._read(page.rows[0]) if page.rows else None

    async def _read(self, row: Row) -> Cycle:
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
            left_out=left_out,
            runs=runs,
            outcomes=json.loads(values.get("outcomes", "{}")),
        )
