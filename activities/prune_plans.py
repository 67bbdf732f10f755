"""Removes the plans of ended runs. Idempotent: a removed plan is not listed again."""

import azure.durable_functions as df

from shared.errors import PermanentError
from shared.landing.layout import RUNS
from shared.ledger.keys import started_at
from shared.messages import PurgeRequest, RetentionResult
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()

MAX_RUNS_PER_STEP = 100


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def prune_plans(request: PurgeRequest) -> RetentionResult:
    from shared.versions.prune import prune_plans as prune

    app = services()
    try:
        planned = dict.fromkeys(blob.name.split("/")[0] for blob in await app.landing.list(RUNS))
    except PermanentError as error:
        if error.code != "destination_missing":
            raise
        planned = {}  # the first run creates the container
    removed = checked = 0
    for run_id in planned:
        run = await app.ledger.runs.get(run_id) if started_at(run_id) else None
        if run is None or run.result is None:
            continue
        removed += await prune(app.landing, run)
        checked += 1
        if checked == MAX_RUNS_PER_STEP:
            return {"more": True, "cursor": [], "removed": removed}
    return {"more": False, "cursor": [], "removed": removed}
