"""The run rows: what was asked, how far it is, how it ended. One row a run; its columns are the API's words.

Who writes what: claim_run inserts; the activity at work merges its own columns; only an outcome is written by
If-Match, because it is written once. A cancel is a column of its own, so that it can never lose a race.
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

MOST_REQUEST_IDS = 10
OUTCOMES: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Run:
    """One row of the runs table. Times are ISO 8601 in UTC, "" where there is none; sizes are bytes."""

    run_id: str
    key: str
    stage: str = "starting"
    force: bool = False
    requested_by: str = ""
    reason: str = ""
    cycle_id: str = ""
    retry_of: str = ""
    hub: str = ""
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
    polls: int = 0
    last_code: str = ""
    detail: str = ""  # one sentence on the rule that was broken, where one was
    request_ids: str = ""
    next_check_at: str = ""
    waited_seconds: int = 0  # in all, for Microsoft and between rounds; see waits()
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
    path: str = ""
    etag: str = ""  # the row's, not a column
    lock: Lock | None = field(
        default=None, compare=False
    )  # its key's, as holding() saw it; not a column

    @property
    def export_key(self) -> ExportKey:
        return ExportKey.parse(self.key)

    @property
    def cancelled(self) -> bool:
        return bool(self.cancel_requested_at)

    @property
    def result(self) -> RunResult | None:
        """How it ended, in the form that orchestrators return; None while it lives."""
        if not self.outcome:
            return None
        end: RunResult = {"outcome": _outcome(self.outcome)}
        if self.code:
            end["code"] = self.code
        if self.version and self.outcome in ("landed", "unchanged"):
            end["version"] = self.version
        if self.live_run_id:
            end["live_run_id"] = self.live_run_id
        return end

    def get_wait_columns(self, now: datetime, *, is_waiting: bool = False) -> dict[str, Any]:
        """The columns that say how long it has waited by now; `is_waiting`: and waits again from here.

        Absolute, so that an activity that runs twice counts nothing twice.
        """
        since = parse_iso(self.waiting_since) if self.waiting_since else now
        waited = self.waited_seconds + max(0, round((now - since).total_seconds()))
        return {"waited_seconds": waited, "waiting_since": iso(now) if is_waiting else ""}

    def with_request_id(self, request_id: str | None) -> str:
        """The column with one more of Microsoft's request ids, the newest kept."""
        known = [one for one in self.request_ids.split(",") if one]
        return ",".join(
            [*known, *([request_id] if request_id and request_id not in known else [])][
                -MOST_REQUEST_IDS:
            ]
        )


COLUMNS = tuple(field.name for field in fields(Run) if field.name not in ("etag", "lock"))


def _outcome(text: str) -> Outcome:
    known: dict[str, Outcome] = {
        "landed": "landed",
        "unchanged": "unchanged",
        "no_data": "no_data",
        "cancelled": "cancelled",
        "superseded": "superseded",
        "incomplete": "incomplete",
        "failed": "failed",
        "timed_out": "timed_out",
    }
    return known[text]


def run_of(row: Row) -> Run:
    return Run(**{name: row.values[name] for name in COLUMNS if name in row.values}, etag=row.etag)


class Runs:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, run_id: str) -> Run | None:
        row = await self._tables.get("runs", *run_keys(run_id))
        return run_of(row) if row else None

    async def get_many(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """By id, those that have a row. Runs of one moment, as all of a cycle are, come in one request for each thousand."""
        moments = dict[tuple[str, str], list[str]]()
        for run_id in run_ids:
            partition, row = run_keys(run_id)
            moments.setdefault((partition, row.removesuffix(run_id)), []).append(run_id)
        found = await asyncio.gather(
            *(self._of_moment(*moment, ids) for moment, ids in moments.items())
        )
        return {run.run_id: run for runs in found for run in runs}

    async def _of_moment(self, partition: str, start: str, run_ids: Sequence[str]) -> list[Run]:
        if len(run_ids) == 1:
            run = await self.get(run_ids[0])
            return [run] if run else []
        wanted = frozenset(run_ids)
        runs = [run_of(row) async for row in self._tables.list("runs", partition, prefix=start)]
        return [run for run in runs if run.run_id in wanted]

    async def insert(self, run: Run) -> bool:
        """False where the run has a row already."""
        values = {name: getattr(run, name) for name in COLUMNS if getattr(run, name) not in ("", 0)}
        return (
            await self._tables.insert(
                "runs", *run_keys(run.run_id), {"run_id": run.run_id, **values}
            )
            is not None
        )

    async def merge(self, run_id: str, **columns: Any) -> None:
        """Sets columns that only the activity at work writes."""
        await self._tables.merge("runs", *run_keys(run_id), columns)

    async def merge_if_unchanged(self, run: Run, **columns: Any) -> bool:
        """Sets columns only if the row is still as `run` was read."""
        return (
            await self._tables.merge("runs", *run_keys(run.run_id), columns, run.etag) is not None
        )

    async def mark_cancelled(self, run_id: str, at: datetime, by: str) -> None:
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
        """The runs of a month (`yyyymm`), newest first, in one request; the filters are the service's work."""
        where = RowFilter(
            equal={"outcome": outcome} if outcome else {},
            starts_with={"key": f"{dataset}/"} if dataset else {},
        )
        page = await self._tables.get_page(
            "runs", month, where=where, limit=limit, continuation=continuation
        )
        return [run_of(row) for row in page.rows], page.continuation

    async def list(self, month: str) -> AsyncIterator[Run]:
        """The runs of a month (`yyyymm`), newest first."""
        async for row in self._tables.list("runs", month):
            yield run_of(row)


def seconds_between(run: Run, now: datetime) -> float:
    """How long the run took, or has taken so far."""
    if not run.started_at:
        return 0.0
    return (
        (parse_iso(run.ended_at) if run.ended_at else now) - parse_iso(run.started_at)
    ).total_seconds()
