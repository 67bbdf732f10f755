"""Checks that Microsoft Graph and Partner Center respond and grant access."""

import asyncio
from contextlib import suppress
from uuid import uuid4

from shared.errors import BillingExportError, OperationGoneError, ThrottledError
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, from_error, ok, skipped, warn

TABLES_TIMEOUT_SECONDS = 3.0


async def check_graph(context: PreflightContext) -> Finding:
    """Request an operation that does not exist: 404 means that Graph grants access."""
    if (seconds := await _get_throttle_seconds(context)) > 0:
        return warn("graph_throttled", seconds_left=seconds)
    try:
        await context.graph.get_operation(str(uuid4()))
    except OperationGoneError as error:
        return ok(**({"request_id": error.request_id} if error.request_id else {}))
    except ThrottledError as error:
        with suppress(Exception):  # another check reports failures of the tables
            async with asyncio.timeout(TABLES_TIMEOUT_SECONDS):
                await context.ledger.throttle.after(error)
        return warn("graph_throttled", seconds_left=error.retry_after_seconds or 0)
    except BillingExportError as error:
        return from_error(error)
    return fail("graph_malformed")  # Graph returned an operation that does not exist


async def check_partner_center(context: PreflightContext) -> Finding:
    """Read the invoice list as a cycle does."""
    if context.list_invoices is None:
        return skipped("not_in_use", invoice_source=context.settings.invoice_source)
    try:
        await context.list_invoices()
    except ThrottledError as error:
        return warn(error.code, seconds_left=error.retry_after_seconds or 0)
    return ok()


async def _get_throttle_seconds(context: PreflightContext) -> int:
    """Return how long the whole app must wait for Graph; 0 if the tables do not respond."""
    with suppress(Exception):  # another check reports failures of the tables
        async with asyncio.timeout(TABLES_TIMEOUT_SECONDS):
            return await context.ledger.throttle.seconds_left()
    return 0
