"""The backfill rows, beside the run rows: what was asked for, which runs it became, whether it is to end early."""

import json
from dataclasses import dataclass, field
from datetime import datetime

from shared.clock import iso
from shared.ledger import plan_lists
from shared.ledger.keys import backfill_keys
from shared.ledger.tables import Tables


@dataclass(frozen=True)
class Backfill:
    """`state`: starting, running, ended. `runs`: in the order of the plan. `settled`: keys that needed no run, by state."""

    backfill_id: str
    state: str
    first_month: str
    last_month: str
    datasets: list[str]
    requested_by: str = ""
    started_at: str = ""
    ended_at: str = ""
    cancel_requested_at: str = ""
    left_out: str = ""
    runs: list[str] = field(default_factory=list)
    settled: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def cancelled(self) -> bool:
        return bool(self.cancel_requested_at)


class Backfills:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, backfill: Backfill) -> bool:
        values = {
            "backfill_id": backfill.backfill_id,
            "state": backfill.state,
            "first_month": backfill.first_month,
            "last_month": backfill.last_month,
            "datasets": ",".join(backfill.datasets),
            "requested_by": backfill.requested_by,
            "started_at": backfill.started_at,
        }
        return (
            await self._tables.insert("runs", *backfill_keys(backfill.backfill_id), values)
            is not None
        )

    async def save_plan(
        self, backfill_id: str, runs: list[str], settled: dict[str, int], left_out: str
    ) -> None:
        """Repeated, it writes the same."""
        await plan_lists.save(
            self._tables,
            *backfill_keys(backfill_id),
            runs,
            left_out,
            state="running",
            settled=json.dumps(settled),
        )

    async def save_result(self, backfill_id: str, outcomes: dict[str, int], at: str) -> None:
        await self._tables.merge(
            "runs",
            *backfill_keys(backfill_id),
            {"state": "ended", "outcomes": json.dumps(outcomes), "ended_at": at},
        )

    async def mark_cancelled(self, backfill_id: str, at: datetime) -> None:
        """A mark that each lane reads before it begins a run; a second one changes nothing that matters."""
        await self._tables.merge(
            "runs", *backfill_keys(backfill_id), {"cancel_requested_at": iso(at)}
        )

    async def get(self, backfill_id: str) -> Backfill | None:
        row = await self._tables.get("runs", *backfill_keys(backfill_id))
        if row is None:
            return None
        values = row.values
        runs, left_out = await plan_lists.load(self._tables, backfill_keys(backfill_id)[1], values)
        texts = ("requested_by", "started_at", "ended_at", "cancel_requested_at")
        return Backfill(
            backfill_id=values["backfill_id"],
            state=values["state"],
            first_month=values["first_month"],
            last_month=values["last_month"],
            datasets=values["datasets"].split(","),
            left_out=left_out,
            runs=runs,
            settled=json.loads(values.get("settled", "{}")),
            outcomes=json.loads(values.get("outcomes", "{}")),
            **{name: values.get(name, "") for name in texts},
        )
