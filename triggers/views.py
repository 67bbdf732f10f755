"""Runs and cycles as the API shows them: the words of the ledger, in one shape wherever they appear."""

from typing import Any

from shared.errors import cause, remedy
from shared.landing.documents import key_members
from shared.ledger.blobs import BlobTotals
from shared.ledger.cycles import Cycle
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run


async def run_view(ledger: Ledger, run: Run) -> dict[str, Any]:
    """While a run copies, its counts are those of the blob rows; afterwards those of its own."""
    totals = BlobTotals(run.blobs_landed, run.bytes, run.rows)
    if not run.outcome and run.version:
        totals = await ledger.blobs.totals(run.export_key, run.version)
    return {
        "run_id": run.run_id, **key_members(run.export_key), "stage": run.stage, "outcome": run.outcome or None,
        "code": run.code or None, "cause": cause(run.code) if run.code else None,
        "remedy": remedy(run.code) if run.code else None, "detail": run.detail or None,
        "requested_by": run.requested_by or None, "reason": run.reason or None, "cycle_id": run.cycle_id or None,
        "force": run.force, "started_at": run.started_at, "deadline": run.deadline or None, "ended_at": run.ended_at or None,
        "cancel_requested_at": run.cancel_requested_at or None, "next_check_at": run.next_check_at or None,
        "polls": run.polls, "posts": run.posts, "operations": run.operations, "last_code": run.last_code or None,
        "request_ids": [one for one in run.request_ids.split(",") if one],
        "blobs": {"total": run.blobs_total, "landed": totals.blobs, "failed": run.blobs_failed},
        "bytes": totals.bytes, "rows": totals.rows, "version": run.version or None, "path": run.path or None,
        "live_run_id": run.live_run_id or None, "app_version": run.app_version or None}


def starting_view(run_id: str, key: str) -> dict[str, Any]:
    """A key that is claimed by a run whose row is not written yet."""
    return {"run_id": run_id, "key": key, "stage": "starting", "outcome": None}


def cycle_view(cycle: Cycle, runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cycle_id": cycle.cycle_id, "state": cycle.state, "tick": cycle.tick, "requested_by": cycle.requested_by or None,
        "started_at": cycle.started_at or None, "ended_at": cycle.ended_at or None, "outcomes": cycle.outcomes, "runs": runs}
