"""Counts the outcomes of a cycle's runs and closes its row.

Idempotent: it writes the same counts.
"""

import azure.durable_functions as df

from shared.clock import iso
from shared.invoices import read_left_out
from shared.messages import CycleRequest, CycleResult
from shared.planning.due import get_plan_outcome
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="cycle")
@sanitize_exceptions
async def summarize_cycle(cycle: CycleRequest) -> CycleResult:
    app, cycle_id = services(), cycle["cycle_id"]
    row = await app.ledger.cycles.get(cycle_id)
    run_ids = row.runs if row else []
    outcomes = await app.ledger.count_outcomes(run_ids, absent="lost")
    if row and row.hub == app.ledger.hub:  # another task hub writes the row of its cycle
        if not row.is_over:
            await app.ledger.cycles.save_result(cycle_id, outcomes, iso(app.clock.now()))
        await app.ledger.open_items.remove(cycle_id)
    left_out = read_left_out(row.left_out if row else "")
    emit_event(
        "cycle_ended",
        f"{cycle_id}/ended/1",
        cycle_id=cycle_id,
        outcome=get_plan_outcome(outcomes, left_out),
        runs=len(run_ids),
        left_out=len(left_out),
        codes=",".join(sorted({item.code for item in left_out})),
        **outcomes,
    )
    return {"outcomes": outcomes, "runs": len(run_ids)}
