"""Start of orchestrations by HTTP triggers."""

import logging
from collections.abc import Mapping
from typing import Any

import azure.durable_functions as df

from shared.instances import call_task_hub
from shared.redaction import to_infrastructure_error
from triggers.problem import ProblemError

logger = logging.getLogger("partner_billing.http")


async def start_orchestration(
    client: df.DurableOrchestrationClient,
    orchestrator: str,
    instance_id: str,
    request: Mapping[str, Any],
) -> None:
    """Start an orchestration whose row or claim has been written.

    If the start fails, the row or claim remains; the orphaned-run cleanup closes it.

    Raises:
        ProblemError: 503 if the task hub did not accept the orchestration.
    """
    try:
        await call_task_hub(client.start_new(orchestrator, instance_id, request))
        return
    except Exception as error:  # the SDK raises Exception, with text that can contain a key
        sanitized = to_infrastructure_error(error)
    logger.error("could not start %s %s: %s", orchestrator, instance_id, sanitized)
    raise ProblemError(
        503,
        "start_failed",
        "The task hub did not accept the orchestration.",
        "Retry after ten minutes; the export key is locked until then. If the problem persists, "
        "check the app's own storage account.",
        id=instance_id,
    )
