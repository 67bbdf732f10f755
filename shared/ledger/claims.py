"""The claim of an export key by a run, from the HTTP trigger and from the first activity."""

from dataclasses import replace
from datetime import datetime

from shared.clock import iso
from shared.ledger.ledger import Ledger
from shared.ledger.locks import Lock
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from shared.messages import (
    CancelledResult,
    ClaimedResult,
    EndedResult,
    RunRequest,
    SupersededResult,
)
from shared.optimistic_concurrency import CONFLICT, Conflict, update
from shared.telemetry import APP_VERSION


def create_run(request: RunRequest, now: datetime) -> Run:
    """Return the run row for a request, as it is inserted."""
    return Run(
        run_id=request["run_id"],
        key=request["key"],
        force=request["force"],
        deadline=request["limits"]["deadline"],
        requested_by=request.get("requested_by", ""),
        reason=request.get("reason", ""),
        cycle_id=request.get("cycle_id", ""),
        retry_of=request.get("retry_of", ""),
        app_version=APP_VERSION,
        started_at=iso(now),
    )


async def claim(
    ledger: Ledger, new_run: Run, *, leave_trace: bool = True
) -> ClaimedResult | EndedResult | CancelledResult | SupersededResult:
    """Acquire the lock of the run's key and insert the run row. Idempotent.

    If the process ends between the two writes, the lock exists without a run row, and the next
    claim of the same run inserts the row.

    Args:
        ledger: The ledger.
        new_run: The run; see `create_run`.
        leave_trace: Whether a run that cannot claim its key gets a run row with its outcome. False
            for an ID that was just generated, which also saves the request for an existing row.

    Returns:
        Whether the run holds its key, and otherwise the reason.
    """
    now = ledger.clock.now()
    existing = await ledger.runs.get(new_run.run_id) if leave_trace else None
    if existing is not None and existing.result is not None:
        result = await close_run(ledger, new_run.run_id, existing.result)
        return {"status": "ended", "result": result}
    if existing is not None and existing.cancelled:
        await close_run(ledger, new_run.run_id, {"outcome": "cancelled", "code": "cancelled"})
        return {"status": "cancelled"}
    epoch = 0
    if ledger.locking:
        lock = await ledger.locks.acquire(
            new_run.key,
            new_run.run_id,
            ledger.hub,
            now,
            lambda lock: _is_holder_cancelled(ledger, lock),
        )
        if lock.run_id != new_run.run_id:
            if leave_trace:
                await ledger.runs.insert(replace(new_run, hub=ledger.hub))
                await close_run(
                    ledger, new_run.run_id, {"outcome": "superseded", "live_run_id": lock.run_id}
                )
            return {"status": "superseded", "live_run_id": lock.run_id}
        epoch = lock.epoch
        if existing is not None and existing.epoch == epoch:
            return {"status": "claimed"}  # by the HTTP trigger
    if not await ledger.runs.insert(replace(new_run, hub=ledger.hub, epoch=epoch)):
        await _set_epoch(ledger, new_run.run_id, epoch)
    return {"status": "claimed"}


async def _set_epoch(ledger: Ledger, run_id: str, epoch: int) -> None:
    """Store the epoch of a lock that was released and acquired again before its run row existed."""

    async def write(run: Run | None) -> Conflict | None:
        if run is None or run.result is not None or run.epoch == epoch:
            return None
        return None if await ledger.runs.merge_if_unchanged(run, epoch=epoch) else CONFLICT

    await update(
        lambda: ledger.runs.get(run_id), write, contended_code="run_contended", component="Run"
    )


async def _is_holder_cancelled(ledger: Ledger, lock: Lock) -> bool:
    """Return whether the run that holds the lock is being cancelled.

    Such a run can be replaced at once: its next activity ends it, and it writes only its own row.
    """
    run = await ledger.runs.get(lock.run_id)
    return run is not None and run.cancelled
