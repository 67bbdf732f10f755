"""Whether a backfill may begin its next run: the mark of a cancel is read here. Idempotent: it only reads."""

import azure.durable_functions as df

from shared.messages import BackfillStatusRequest, BackfillStatusResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="mark")
@sanitize_exceptions
async def check_backfill(mark: BackfillStatusRequest) -> BackfillStatusResult:
    backfill = await services().ledger.backfills.get(mark["backfill_id"])
    return (
        {"status": "cancelled"} if backfill is None or backfill.cancelled else {"status": "go_on"}
    )
