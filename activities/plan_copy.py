"""Reads the manifest, checks it, and plans which blobs of its version are missing.

Idempotent: the version row is inserted once, and a repeated plan overwrites its own pages and then
the run row.
"""

import azure.durable_functions as df

from shared.errors import BillingExportError
from shared.ledger.runs import Run
from shared.manifest import DifferentMonthError, validate_manifest
from shared.messages import OperationRequest, PlanResult
from shared.operations import SUCCESS_COLUMNS
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event
from shared.versions.months import verify_not_previous_month
from shared.versions.plan import plan_copy as plan_version

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def plan_copy(request: OperationRequest) -> PlanResult:
    app = services()
    run = await app.operations.get_run(request["run_id"], request["operation_id"])
    if not isinstance(run, Run):
        return run
    try:
        manifest = await app.manifests.get_manifest(run.operation_id, fresh=True)
        validate_manifest(manifest, run.export_key, app.rules)
        if not manifest.blobs:
            return {"status": "no_data"}
        await verify_not_previous_month(app.ledger, run.export_key, manifest.etag)
        plan = await plan_version(app.ledger, app.landing, run, manifest, request["plan"])
    except DifferentMonthError:
        return {"status": "no_data", "code": "month_not_open"}
    except BillingExportError as error:
        return await app.operations.handle_error(run, error, request["attempt"], stage="planning")
    if run.waiting_since:
        await app.ledger.runs.merge(
            run.run_id,
            next_check_at="",
            **run.get_wait_columns(app.clock.now()),
            **SUCCESS_COLUMNS,
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
