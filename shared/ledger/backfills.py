"""The backfill rows in the runs table: the request, its runs, and whether it is cancelled."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.clock import iso
from shared.ledger import plan_lists
from shared.ledger.keys import backfill_keys
from shared.ledger.tables import Tables
from shared.messages import BackfillRequest


@dataclass(frozen=True)
class Backfill:
    """A backfill.

    Attributes:
        backfill_id: The ID of the backfill, which is also its first orchestration instance.
        state: `starting`, `running`, `ended`, or `failed` if its orchestration did not complete.
        first_month: The first billing month.
        last_month: The last billing month, included.
        datasets: The requested datasets.
        requested_by: The caller.
        started_at: ISO 8601 in UTC.
        ended_at: ISO 8601 in UTC, or "".
        cancel_requested_at: ISO 8601 in UTC, or "".
        next_check_at: When the orchestration continues, in ISO 8601 and UTC, or "" if it does not
            wait for the invoice list.
        hub: The task hub that started it; only this hub writes the row.
        instance_id: The current orchestration instance.
        restarts: How often the orphaned-run cleanup has started it again.
        code: The reason of the state `failed`, or "".
        left_out: The invoices without a request and the reasons, as JSON; see shared/invoices.py.
        runs: The run IDs, in the order of the plan.
        settled: The number of export keys that needed no run, by state.
        outcomes: The number of runs by outcome.
        etag: The ETag of the row; not a column.
    """

    backfill_id: str
    state: str
    first_month: str
    last_month: str
    datasets: list[str]
    requested_by: str = ""
    started_at: str = ""
    ended_at: str = ""
    cancel_requested_at: str = ""
    next_check_at: str = ""
    hub: str = ""
    instance_id: str = ""
    restarts: int = 0
    code: str = ""
    left_out: str = ""
    runs: list[str] = field(default_factory=list)
    settled: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    etag: str = field(default="", compare=False)

    @property
    def is_over(self) -> bool:
        """Whether the final state is stored."""
        return self.state in ("ended", "failed")

    @property
    def cancelled(self) -> bool:
        """Whether cancellation was requested."""
        return bool(self.cancel_requested_at)


def create_backfill_request(backfill: Backfill) -> BackfillRequest:
    """Return the input of the orchestration of a backfill."""
    return {
        "backfill_id": backfill.backfill_id,
        "first_month": backfill.first_month,
        "last_month": backfill.last_month,
        "datasets": backfill.datasets,
    }


class Backfills:
    """Access to the backfill rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def insert(self, backfill: Backfill) -> bool:
        """Insert a new backfill, and return False if its row already exists."""
        values = {
            "backfill_id": backfill.backfill_id,
            "state": backfill.state,
            "first_month": backfill.first_month,
            "last_month": backfill.last_month,
            "datasets": ",".join(backfill.datasets),
            "requested_by": backfill.requested_by,
            "started_at": backfill.started_at,
            "hub": backfill.hub,
            "instance_id": backfill.instance_id,
        }
        return (
            await self._tables.insert("runs", *backfill_keys(backfill.backfill_id), values)
            is not None
        )

    async def save_plan(
        self, backfill_id: str, runs: list[str], settled: dict[str, int], left_out: str
    ) -> None:
        """Store the plan of a backfill. Idempotent."""
        await plan_lists.save(
            self._tables,
            *backfill_keys(backfill_id),
            runs,
            left_out,
            state="running",
            next_check_at="",
            settled=json.dumps(settled),
        )

    async def save_wait(self, backfill_id: str, next_check_at: str) -> None:
        """Store when the backfill requests the invoice list again. Idempotent."""
        await self._tables.merge(
            "runs", *backfill_keys(backfill_id), {"next_check_at": next_check_at}
        )

    async def save_result(self, backfill_id: str, outcomes: dict[str, int], at: str) -> None:
        """Store the number of runs by outcome, and the end of the backfill."""
        await self._tables.merge(
            "runs",
            *backfill_keys(backfill_id),
            {"state": "ended", "outcomes": json.dumps(outcomes), "ended_at": at},
        )

    async def merge_if_unchanged(self, backfill: Backfill, **columns: Any) -> bool:
        """Update columns, and return False if the row was changed since it was read."""
        keys = backfill_keys(backfill.backfill_id)
        return await self._tables.merge("runs", *keys, columns, backfill.etag) is not None

    async def mark_cancelled(self, backfill_id: str, at: datetime) -> None:
        """Request the cancellation, which each lane reads before it starts a run. Idempotent."""
        await self._tables.merge(
            "runs", *backfill_keys(backfill_id), {"cancel_requested_at": iso(at)}
        )

    async def get(self, backfill_id: str) -> Backfill | None:
        """Return a backfill, or None if it does not exist."""
        row = await self._tables.get("runs", *backfill_keys(backfill_id))
        if row is None:
            return None
        values = row.values
        runs, left_out = await plan_lists.load(self._tables, backfill_keys(backfill_id)[1], values)
        optional = (
            "requested_by",
            "started_at",
            "ended_at",
            "cancel_requested_at",
            "next_check_at",
            "hub",
            "instance_id",
            "code",
        )
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
            restarts=values.get("restarts", 0),
            etag=row.etag,
            **{name: values.get(name, "") for name in optional},
        )
