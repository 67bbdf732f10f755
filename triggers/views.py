"""Runs, blobs, cycles and landed keys as the API shows them: the words of the ledger, in one shape wherever they appear."""

import json
from datetime import datetime
from typing import Any

from shared.errors import get_cause, get_remedy
from shared.exports import ExportKey
from shared.landing.documents import key_members
from shared.ledger.blobs import BlobRow, BlobTotals
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.cycles import Cycle
from shared.ledger.ledger import Ledger
from shared.ledger.locks import Lock
from shared.ledger.runs import Run
from shared.planning.due import finality


async def run_view(ledger: Ledger, run: Run) -> dict[str, Any]:
    """While a run copies, its counts are those of the blob rows; afterwards those of its own."""
    if not run.outcome and run.version:
        return run_row_view(run, await ledger.blobs.totals(run.export_key, run.version))
    return run_row_view(run)


def run_row_view(run: Run, totals: BlobTotals | None = None) -> dict[str, Any]:
    """What the row says, in no request."""
    totals = totals or BlobTotals(run.blobs_landed, run.bytes, run.rows)
    return {
        "run_id": run.run_id,
        **key_members(run.export_key),
        "stage": run.stage,
        "outcome": run.outcome or None,
        "code": run.code or None,
        "cause": get_cause(run.code) if run.code else None,
        "remedy": get_remedy(run.code) if run.code else None,
        "detail": run.detail or None,
        "requested_by": run.requested_by or None,
        "reason": run.reason or None,
        "cycle_id": run.cycle_id or None,
        "retry_of": run.retry_of or None,
        "force": run.force,
        "started_at": run.started_at,
        "deadline": run.deadline or None,
        "ended_at": run.ended_at or None,
        "cancel_requested_at": run.cancel_requested_at or None,
        "next_check_at": run.next_check_at or None,
        "waited_seconds": run.waited_seconds,
        "polls": run.polls,
        "posts": run.posts,
        "operations": run.operations,
        "last_code": run.last_code or None,
        "request_ids": [one for one in run.request_ids.split(",") if one],
        "blobs": {"total": run.blobs_total, "landed": totals.blobs, "failed": run.blobs_failed},
        "bytes": totals.bytes,
        "rows": totals.rows,
        "version": run.version or None,
        "path": run.path or None,
        "live_run_id": run.live_run_id or None,
        "app_version": run.app_version or None,
    }


def starting_view(run_id: str, key: ExportKey) -> dict[str, Any]:
    """A key that is claimed by a run whose row is not written yet."""
    return run_row_view(Run(run_id=run_id, key=str(key)))


def live_view(lock: Lock, run: Run | None) -> dict[str, Any]:
    """What holds a key now; `run` None: it is claimed, and its row not written yet."""
    return {
        "run_id": lock.run_id,
        "key": lock.key,
        "stage": run.stage if run else "starting",
        "task_hub": lock.hub,
        "started_at": (run.started_at if run else "") or None,
        "next_check_at": (run.next_check_at if run else "") or None,
        "cancel_requested_at": (run.cancel_requested_at if run else "") or None,
        "lease_until": lock.lease_until,
    }


def blob_view(blob: BlobRow) -> dict[str, Any]:
    return {
        "name": blob.name,
        "ok": blob.ok,
        "run_id": blob.run_id,
        "bytes": blob.bytes,
        "rows": blob.rows,
        "md5": blob.md5 or None,
        "sha256": blob.sha256 or None,
        "etag": blob.destination_etag or None,
        "source_etag": blob.source_etag or None,
        "encoding": blob.encoding or None,
        "copy_method": blob.copy_method or None,
        "tries": blob.tries,
        "seconds": blob.seconds,
        "code": blob.code or None,
        "cause": get_cause(blob.code) if blob.code else None,
        "remedy": get_remedy(blob.code) if blob.code else None,
    }


def cycle_view(cycle: Cycle, runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cycle_id": cycle.cycle_id,
        "state": cycle.state,
        "tick": cycle.tick,
        "requested_by": cycle.requested_by or None,
        "started_at": cycle.started_at or None,
        "ended_at": cycle.ended_at or None,
        "outcomes": cycle.outcomes,
        "runs": runs,
    }


def catalogue_view(entry: CatalogueEntry, now: datetime) -> dict[str, Any]:
    """`version` null: asked for, and nothing landed yet. `last_*`: the newest run that ended, whatever became of it."""
    return {
        **key_members(ExportKey.parse(entry.key)),
        "billing_month": entry.billing_month or None,
        "version": entry.version or None,
        "path": entry.path or None,
        "etag": entry.manifest_etag or None,
        "created_at": entry.created_at or None,
        "first_seen": entry.first_seen or None,
        "landed_at": entry.landed_at or None,
        "blobs": entry.blobs,
        "bytes": entry.bytes,
        "rows": entry.rows,
        "settles_on": entry.settles_on or None,
        "finality": finality(ExportKey.parse(entry.key), entry.settles_on, now),
        "tie_out": json.loads(entry.tie_out) if entry.tie_out else None,
        "last_outcome": entry.last_outcome or None,
        "last_code": entry.last_code or None,
        "last_remedy": get_remedy(entry.last_code) if entry.last_code else None,
        "last_run_id": entry.last_run_id or None,
        "last_ended_at": entry.last_ended_at or None,
    }
