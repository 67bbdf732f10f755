"""Records the outcome of a run: row, catalogue, event, lock.

Idempotent: a finished step is not repeated.
"""

import azure.durable_functions as df

from shared.ledger.outcomes import close_run
from shared.messages import OutcomeRequest, RunResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def record_outcome(request: OutcomeRequest) -> RunResult:
    result: RunResult = {"outcome": request["outcome"]}
    if "code" in request:
        result["code"] = request["code"]
    if "version" in request:
        result["version"] = request["version"]
    if "live_run_id" in request:
        result["live_run_id"] = request["live_run_id"]
    return await close_run(services().ledger, request["run_id"], result)
