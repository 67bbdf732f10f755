"""Compares all landed invoices with their listed totals, once a day.

Idempotent: only changes are written, and a repeated event has the same ID.
"""

import azure.durable_functions as df

from shared.messages import PurgeRequest, RetentionResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def compare_invoices(request: PurgeRequest) -> RetentionResult:
    """Compare all landed invoices."""
    return {"more": False, "cursor": [], "removed": await services().tie_outs.check_daily()}
