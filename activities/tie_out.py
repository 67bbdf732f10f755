"""Adds up the lines of a landed invoice and compares the sum with its listed total.

Idempotent: the sums are stored once, and a repeated call publishes the same comparison.
"""

import azure.durable_functions as df

from shared.messages import TieOutRequest, TieOutResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def tie_out(request: TieOutRequest) -> TieOutResult:
    """Compare the invoice that a run has landed with its listed total."""
    return await services().tie_outs.add_landed(request["run_id"])
