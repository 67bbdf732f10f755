"""The claim of an export key by a run, from the HTTP trigger and from the first activity."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from shared.clock import iso
from shared.ledger.ledger import Ledger
from shared.ledger.locks import Lock
from shared.ledger.outcomes import close_run, insert_superseded_run
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


def create_run(request: RunRequest, now: datetime, instance_id: str = "") -> Run:
    """Return the run row for a request, as it is inserted.

    Args:
        request: The request.
        now: The start of the run.
        instance_id: The orchestration instance; by default, the one with the ID of the run.
    """
    return Run(
        run_id=request["run_id"],
        instance_id=instance_id or request["run_id"],
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


async def _is_always_live(instance_id: str) -> bool:
    return True


async def claim(
    ledger: Ledger,
    new_run: Run,
    *,
    leave_trace: bool = True,
    is_live: Callable[[str], Awaitable[bool]] = _is_always_live,
) -> ClaimedResult | EndedResult | CancelledResult | SupersededResult:
    """Acquire the lock of the run's key and insert the run row. Idempotent.

    If the process ends between the two writes, the lock exists without a run row, and the next
    claim of the same run inserts the row.

    Two task hubs can start a run with the same ID, and a run can have several attempts in one hub.
    One instance claims the run; the others write nothing to its row. An instance takes over from
    an earlier instance of the same hub that is no longer live.

    Args:
        ledger: The ledger.
        new_run: The run; see `create_run`.
        leave_trace: Whether a run that cannot claim its key gets a run row with its outcome. False
            for an ID that was just generated, which also saves the request for an existing row.
        is_live: Returns whether an earlier instance of the run in this task hub is live.

    Returns:
        Whether the run holds its key, and otherwise the reason.
    """
    now = ledger.clock.now()
    run_id, hub, instance_id = new_run.run_id, ledger.hub, new_run.instance_id or new_run.run_id
    new_run = replace(new_run, hub=hub, instance_id=instance_id)
    superseded: SupersededResult = {"status": "superseded", "live_run_id": run_id}
    existing = await ledger.runs.get(run_id) if leave_trace else None
    if existing is not None and existing.hub != hub:
        if existing.result is None:
            return superseded
        return {"status": "ended", "result": existing.result}
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
            run_id,
            hub,
            instance_id,
            now,
            lambda lock: _can_take_over(ledger, new_run, lock, is_live),
        )
        if lock.run_id != run_id:
            live_run_id = lock.run_id
            if leave_trace and not await insert_superseded_run(ledger, new_run, live_run_id):
                await close_run(
                    ledger, run_id, {"outcome": "superseded", "live_run_id": live_run_id}
                )
            return {"status": "superseded", "live_run_id": live_run_id}
        if not lock.is_held_by(run_id, hub, instance_id):
            return superseded
        epoch = lock.epoch
        if existing is not None and (existing.epoch, existing.instance_id) == (epoch, instance_id):
            return {"status": "claimed"}  # by the HTTP trigger
    await ledger.open_items.add(run_id, "run", hub, now)
    if not await ledger.runs.insert(replace(new_run, epoch=epoch)):
        await _set_instance(ledger, replace(new_run, epoch=epoch))
    return {"status": "claimed"}


async def _set_instance(ledger: Ledger, new_run: Run) -> None:
    """Store the lock's epoch and the instance of a run that is claimed again."""
    columns = {"epoch": new_run.epoch, "instance_id": new_run.instance_id}

    async def write(run: Run | None) -> Conflict | None:
        if run is None or run.result is not None:
            return None
        if (run.epoch, run.instance_id) == (new_run.epoch, new_run.instance_id):
            return None
        return None if await ledger.runs.merge_if_unchanged(run, **columns) else CONFLICT

    await update(
        lambda: ledger.runs.get(new_run.run_id),
        write,
        contended_code="run_contended",
        component="Run",
    )


async def _can_take_over(
    ledger: Ledger, new_run: Run, lock: Lock, is_live: Callable[[str], Awaitable[bool]]
) -> bool:
    """Return whether a run can replace the current holder of its key.

    An instance replaces an earlier instance of the same run and task hub that is no longer live. A
    run replaces another run that is being cancelled: the next activity of that run, or the
    orphaned-run cleanup, ends it, and it writes only its own row.
    """
    if lock.run_id == new_run.run_id:
        return lock.hub == new_run.hub and not await is_live(lock.instance_id)
    run = await ledger.runs.get(lock.run_id)
    return run is not None and run.cancelled
