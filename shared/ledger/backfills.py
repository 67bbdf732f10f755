"""The backfill rows, beside the run rows: what was asked for, which runs it became, whether it is to end early."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.clock import iso
from shared.ledger.keys import backfill_keys
from shared.ledger.tables import Tables

RUNS_PER_COLUMN = 250  # a run id has at most 100 characters, a column 32,000


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
            "backfill_id": backfill.backfill_id, "state": backfill.state, "first_month": backfill.first_month,
            "last_month": backfill.last_month, "datasets": ",".join(backfill.datasets), "requested_by": backfill.requested_by,
            "started_at": backfill.started_at}
        return await self._tables.insert("runs", *backfill_keys(backfill.backfill_id), values) is not None

    async def planned(self, backfill_id: str, runs: list[str], settled: dict[str, int], left_out: str) -> None:
        """Repeated, it writes the same."""
        columns: dict[str, Any] = {
            "state": "running", "run_count": len(runs), "settled": json.dumps(settled), "left_out": left_out}
        for first in range(0, len(runs), RUNS_PER_COLUMN):
            columns[f"runs_{first // RUNS_PER_COLUMN}"] = json.dumps(runs[first:first + RUNS_PER_COLUMN])
        await self._tables.merge("runs", *backfill_keys(backfill_id), columns)

    async def ended(self, backfill_id: str, outcomes: dict[str, int], at: str) -> None:
        await self._tables.merge(
            "runs", *backfill_keys(backfill_id), {"state": "ended", "outcomes": json.dumps(outcomes), "ended_at": at})

    async def mark_cancelled(self, backfill_id: str, at: datetime) -> None:
        """A mark that each lane reads before it begins a run; a second one changes nothing that matters."""
        await self._tables.merge("runs", *backfill_keys(backfill_id), {"cancel_requested_at": iso(at)})

    async def get(self, backfill_id: str) -> Backfill | None:
        row = await self._tables.get("runs", *backfill_keys(backfill_id))
        if row is None:
            return None
        values = row.values
        columns = sorted((name for name in values if name.startswith("runs_")), key=lambda name: int(name[5:]))
        texts = ("requested_by", "started_at", "ended_at", "cancel_requested_at", "left_out")
        return Backfill(
            backfill_id=values["backfill_id"], state=values["state"], first_month=values["first_month"],
            last_month=values["last_month"], datasets=values["datasets"].split(","),
            runs=[run for name in columns for run in json.loads(values[name])],
            settled=json.loads(values.get("settled", "{}")), outcomes=json.loads(values.get("outcomes", "{}")),
            **{name: values.get(name, "") for name in texts})
