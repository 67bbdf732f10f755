"""Polls the operation of a run once and records what it returned.

Idempotent: it only reads from Microsoft. A repetition counts one more poll, and an abandoned
operation stays abandoned.
"""

import azure.durable_functions as df

from shared.messages import CheckResult, OperationRequest
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def check_operation(request: OperationRequest) -> CheckResult:
    return await services().operations.poll(
        request["run_id"], request["operation_id"], request["attempt"]
    )
