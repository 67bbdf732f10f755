"""Do Microsoft's services answer, and do they let the app in?"""

import asyncio
from contextlib import suppress
from uuid import uuid4

from shared.errors import BillingExportError, OperationGoneError, ThrottledError
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, from_error, ok, skipped, warn

TABLES_SECONDS = 3.0


async def graph(parts: PreflightContext) -> Finding:
    """Looks at an operation that nobody has asked for, with the client of the runs: 404 says reached, and let in."""
    if (seconds := await _held(parts)) > 0:
        return warn("graph_throttled", seconds_left=seconds)
    try:
        await parts.graph.get_operation(str(uuid4()))
    except OperationGoneError as error:
        return ok(**({"request_id": error.request_id} if error.request_id else {}))
    except ThrottledError as error:
        with suppress(Exception):  # as below
            async with asyncio.timeout(TABLES_SECONDS):
                await parts.ledger.throttle.after(error)
        return warn("graph_throttled", seconds_left=error.retry_after_seconds or 0)
    except BillingExportError as error:
        return from_error(error)
    return fail("graph_malformed")  # it knows what nobody has asked for


async def partner_center(parts: PreflightContext) -> Finding:
    """The invoice list, as a cycle reads it."""
    if parts.list_invoices is None:
        return skipped("not_in_use", invoice_source=parts.settings.invoice_source)
    try:
        await parts.list_invoices()
    except ThrottledError as error:
        return warn(error.code, seconds_left=error.retry_after_seconds or 0)
    return ok()


async def _held(parts: PreflightContext) -> int:
    """How long Graph has asked the whole app to wait. Tables that do not answer are for their own check to tell."""
    with suppress(Exception):
        async with asyncio.timeout(TABLES_SECONDS):
            return await parts.ledger.throttle.seconds_left()
    return 0
