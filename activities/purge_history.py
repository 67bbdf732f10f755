"""Purges the history of ended orchestrations that were created on one day.

The first call purges all earlier days. Idempotent: the progress row is written after the purge,
and a repeated purge of a day deletes only what an interrupted one has left.
"""

from datetime import UTC, date, datetime, time, timedelta

import azure.durable_functions as df

from shared import instances
from shared.ledger.retention import FIRST_DAY, PurgedUntil
from shared.messages import PurgeRequest, RetentionResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()

ENDED = [
    df.OrchestrationRuntimeStatus.Completed,
    df.OrchestrationRuntimeStatus.Failed,
    df.OrchestrationRuntimeStatus.Terminated,
    df.OrchestrationRuntimeStatus.Canceled,
]


@bp.activity_trigger(input_name="request")
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def purge_history(
    request: PurgeRequest, client: df.DurableOrchestrationClient
) -> RetentionResult:
    """Purge one day. `more` is true until all days before `day` minus HISTORY_DAYS are purged.

    Running orchestrations are kept, regardless of their age.
    """
    app = services()
    edge = date.fromisoformat(request["day"]) - timedelta(days=app.settings.history_days)
    done = PurgedUntil(app.ledger.tables, app.ledger.hub)
    start = await done.get()
    if start >= edge:
        return {"more": False, "cursor": [], "removed": 0}
    end = edge - timedelta(days=1) if start == FIRST_DAY else start + timedelta(days=1)
    purged = await instances.call_task_hub(
        client.purge_instance_history_by(
            created_time_from=midnight(start),
            created_time_to=midnight(end) - timedelta(milliseconds=1),
            runtime_status=ENDED,
        ),
        instances.MAX_PURGE_SECONDS,
    )
    await done.set(end)
    return {"more": end < edge, "cursor": [], "removed": purged.instances_deleted}


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
