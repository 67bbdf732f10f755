"""Counts the outcomes of a backfill's runs and closes its row.

Idempotent: it writes the same counts.
"""

import azure.durable_functions as df

from shared.clock import iso
from shared.invoices import read_left_out
from shared.messages import BackfillStatusRequest, CycleResult
from shared.planning.due import get_plan_outcome
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def summarize_backfill(request: BackfillStatusRequest) -> CycleResult:
    app, backfill_id = services(), request["backfill_id"]
    row = await app.ledger.backfills.get(backfill_id)
    run_ids = row.runs if row else []
    absent = "cancelled" if row and row.cancelled else "lost"
    outcomes = await app.ledger.count_outcomes(run_ids, absent=absent)
    if row and row.hub == app.ledger.hub:  # another task hub writes the row of its backfill
        if not row.is_over:
            await app.ledger.backfills.save_result(backfill_id, outcomes, iso(app.clock.now()))
        await app.ledger.open_items.remove(backfill_id)
    left_out = read_left_out(row.left_out if row else "")
    emit_event(
        "backfill_ended",
        f"{backfill_id}/ended/1",
        backfill_id=backfill_id,
        outcome=get_plan_outcome(outcomes, left_out),
        runs=len(run_ids),
        left_out=len(left_out),
        codes=",".join(sorted({item.code for item in left_out})),
        **outcomes,
    )
    return {"outcomes": outcomes, "runs": len(run_ids)}
