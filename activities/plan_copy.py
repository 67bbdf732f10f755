"""Reads the manifest, checks it, and plans which blobs of its version are missing.

Idempotent: the version row is inserted once, and a repeated plan overwrites its own pages and then
the run row.
"""

import azure.durable_functions as df

from shared.errors import InvalidDataError, OperationGoneError, PermanentError, TransientError
from shared.ledger.runs import Run
from shared.manifest import DifferentMonthError, validate_manifest
from shared.messages import PlanRequest, PlanResult
from shared.planning.waits import record_wait, wait_seconds
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event
from shared.versions.plan import plan_copy as plan_version

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def plan_copy(request: PlanRequest) -> PlanResult:
    app = services()
    run = await app.ledger.holding(request["run_id"])
    if not isinstance(run, Run):
        return run
    minimum = app.settings.poll_min_seconds
    try:
        manifest = await app.manifests.get_manifest(request["operation_id"], fresh=True)
        validate_manifest(manifest, run.export_key, app.rules)
        if not manifest.blobs:
            return {"status": "no_data"}
        plan = await plan_version(app.ledger, app.landing, run, manifest, request["plan"])
    except DifferentMonthError:
        return {"status": "no_data", "code": "month_not_open"}
    except OperationGoneError as error:
        gone = await app.operations.abandon(run.run_id, request["operation_id"], error.code)
        if gone["status"] != "gone":
            return gone
        seconds = wait_seconds(None, request["plan"], minimum)
        await record_wait(app.ledger, run, seconds, stage="pausing")
        return {"status": "gone", "wait_seconds": seconds}
    except TransientError as error:
        seconds = wait_seconds(error.retry_after_seconds, request["attempt"] + 1, minimum)
        return await record_wait(app.ledger, run, seconds, stage="planning", last_code=error.code)
    except PermanentError as error:
        await app.ledger.runs.merge(
            run.run_id,
            last_code=error.code,
            request_ids=run.with_request_id(error.request_id),
            detail=error.detail if isinstance(error, InvalidDataError) else "",
        )
        return {"status": "refused", "code": error.code}
    if run.waiting_since:
        await app.ledger.runs.merge(
            run.run_id, next_check_at="", **run.get_wait_columns(app.clock.now())
        )
    emit_event(
        "copy_planned",
        f"{run.run_id}/planned/{request['plan']}",
        run_id=run.run_id,
        key=run.key,
        version=plan.version.version,
        blobs=plan.missing,
        blobs_total=len(manifest.blobs),
        complete=plan.complete,
        deadline=run.deadline,
    )
    if plan.complete:
        return {"status": "unchanged", "version": plan.version.version}
    return {
        "status": "planned",
        "plan": request["plan"],
        "version": plan.version.version,
        "pages": plan.pages,
        "blobs": plan.missing,
    }
