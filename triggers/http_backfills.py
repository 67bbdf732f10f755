"""The routes under /api/backfills, and GET /api/gaps."""

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso
from shared.exports import BillingMonth
from shared.ledger.backfills import Backfill, create_backfill_request
from shared.ledger.keys import random_suffix, stamp
from shared.ledger.runs import Run
from shared.planning.gaps import gaps, months_between
from shared.services import Services, services
from triggers import models
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.problem import ProblemError, not_found
from triggers.responses import cacheable_response, json_response, retry_after
from triggers.starter import start_orchestration
from triggers.validation import check_no_query, get_principal, parse_body, parse_id, parse_query

bp = ApiBlueprint()


@bp.serve(
    Endpoint(
        "POST",
        "backfills",
        "Start a backfill of the months that have not landed yet.",
        lambda: {202: models.backfills.BackfillResponse},
        problems=(400, 413, 503),
        body=lambda: models.backfills.StartBackfillRequest,
    )
)
async def start_backfill(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """Start a backfill of the months that have not landed and that Microsoft still provides."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    body = parse_body(req, models.backfills.StartBackfillRequest, now)
    span = models.backfills.get_span(body, app.settings.export_datasets)
    backfill = Backfill(
        f"backfill-{stamp(now)}-{random_suffix()}",
        "starting",
        str(span.first),
        str(span.last),
        [dataset.value for dataset in span.datasets],
        get_principal(req),
        started_at=iso(now),
    )
    await app.ledger.insert_backfill(backfill)
    request = create_backfill_request(backfill)
    await start_orchestration(client, "backfill", backfill.backfill_id, request)
    return _accepted(models.backfills.BackfillResponse.from_row(backfill, [], now))


@bp.serve(
    Endpoint(
        "GET",
        "backfills/{backfill_id}",
        "Get a backfill and its progress.",
        lambda: {200: models.backfills.BackfillResponse},
        problems=(400, 404, 503),
        is_cacheable=True,
    )
)
async def get_backfill(req: func.HttpRequest) -> func.HttpResponse:
    """Return a backfill. Its state is `failed` if its orchestration did not complete."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    backfill = await _get_backfill(app, req)
    headers = {} if backfill.is_over else retry_after(now, backfill.next_check_at)
    runs = await _list_runs(app, backfill)
    return cacheable_response(
        req, models.backfills.BackfillResponse.from_row(backfill, runs, now), **headers
    )


@bp.serve(
    Endpoint(
        "POST",
        "backfills/{backfill_id}/cancel",
        "Cancel a backfill and its live runs. Data that has landed is kept.",
        lambda: {202: models.backfills.BackfillResponse},
        problems=(400, 404, 409, 413, 503),
        body=lambda: models.base.EmptyRequest,
    )
)
async def cancel_backfill(req: func.HttpRequest) -> func.HttpResponse:
    """Mark a backfill and its live runs as cancelled. Data that has landed is kept."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    parse_body(req, models.base.EmptyRequest, now)
    backfill = await _get_backfill(app, req)
    if backfill.is_over:
        raise ProblemError(
            409,
            "backfill_ended",
            "The backfill has already ended.",
            "No action is needed. The data that the backfill landed is kept.",
            backfill_id=backfill.backfill_id,
        )
    if not backfill.cancelled:
        await app.ledger.backfills.mark_cancelled(backfill.backfill_id, now)
    runs = await _list_runs(app, backfill)
    for run in runs:
        if not run.outcome and not run.cancelled:
            await app.ledger.runs.mark_cancelled(run.run_id, now, get_principal(req))
    return _accepted(
        models.backfills.BackfillResponse.from_row(await _get_backfill(app, req), runs, now)
    )


@bp.serve(
    Endpoint(
        "GET",
        "gaps",
        "Get the state of each dataset in each month.",
        lambda: {200: models.backfills.GapsResponse},
        query=lambda: models.backfills.GapsQuery,
    )
)
async def get_gaps(req: func.HttpRequest) -> func.HttpResponse:
    """Return the state of each dataset and month, from the catalogue and the known invoices."""
    app = services()
    now = app.clock.now()
    span = models.backfills.get_span(
        parse_query(req, models.backfills.GapsQuery, now), app.settings.export_datasets
    )
    invoices = await app.planner.list_known_invoices()
    report = gaps(
        months_between(span.first, span.last),
        span.datasets,
        app.planner.scopes(invoices),
        await app.planner.key_states(span.datasets),
        BillingMonth.of(now),
    )
    return json_response(200, models.backfills.GapsResponse.from_gaps(span, report))


async def _get_backfill(app: Services, req: func.HttpRequest) -> Backfill:
    backfill = await app.ledger.backfills.get(parse_id(req, "backfill_id", "backfill"))
    if backfill is None:
        raise not_found("backfill")
    return backfill


async def _list_runs(app: Services, backfill: Backfill) -> list[Run]:
    rows = await app.ledger.runs.get_many(backfill.runs)
    return [rows[run_id] for run_id in backfill.runs if run_id in rows]


def _accepted(response: "models.backfills.BackfillResponse") -> func.HttpResponse:
    location = {"Location": f"/api/backfills/{response.backfill_id}"}
    headers = retry_after(services().clock.now(), response.next_check_at or "")
    return json_response(202, response, **location, **headers)
