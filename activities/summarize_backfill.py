"""Counts how the runs of a backfill ended and closes its row. Idempotent: it reads the rows and writes the same sum."""

import azure.durable_functions as df

from activities.summarize_cycle import count_outcomes
from shared.clock import iso
from shared.messages import BackfillStatusRequest, CycleResult
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="mark")
@sanitize_exceptions
async def summarize_backfill(mark: BackfillStatusRequest) -> CycleResult:
    app, backfill_id = services(), mark["backfill_id"]
    known = await app.ledger.backfills.get(backfill_id)
    ids = known.runs if known else []
    outcomes = await count_outcomes(
        app, ids, absent="cancelled" if known and known.cancelled else "lost"
    )
    await app.ledger.backfills.ended(backfill_id, outcomes, iso(app.clock.now()))
    emit_event(
        "backfill_ended",
        f"{backfill_id}/ended/1",
        backfill_id=backfill_id,
        runs=len(ids),
        **outcomes,
    )
    return {"outcomes": outcomes, "runs": len(ids)}
