"""Counts how the runs of a cycle ended and closes its row. Idempotent: it reads the rows and writes the same sum."""

import asyncio
from collections import Counter

import azure.durable_functions as df

from shared.clock import iso
from shared.messages import CycleRequest, CycleSummary
from shared.redaction import walled
from shared.services import services
from shared.telemetry import event

bp = df.Blueprint()


@bp.activity_trigger(input_name="cycle")
@walled
async def sum_up_cycle(cycle: CycleRequest) -> CycleSummary:
    app = services()
    known = await app.ledger.cycles.get(cycle["cycle_id"])
    ids = known.runs if known else []
    runs = await asyncio.gather(*(app.ledger.runs.get(run_id) for run_id in ids))
    outcomes = dict(Counter((run.outcome if run else "") or "lost" for run in runs))
    await app.ledger.cycles.ended(cycle["cycle_id"], outcomes, iso(app.clock.now()))
    event("cycle_ended", f"{cycle['cycle_id']}/ended/1", cycle_id=cycle["cycle_id"], runs=len(ids), **outcomes)
    return {"outcomes": outcomes, "runs": len(ids)}
