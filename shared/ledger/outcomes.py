"""How runs end: by their last activity, or, when nobody is left to do it, by the one judge of death.

Both call close_run(), whose steps each do nothing when done: the run's row, the catalogue, the event, the lock, in this
order; so whatever it finds half done, it finishes.
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
from shared.telemetry import emit_event

MOST_TRIES = 50
UNKNOWN_FOR = timedelta(minutes=5)
DEAD = frozenset(
    {"terminated", "run_lost", "platform_fault"}
)  # it has not waited until somebody found it
TOLERANCE = timedelta(seconds=30)  # a timer that looks every five minutes is not exact

InstanceState = Literal["live", "unknown", "terminated", "over"]
"""What the engine says of an instance; pending and suspended live; over = completed or failed."""


async def close_run(ledger: Ledger, run_id: str, end: RunResult) -> RunResult:
    """Writes how a run ended, once, and puts everything in order behind it. Returns how it really ended.

    A run that has an outcome keeps it. One whose version is complete and its own has landed, whatever was said of it.
    """
    run = await _write_outcome(ledger, run_id, end)
    assert run.result is not None
    lock = await ledger.locks.get(run.key) if ledger.locking else None
    own = not ledger.locking or (
        lock is not None and lock.run_id == run_id and lock.epoch == run.epoch
    )
    if own:
        await ledger.catalogue.refresh(
            run.export_key, await ledger.versions.get_newest_complete(run.export_key), run
        )
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
        rows=run.rows,
        polls=run.polls,
        posts=run.posts,
        operations=run.operations,
        waited_seconds=run.waited_seconds,
        seconds=round(seconds_between(run, ledger.clock.now()), 1),
        requested_by=run.requested_by,
        remedy=get_remedy(run.code) if run.code else None,
    )
    if ledger.locking:
        await ledger.locks.release(
            run.key, run_id, lock
        )  # only where it names this run, of whatever epoch: nobody else would
    return run.result


async def _write_outcome(ledger: Ledger, run_id: str, end: RunResult) -> Run:
    for _ in range(MOST_TRIES):
        run = await ledger.runs.get(run_id)
        if run is None:
            raise InfrastructureError(
                "run_unknown", "Run"
            )  # every run is inserted before anything can end it
        if run.result is not None:
            return run
        columns = await _final_columns(ledger, run, end)
        if await ledger.runs.merge_if_unchanged(run, **columns):
            return replace(run, **columns)
    raise InfrastructureError("run_contended", "Run")


async def _final_columns(ledger: Ledger, run: Run, end: RunResult) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "stage": "ended",
        "outcome": end["outcome"],
        "code": end.get("code", ""),
        "live_run_id": end.get("live_run_id", ""),
        "ended_at": iso(ledger.clock.now()),
        "next_check_at": "",
    }
    if columns["code"] not in DEAD:
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
            }
    totals = await ledger.blobs.totals(run.export_key, run.version)
    return columns | {
        "blobs_landed": totals.blobs,
        "blobs_failed": max(0, run.blobs_total - totals.blobs),
        "bytes": totals.bytes,
        "rows": totals.rows,
    }


async def clean_up_orphaned_runs(
    ledger: Ledger, look: Callable[[str], Awaitable[InstanceState]]
) -> list[str]:
    """Closes the runs that hold a key and that nobody works on any more; returns their ids. `look` asks our own engine.

    What goes wrong with one key is raised when all have been looked at: it must not leave the dead of others unburied.
    """
    closed = []
    failed: Exception | None = None
    async for lock in ledger.locks.list_held():
        try:
            if await _settle(ledger, lock, look):
                closed.append(lock.run_id)
        except Exception as error:
            failed = error
    if failed is not None:
        raise failed
    return closed


async def _settle(
    ledger: Ledger, lock: Lock, look: Callable[[str], Awaitable[InstanceState]]
) -> bool:
    """Whether the holder was dead, and is closed now."""
    code = await _death(ledger, lock, look)
    if code is None:
        return False
    run = await ledger.runs.get(lock.run_id)
    if run is None:  # claimed by a starter that died before it wrote the run's row
        await ledger.locks.release(lock.key, lock.run_id)
    else:
        end: RunResult = (
            {"outcome": "cancelled", "code": "cancelled"}
            if run.cancelled
            else {"outcome": "failed", "code": code}
        )
        await close_run(ledger, lock.run_id, end)
    return True


async def _death(
    ledger: Ledger, lock: Lock, look: Callable[[str], Awaitable[InstanceState]]
) -> str | None:
    """The code of a dead run's outcome; None while it lives, or may."""
    now = ledger.clock.now()
    if lock.hub != ledger.hub:
        return "run_lost" if parse_iso(lock.lease_until) < now else None
    match await look(lock.run_id):
        case "terminated":
            return "terminated"
        case "over":
            return "platform_fault"
        case "unknown" if not lock.unknown_since:
            await ledger.locks.set_unknown_since(lock, iso(now))
        case "unknown" if now - parse_iso(lock.unknown_since) >= UNKNOWN_FOR - TOLERANCE:
            return "run_lost"
        case "live" if lock.unknown_since:
            await ledger.locks.set_unknown_since(lock, "")
    return None
