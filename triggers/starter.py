"""Starts an orchestration for an HTTP trigger. What it is to do is written down before; if this fails, that stays."""

import logging
from collections.abc import Mapping
from typing import Any

import azure.durable_functions as df

from shared.redaction import to_infrastructure_error
from triggers.problem import Problem

logger = logging.getLogger("partner_billing.http")


async def start(
    client: df.DurableOrchestrationClient,
    orchestrator: str,
    instance_id: str,
    request: Mapping[str, Any],
) -> None:
    """Raises Problem 503 where the engine did not take it: a claim that stays is settled by the timer."""
    try:
        await client.start_new(orchestrator, instance_id, request)
        return
    except Exception as error:  # the SDK raises a bare Exception with the engine's words
        said = to_infrastructure_error(error)
    logger.error("%s %s was not started: %s", orchestrator, instance_id, said)
    raise Problem(
        503,
        "start_failed",
        "The task hub did not take the orchestration.",
        "Ask again in ten minutes: until then its key is held. If it lasts, look at the app's own storage account.",
        id=instance_id,
    )
