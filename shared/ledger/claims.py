"""Who may run: a run begins by claiming its key, from the HTTP starter and again, harmlessly, from its first activity."""

from dataclasses import replace
from datetime import datetime

from shared.clock import iso
from shared.errors import InfrastructureError
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
from shared.telemetry import APP_VERSION

MOST_TRIES = 50


def create_run(request: RunRequest, now: datetime) -> Run:
    """The first form of the run's row."""
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
    ledger: Ledger, wanted: Run, *, leave_trace: bool = True
) -> ClaimedResult | EndedResult | CancelledResult | SupersededResult:
    """Makes the key `wanted`'s, writes its row and says so; or says why not.

    Idempotent: the lock's row says whose the key is and the run's row is inserted once, so a repeated claim finds its
    own. A crash between the two leaves a lock without a row; the next claim of the same run writes it. With
    `leave_trace` a run that may not go on gets its row and outcome here; without, nothing of it remains.
    """
    now = ledger.clock.now()
    known = (
        await ledger.runs.get(wanted.run_id) if leave_trace else None
    )  # a starter has made the id just now
    if known is not None and known.result is not None:
        return {"status": "ended", "result": await close_run(ledger, wanted.run_id, known.result)}
    if known is not None and known.cancelled:
        await close_run(ledger, wanted.run_id, {"outcome": "cancelled", "code": "cancelled"})
        return {"status": "cancelled"}
    epoch = 0
    if ledger.locking:
        lock = await ledger.locks.acquire(
            wanted.key,
            wanted.run_id,
            ledger.hub,
            now,
            lambda lock: _is_being_cancelled(ledger, lock),
        )
        if lock.run_id != wanted.run_id:
            if leave_trace:
                await ledger.runs.insert(replace(wanted, hub=ledger.hub))
                await close_run(
                    ledger, wanted.run_id, {"outcome": "superseded", "live_run_id": lock.run_id}
                )
            return {"status": "superseded", "live_run_id": lock.run_id}
        epoch = lock.epoch
        if known is not None and known.epoch == epoch:
            return {"status": "claimed"}  # the starter did it all
    if not await ledger.runs.insert(replace(wanted, hub=ledger.hub, epoch=epoch)):
        await _adopt(ledger, wanted.run_id, epoch)
    return {"status": "claimed"}


async def _adopt(ledger: Ledger, run_id: str, epoch: int) -> None:
    """The lock was freed between a first claim and its row, and is this run's again: its row must name the epoch of now."""
    for _ in range(MOST_TRIES):
        run = await ledger.runs.get(run_id)
        if (
            run is None
            or run.result is not None
            or run.epoch == epoch
            or await ledger.runs.merge_if_unchanged(run, epoch=epoch)
        ):
            return
    raise InfrastructureError("run_contended", "Run")


async def _is_being_cancelled(ledger: Ledger, lock: Lock) -> bool:
    """A key whose live run is marked may be taken at once: the marked run ends at its next look and touches only its row."""
    run = await ledger.runs.get(lock.run_id)
    return run is not None and run.cancelled
