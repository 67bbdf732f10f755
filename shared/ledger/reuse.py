"""Cycles that overlap share their runs: what one has done since the other's tick is not asked for again."""

from dataclasses import replace
from datetime import datetime

from shared.clock import parse_iso
from shared.ledger.ledger import Ledger
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from shared.messages import SupersededResult

SUCCESSFUL_OUTCOMES = frozenset({"landed", "unchanged", "no_data"})


async def reuse_recent_run(ledger: Ledger, wanted: Run, tick: datetime) -> SupersededResult | None:
    """Ends `wanted` in favour of a run of its key that ended well since `tick`, and names that one; None where there is none.

    A run that has a row already goes its way: it has been claimed, and the answer is claim()'s to give.
    """
    entry = await ledger.catalogue.get(wanted.export_key)
    if (
        entry is None
        or entry.last_outcome not in SUCCESSFUL_OUTCOMES
        or parse_iso(entry.last_ended_at) < tick
    ):
        return None
    if not await ledger.runs.insert(replace(wanted, hub=ledger.hub)):
        return None
    await close_run(
        ledger, wanted.run_id, {"outcome": "superseded", "live_run_id": entry.last_run_id}
    )
    return {"status": "superseded", "live_run_id": entry.last_run_id}
