"""Reuse of recent runs: overlapping cycles do not request the same export twice."""

from datetime import datetime

from shared.clock import parse_iso
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import insert_superseded_run
from shared.ledger.runs import Run
from shared.messages import SupersededResult

SUCCESSFUL_OUTCOMES = frozenset({"landed", "unchanged", "no_data"})


async def reuse_recent_run(
    ledger: Ledger, new_run: Run, since: datetime
) -> SupersededResult | None:
    """End a new run if another run of its key has succeeded since a time.

    Args:
        ledger: The ledger.
        new_run: The run to start.
        since: The scheduled time of the cycle.

    Returns:
        A result with the ID of the other run. None if there is no such run, or if `new_run`
        already has a row: then it was claimed before, and `claim` determines its result.
    """
    entry = await ledger.catalogue.get(new_run.export_key)
    if entry is None or entry.last_outcome not in SUCCESSFUL_OUTCOMES:
        return None
    if parse_iso(entry.last_ended_at) < since:
        return None
    if not await insert_superseded_run(ledger, new_run, entry.last_run_id):
        return None
    return {"status": "superseded", "live_run_id": entry.last_run_id}
