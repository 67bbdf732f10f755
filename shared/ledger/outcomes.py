"""How runs end: by their last activity, or by the orphaned-run cleanup.

Both call `close_run`. It writes the run row, the catalogue, the event and the lock, in this order,
and each step is idempotent, so that a repeated call completes an interrupted one.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from shared.clock import iso, parse_iso
from shared.errors import InfrastructureError, get_remedy
from shared.ledger.ledger import Ledger
from shared.ledger.locks import Lock
from shared.ledger.runs import Run, seconds_between
from shared.messages import RunResult
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.telemetry import emit_event

MIN_UNKNOWN_TIME = timedelta(minutes=5)
TIMER_TOLERANCE = timedelta(seconds=30)  # the cleanup timer does not fire exactly every 5 minutes
# The orchestration had ended before the cleanup found it, so the time since then is not a wait.
ORPHANED_RUN_CODES = frozenset({"terminated", "run_lost", "platform_fault"})

InstanceState = Literal["live", "unknown", "terminated", "over"]
"""The state of an instance in the task hub.

"live" includes pending and suspended instances; "over" means completed or failed.
"""

GetInstanceState = Callable[[str], Awaitable[InstanceState]]


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
        newest = await ledger.versions.get_newest_complete(run.export_key)
        await ledger.catalogue.refresh(run.export_key, newest, run)
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
    return run.result


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
    totals = await ledger.blobs.totals(run.export_key, run.version)
    return columns | {
        "blobs_landed": totals.blobs,
        "blobs_failed": max(0, run.blobs_total - totals.blobs),
        "bytes": totals.bytes,
        "rows": totals.rows or 0,
        "proof": "content" if totals.rows is not None else "transfer",
    }


async def clean_up_orphaned_runs(ledger: Ledger, get_instance_state: GetInstanceState) -> list[str]:
    """Close the runs that hold a key and whose orchestration is gone.

    An error for one key does not stop the cleanup of the others: it is raised at the end.

    Args:
        ledger: The ledger.
        get_instance_state: Returns the state of an instance in the task hub of this app.

    Returns:
        The IDs of the closed runs.
    """
    closed = []
    last_error: Exception | None = None
    async for lock in ledger.locks.list_held():
        try:
            if await _close_if_orphaned(ledger, lock, get_instance_state):
                closed.append(lock.run_id)
        except Exception as error:
            last_error = error
    if last_error is not None:
        raise last_error
    return closed


async def _close_if_orphaned(
    ledger: Ledger, lock: Lock, get_instance_state: GetInstanceState
) -> bool:
    """Close the run that holds the lock if it is orphaned, and return whether it was."""
    code = await _get_orphan_code(ledger, lock, get_instance_state)
    if code is None:
        return False
    run = await ledger.runs.get(lock.run_id)
    if run is None:  # the process of the HTTP trigger ended before it inserted the run row
        await ledger.locks.release(lock.key, lock.run_id)
        return True
    result: RunResult = {"outcome": "failed", "code": code}
    if run.cancelled:
        result = {"outcome": "cancelled", "code": "cancelled"}
    await close_run(ledger, lock.run_id, result)
    return True


async def _get_orphan_code(
    ledger: Ledger, lock: Lock, get_instance_state: GetInstanceState
) -> str | None:
    """Return the error code of an orphaned run, or None if its orchestration can be live."""
    now = ledger.clock.now()
    if lock.hub != ledger.hub:
        return "run_lost" if parse_iso(lock.lease_until) < now else None
    min_unknown_time = MIN_UNKNOWN_TIME - TIMER_TOLERANCE
    match await get_instance_state(lock.run_id):
        case "terminated":
            return "terminated"
        case "over":
            return "platform_fault"
        case "unknown" if not lock.unknown_since:
            await ledger.locks.set_unknown_since(lock, iso(now))
        case "unknown" if now - parse_iso(lock.unknown_since) >= min_unknown_time:
            return "run_lost"
        case "live" if lock.unknown_since:
            await ledger.locks.set_unknown_since(lock, "")
    return None
