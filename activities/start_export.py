"""Requests the export of a run from Microsoft, unless the run already has an operation.

Idempotent: the first writer stores the operation ID, and every repetition finds it.
"""

import azure.durable_functions as df

from shared.messages import OperationRequest, StartResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def start_export(request: OperationRequest) -> StartResult:
    return await services().operations.start(request["run_id"], request["attempt"])
