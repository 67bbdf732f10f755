"""Checks whether a backfill can start its next run, or was cancelled. Idempotent: it only reads."""

import azure.durable_functions as df

from shared.messages import BackfillStatusRequest, BackfillStatusResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def check_backfill(request: BackfillStatusRequest) -> BackfillStatusResult:
    backfill = await services().ledger.backfills.get(request["backfill_id"])
    if backfill is None or backfill.cancelled:
        return {"status": "cancelled"}
    return {"status": "continue"}
