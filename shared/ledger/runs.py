"""The run rows: the request, the progress and the outcome of each run.

`claim_run` inserts a row, and the current activity merges its own columns without a condition. Only
the outcome is written on the condition that the row is unchanged, because it is written once.
Cancellation has its own columns, so that it cannot conflict with other writers.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, get_args

from shared.clock import iso, parse_iso
from shared.exports import ExportKey
from shared.ledger.keys import run_keys
from shared.ledger.locks import Lock
from shared.ledger.tables import Continuation, Row, RowFilter, Tables
from shared.messages import Outcome, RunResult

MAX_REQUEST_IDS = 10
BACKFILL_PREFIX = "backfill:"  # of `requested_by`; see activities/plan_backfill.py
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Run:
    """A row of the runs table. Times are ISO 8601 in UTC, or ""; sizes are in bytes."""

    run_id: str
    key: str
    stage: str = "starting"
    force: bool = False
    requested_by: str = ""
    reason: str = ""
    cycle_id: str = ""
    retry_of: str = ""
    hub: str = ""
    instance_id: str = ""  # the current orchestration instance; see keys.attempt_id()
    restarts: int = 0  # how often the orphaned-run cleanup has started the run again
    epoch: int = 0
    app_version: str = ""
    started_at: str = ""
    deadline: str = ""
    ended_at: str = ""
    outcome: str = ""
    code: str = ""
    live_run_id: str = ""
    cancel_requested_at: str = ""
    cancel_requested_by: str = ""
    asked_period: str = ""
    asked_at: str = ""
    operation_id: str = ""
    operations: int = 0
    posts: int = 0
    unconfirmed_posts: int = 0  # may have created an operation whose ID is unknown
    polls: int = 0
    not_found: int = 0  # successive 404 responses for the operation or its manifest
    denied_since: str = ""  # the first of the successive 401 and 403 responses
    last_code: str = ""
    detail: str = ""  # the rule that the data breaks, if any
    request_ids: str = ""
    next_check_at: str = ""
    waited_seconds: int = 0  # see get_wait_columns()
    waiting_since: str = ""
    plan: int = 0
    version: str = ""
    version_n: int = 0
    manifest_etag: str = ""
    manifest_created: str = ""
    root_directory: str = ""
    blobs_total: int = 0
    blobs_landed: int = 0
    blobs_failed: int = 0
    bytes: int = 0
    rows: int = 0
    proof: str = ""  # "transfer" if the proof of a blob did not count its rows
    path: str = ""
    etag: str = ""  # not a column
    # The lock of the key, as `Ledger.holding` read it; not a column.
    lock: Lock | None = field(default=None, compare=False)

    @property
    def export_key(self) -> ExportKey:
        """The parsed export key."""
        return ExportKey.parse(self.key)

    @property
    def cancelled(self) -> bool:
        """Whether cancellation was requested."""
        return bool(self.cancel_requested_at)

    @property
    def plan_id(self) -> str:
        """The ID of the cycle or backfill that started the run, or ""."""
        if self.requested_by.startswith(BACKFILL_PREFIX):
            return self.requested_by.removeprefix(BACKFILL_PREFIX)
        return self.cycle_id

    @property
    def result(self) -> RunResult | None:
        """The result of the orchestration, or None if the run has not ended."""
        if not self.outcome:
            return None
        result: RunResult = {"outcome": OUTCOME_BY_NAME[self.outcome]}
        if self.code:
            result["code"] = self.code
        if self.version and self.outcome in ("landed", "unchanged"):
            result["version"] = self.version
        if self.live_run_id:
            result["live_run_id"] = self.live_run_id
        return result

    @property
    def known_rows(self) -> int | None:
        """The number of rows, or None if the proof did not count them."""
        return None if self.proof == "transfer" else self.rows

    def get_wait_columns(self, now: datetime, *, is_waiting: bool = False) -> dict[str, Any]:
        """Return the columns with the time that the run has waited so far.

        The values are absolute, so that an activity that runs twice counts no wait twice.

        Args:
            now: The current time.
            is_waiting: Whether another wait starts now.
        """
        since = parse_iso(self.waiting_since) if self.waiting_since else now
        waited = self.waited_seconds + max(0, round((now - since).total_seconds()))
        return {"waited_seconds": waited, "waiting_since": iso(now) if is_waiting else ""}

    def with_request_id(self, request_id: str | None) -> str:
        """Return the `request_ids` column with one more request ID; the oldest is dropped."""
        request_ids = [known for known in self.request_ids.split(",") if known]
        if request_id and request_id not in request_ids:
            request_ids.append(request_id)
        return ",".join(request_ids[-MAX_REQUEST_IDS:])


COLUMNS = tuple(field.name for field in fields(Run) if field.name not in ("etag", "lock"))


OUTCOME_BY_NAME: dict[str, Outcome] = {outcome: outcome for outcome in get_args(Outcome)}


def run_from_row(row: Row) -> Run:
    """Return the run in a row."""
    return Run(**{name: row.values[name] for name in COLUMNS if name in row.values}, etag=row.etag)


class Runs:
    """Access to the run rows."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, run_id: str) -> Run | None:
        """Return a run, or None if it does not exist."""
        row = await self._tables.get("runs", *run_keys(run_id))
        return run_from_row(row) if row else None

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """Return the existing runs by ID.

        Runs with the same start time, such as those of a cycle, need one request per 1,000 rows.
        """
        groups = dict[tuple[str, str], list[str]]()
        for run_id in run_ids:
            partition, row = run_keys(run_id)
            groups.setdefault((partition, row.removesuffix(run_id)), []).append(run_id)
        runs_by_group = await asyncio.gather(
            *(self._get_same_start(*group, ids) for group, ids in groups.items())
        )
        return {run.run_id: run for runs in runs_by_group for run in runs}

    async def _get_same_start(
        self, partition: str, start: str, run_ids: Sequence[str]
    ) -> list[Run]:
        if len(run_ids) == 1:
            run = await self.get(run_ids[0])
            return [run] if run else []
        requested = frozenset(run_ids)
        runs = [
            run_from_row(row) async for row in self._tables.list("runs", partition, prefix=start)
        ]
        return [run for run in runs if run.run_id in requested]

    async def insert(self, run: Run) -> bool:
        """Insert a run, and return False if its row already exists."""
        values = {name: getattr(run, name) for name in COLUMNS if getattr(run, name) not in ("", 0)}
        return (
            await self._tables.insert(
                "runs", *run_keys(run.run_id), {"run_id": run.run_id, **values}
            )
            is not None
        )

    async def merge(self, run_id: str, **columns: Any) -> None:
        """Update columns without a condition; only the current activity of the run writes them."""
        await self._tables.merge("runs", *run_keys(run_id), columns)

    async def merge_if_unchanged(self, run: Run, **columns: Any) -> bool:
        """Update columns, and return False if the row was changed since it was read."""
        return (
            await self._tables.merge("runs", *run_keys(run.run_id), columns, run.etag) is not None
        )

    async def mark_cancelled(self, run_id: str, at: datetime, by: str) -> None:
        """Request the cancellation of a run."""
        await self.merge(run_id, cancel_requested_at=iso(at), cancel_requested_by=by)

    async def get_page(
        self,
        month: str,
        *,
        dataset: str = "",
        outcome: str = "",
        limit: int,
        continuation: Continuation | None = None,
    ) -> tuple[list[Run], Continuation | None]:
        """Return a page of the runs that started in a month (`yyyymm`), newest first."""
        row_filter = RowFilter(
            equal={"outcome": outcome} if outcome else {},
            starts_with={"key": f"{dataset}/"} if dataset else {},
        )
        page = await self._tables.get_page(
            "runs", month, where=row_filter, limit=limit, continuation=continuation
        )
        return [run_from_row(row) for row in page.rows], page.continuation

    async def list(self, month: str) -> AsyncIterator[Run]:
        """List the runs that started in a month (`yyyymm`), newest first."""
        async for row in self._tables.list("runs", month):
            yield run_from_row(row)


def seconds_between(run: Run, now: datetime) -> float:
    """Return the seconds from the start of the run to its end, or to `now`."""
    if not run.started_at:
        return 0.0
    return (
        (parse_iso(run.ended_at) if run.ended_at else now) - parse_iso(run.started_at)
    ).total_seconds()
