"""The routes under /api/runs."""

from datetime import timedelta

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.exports import ExportKey, MonthScope, period_word
from shared.ledger.claims import claim, create_run
from shared.ledger.keys import random_suffix, run_id
from shared.ledger.runs import Run
from shared.messages import RunRequest
from shared.planning.due import run_limits
from shared.services import services
from shared.telemetry import emit_event
from triggers import models
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.problem import ProblemError, not_found
from triggers.responses import cacheable_response, json_response, retry_after
from triggers.starter import start_orchestration
from triggers.validation import check_no_query, get_principal, parse_body, parse_id, parse_query

bp = ApiBlueprint()

START_RUN_EXAMPLES = {
    "billed": {"value": {"dataset": "billed_usage", "invoice_id": "G016907411"}},
    "unbilled": {
        "value": {
            "dataset": "unbilled_reconciliation",
            "billing_month": "current",
            "currency_code": "USD",
            "reason": "month end",
        }
    },
}

# The longest time that a running activity and the start of the next one can take.
MAX_STEP = timedelta(minutes=1)


@bp.serve(
    Endpoint(
        "POST",
        "runs",
        "Start a run. Returns the live run if the export key has one.",
        lambda: {202: models.runs.StartRunResponse},
        problems=(400, 413, 503),
        body=lambda: models.runs.StartRunRequest,
        examples=START_RUN_EXAMPLES,
    )
)
async def start_run(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """Start a run, or return the live run of the same export key."""
    now = services().clock.now()
    check_no_query(req, now)
    body = parse_body(req, models.runs.StartRunRequest, now)
    return await start_run_for_key(
        client,
        body.key,
        force=body.force,
        reason=body.reason or "",
        requested_by=get_principal(req),
    )


async def start_run_for_key(
    client: df.DurableOrchestrationClient,
    key: ExportKey,
    *,
    force: bool,
    reason: str,
    requested_by: str,
    retry_of: str = "",
) -> func.HttpResponse:
    """Claim the key, then start the orchestration.

    Of concurrent requests for one key, one starts a run and the others return it.
    """
    app = services()
    now = app.clock.now()
    request: RunRequest = {
        "run_id": run_id(key, now, random_suffix()),
        "key": str(key),
        "force": force,
        "limits": run_limits(app.settings, now),
        "requested_by": requested_by,
        "reason": reason,
        "retry_of": retry_of,
    }
    run = create_run(request, now)
    claimed = await claim(app.ledger, run, leave_trace=False)
    if claimed["status"] == "superseded":
        live_run_id = claimed["live_run_id"]
        live = await app.ledger.runs.get(live_run_id)
        if live is None:
            return _accepted(models.runs.StartRunResponse.starting(live_run_id, key, started=False))
        response = await models.runs.StartRunResponse.load(app.ledger, live, started=False)
        return _accepted(response, _get_retry_after(live))
    await start_orchestration(client, "export_run", run.run_id, request)
    emit_event(
        "run_requested",
        f"{run.run_id}/requested/1",
        run_id=run.run_id,
        key=run.key,
        force=run.force,
        requested_by=requested_by,
        retry_of=retry_of,
    )
    return _accepted(
        models.runs.StartRunResponse.from_row(run, started=True), _get_retry_after(run)
    )


@bp.serve(
    Endpoint(
        "GET",
        "runs",
        "List the runs that started in a month, the newest first.",
        lambda: {200: models.runs.RunListResponse},
        query=lambda: models.runs.RunListQuery,
    )
)
async def list_runs(req: func.HttpRequest) -> func.HttpResponse:
    """List the runs that started in a month.

    A page is one request to the tables, so the totals of a run that copies are those of its row;
    `get_run` returns newer ones.
    """
    app = services()
    now = app.clock.now()
    query = parse_query(req, models.runs.RunListQuery, now)
    month = query.started or f"{now:%Y-%m}"
    scope = f"runs {month} {query.dataset or ''} {query.outcome or ''}"
    runs, following = await app.ledger.runs.get_page(
        month.replace("-", ""),
        dataset=query.dataset or "",
        outcome=query.outcome or "",
        limit=query.limit,
        continuation=query.position(scope).continuation,
    )
    return json_response(
        200,
        models.runs.RunListResponse(
            started=month,
            runs=[models.runs.RunResponse.from_row(run) for run in runs],
            continuation=models.lists.encode_token(scope, following),
        ),
    )


@bp.serve(
    Endpoint(
        "GET",
        "runs/{run_id}",
        "Get a run.",
        lambda: {200: models.runs.RunResponse},
        problems=(400, 404, 503),
        is_cacheable=True,
    )
)
async def get_run(req: func.HttpRequest) -> func.HttpResponse:
    """Return a run."""
    app = services()
    check_no_query(req, app.clock.now())
    run = await _get_run(req)
    response = await models.runs.RunResponse.load(app.ledger, run)
    return cacheable_response(req, response, **_get_retry_after(run))


@bp.serve(
    Endpoint(
        "GET",
        "runs/{run_id}/blobs",
        "List the blobs of the version that a run lands.",
        lambda: {200: models.runs.BlobListResponse},
        problems=(400, 404, 503),
        query=lambda: models.runs.BlobListQuery,
    )
)
async def list_run_blobs(req: func.HttpRequest) -> func.HttpResponse:
    """List the blobs of the version that a run lands."""
    app = services()
    query = parse_query(req, models.runs.BlobListQuery, app.clock.now())
    run = await _get_run(req)
    scope = f"blobs {run.run_id} {run.version} {query.ok}"
    position = query.position(scope)
    blobs, following = (
        await app.ledger.blobs.get_page(
            run.export_key,
            run.version,
            ok=query.ok,
            limit=query.limit,
            continuation=position.continuation,
        )
        if run.version
        else ([], None)
    )
    return json_response(
        200,
        models.runs.BlobListResponse(
            run_id=run.run_id,
            version=run.version,
            path=run.path,
            blobs=[models.runs.BlobResponse.from_row(blob) for blob in blobs],
            continuation=models.lists.encode_token(scope, following),
        ),
    )


@bp.serve(
    Endpoint(
        "POST",
        "runs/{run_id}/cancel",
        "Cancel a run. Verified blobs are kept, and the export key is released immediately.",
        lambda: {202: models.runs.CancelRunResponse},
        problems=(400, 404, 409, 413, 503),
        body=lambda: models.base.EmptyRequest,
    )
)
async def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
    """Mark a run as cancelled. Each activity reads the mark before it starts work."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    parse_body(req, models.base.EmptyRequest, now)
    run = await _get_run(req)
    if run.outcome:
        raise ProblemError(
            409,
            "run_ended",
            f"The run has already ended. Its outcome is {run.outcome}.",
            "No action is needed. The data that the run landed is kept.",
            run_id=run.run_id,
            outcome=run.outcome,
        )
    if not run.cancelled:
        await app.ledger.runs.mark_cancelled(run.run_id, app.clock.now(), get_principal(req))
    run = await app.ledger.runs.get(run.run_id) or run
    now = app.clock.now()
    next_check_at = max(now, parse_iso(run.next_check_at)) if run.next_check_at else now
    response = await models.runs.CancelRunResponse.load(
        app.ledger, run, effective_by=iso(next_check_at + MAX_STEP)
    )
    return _accepted(response, _get_retry_after(run))


@bp.serve(
    Endpoint(
        "POST",
        "runs/{run_id}/retry",
        "Start a new run of the same export, which copies only the missing blobs.",
        lambda: {202: models.runs.StartRunResponse},
        problems=(400, 404, 409, 413, 503),
        body=lambda: models.runs.RetryRunRequest,
    )
)
async def retry_run(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """Start a new run of the same key, which copies only the blobs that are missing.

    If the previous run landed its data, the new run is not forced, because a forced run copies
    all blobs again.
    """
    now = services().clock.now()
    check_no_query(req, now)
    body = parse_body(req, models.runs.RetryRunRequest, now)
    run = await _get_run(req)
    if not run.outcome:
        raise ProblemError(
            409,
            "run_live",
            "The run has not ended yet.",
            "Wait until it ends, or cancel it first.",
            run_id=run.run_id,
            stage=run.stage,
        )
    scope = run.export_key.scope
    if isinstance(scope, MonthScope) and period_word(scope.month, now) is None:
        raise ProblemError(
            409,
            "not_served",
            "Microsoft no longer provides this month as unbilled data.",
            "Start a run of the billed dataset for the invoice of the month.",
            run_id=run.run_id,
        )
    return await start_run_for_key(
        client,
        run.export_key,
        force=run.force and run.outcome not in ("landed", "unchanged"),
        reason=body.reason or "",
        requested_by=get_principal(req),
        retry_of=run.run_id,
    )


async def _get_run(req: func.HttpRequest) -> Run:
    run = await services().ledger.runs.get(parse_id(req, "run_id", "run"))
    if run is None:
        raise not_found("run")
    return run


def _accepted(
    response: "models.runs.RunResponse", headers: dict[str, str] | None = None
) -> func.HttpResponse:
    location = {"Location": f"/api/runs/{response.run_id}"}
    headers = retry_after(services().clock.now()) if headers is None else headers
    return json_response(202, response, **location, **headers)


def _get_retry_after(run: Run) -> dict[str, str]:
    return {} if run.outcome else retry_after(services().clock.now(), run.next_check_at)
