"""Checks that Microsoft Graph and Partner Center respond and grant access."""

import asyncio
import logging
from collections.abc import Awaitable
from uuid import uuid4

from shared.errors import BillingExportError, OperationGoneError, ThrottledError
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, from_error, ok, skipped, warn
from shared.redaction import to_infrastructure_error

TABLES_TIMEOUT_SECONDS = 3.0
logger = logging.getLogger("partner_billing.preflight")


async def check_graph(context: PreflightContext) -> Finding:
    """Request an operation that does not exist: 404 means that Graph grants access."""
    throttle = context.ledger.throttle
    if seconds := await _access_throttle(throttle.seconds_left()):
        return warn("graph_throttled", seconds_left=seconds)
    try:
        await context.graph.get_operation(str(uuid4()))
    except OperationGoneError as error:
        return ok(**({"request_id": error.request_id} if error.request_id else {}))
    except ThrottledError as error:
        await _access_throttle(throttle.record_error(error))
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


async def _access_throttle(access: Awaitable[int | None]) -> int | None:
    """Return the result of `access`, or None if the tables do not respond.

    The table check reports this failure.
    """
    try:
        async with asyncio.timeout(TABLES_TIMEOUT_SECONDS):
            return await access
    except Exception as error:
        logger.info("The throttle is not available: %s", to_infrastructure_error(error))
        return None
