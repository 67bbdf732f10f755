"""Checks whether the outcome of a run is recorded. Idempotent: it only reads."""

import azure.durable_functions as df

from shared.messages import RunStatusRequest, RunStatusResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def check_run(request: RunStatusRequest) -> RunStatusResult:
    run = await services().ledger.runs.get(request["run_id"])
    return {"status": "ended" if run is not None and run.outcome else "open"}
