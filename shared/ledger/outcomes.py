"""How runs end: by their last activity, or by the orphaned-run cleanup.

Both call `close_run`. It writes the run row, the catalogue, the event, the lock and the index of
open items, in this order, and each step is idempotent, so that a repeated call completes an
interrupted one.
"""

from dataclasses import replace
from typing import Any

from shared.clock import iso
from shared.errors import InfrastructureError, get_remedy
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run, seconds_between
from shared.messages import RunResult
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.telemetry import emit_event

# The orchestration had ended before the cleanup found it, so the time since then is not a wait.
ORPHANED_RUN_CODES = frozenset(
    {"terminated", "run_lost", "platform_fault", "restart_limit_reached"}
)


async def close_run(ledger: Ledger, run_id: str, result: RunResult) -> RunResult:
    """Write the outcome of a run, and update the catalogue and the lock. Idempotent.

    An outcome that is already stored stays. If the run has completed its version, its outcome is
    `landed`, whatever `result` contains.

    Returns:
        The stored result.
    """
    run = await _write_outcome(ledger, run_id, result)
    assert run.result is not None
    lock = await ledger.locks.get(run.key) if ledger.locking else None
    holds_lock = lock is not None and lock.run_id == run_id and lock.epoch == run.epoch
    if holds_lock or not ledger.locking:
        await ledger.catalogue.refresh(run.export_key, run)
    emit_event(
        "run_ended",
        f"{run_id}/ended/1",
        run_id=run_id,
        key=run.key,
        outcome=run.outcome,
        code=run.code,
        version=run.version,
        blobs=run.blobs_landed,
        blobs_total=run.blobs_total,
        bytes=run.bytes,
        rows=run.known_rows,
        polls=run.polls,
        posts=run.posts,
        operations=run.operations,
        waited_seconds=run.waited_seconds,
        seconds=round(seconds_between(run, ledger.clock.now()), 1),
        requested_by=run.requested_by,
        remedy=get_remedy(run.code) if run.code else None,
    )
    if ledger.locking:
        # Releases the lock of any epoch that contains this run: no other caller would.
        await ledger.locks.release(run.key, run_id, lock)
    await ledger.open_items.remove(run_id)
    return run.result


async def insert_superseded_run(ledger: Ledger, run: Run, live_run_id: str) -> bool:
    """Insert the row of a run that another run makes unnecessary, and emit its event.

    The row is inserted with its outcome, so an interruption leaves no open row.

    Returns:
        False if the run already has a row, which is not changed.
    """
    ended = replace(
        run,
        hub=ledger.hub,
        stage="ended",
        outcome="superseded",
        live_run_id=live_run_id,
        ended_at=iso(ledger.clock.now()),
    )
    if not await ledger.runs.insert(ended):
        return False
    await close_run(ledger, run.run_id, {"outcome": "superseded", "live_run_id": live_run_id})
    return True


async def _write_outcome(ledger: Ledger, run_id: str, result: RunResult) -> Run:
    async def write(run: Run | None) -> Run | Conflict:
        if run is None:  # a run cannot end before its row is inserted
            raise InfrastructureError("run_unknown", "Run")
        if run.result is not None:
            return run
        columns = await _get_final_columns(ledger, run, result)
        is_written = await ledger.runs.merge_if_unchanged(run, **columns)
        return replace(run, **columns) if is_written else CONFLICT

    return await update(
        lambda: ledger.runs.get(run_id), write, contended_code="run_contended", component="Run"
    )


async def _get_final_columns(ledger: Ledger, run: Run, result: RunResult) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "stage": "ended",
        "outcome": result["outcome"],
        "code": result.get("code", ""),
        "live_run_id": result.get("live_run_id", ""),
        "ended_at": iso(ledger.clock.now()),
        "next_check_at": "",
    }
    if columns["code"] not in ORPHANED_RUN_CODES:
        columns |= run.get_wait_columns(ledger.clock.now())
    if not run.version:
        return columns
    version = await ledger.versions.get(run.export_key, run.manifest_etag, run.version_n)
    if version is not None and version.state == "complete":
        if version.run_id == run.run_id:
            columns |= {"outcome": "landed", "code": "", "path": version.path}
        if columns["outcome"] in ("landed", "unchanged"):
            return columns | {
                "path": version.path,
                "blobs_total": version.blobs,
                "blobs_landed": version.blobs,
                "blobs_failed": 0,
                "bytes": version.bytes,
                "rows": version.rows,
                "proof": version.proof,
            }
    if version is not None and version.state == "damaged" and columns["code"] == "blobs_missing":
        columns["code"] = "version_damaged"
    totals = await ledger.blobs.totals(run.export_key, run.version)
    return columns | {
        "blobs_landed": totals.blobs,
        "blobs_failed": max(0, run.blobs_total - totals.blobs),
        "bytes": totals.bytes,
        "rows": totals.rows or 0,
        "proof": "content" if totals.rows is not None else "transfer",
    }
