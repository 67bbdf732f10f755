"""/api/runs: start one, list them, look at one and at its blobs, cancel it, do it again."""

from datetime import datetime, timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.exports import ExportKey, MonthScope, period_word
from shared.ledger.claims import claim, row_of
from shared.ledger.keys import random_suffix, run_id
from shared.ledger.runs import Run
from shared.ledger.tables import BadContinuation
from shared.messages import RunRequest
from shared.planning.due import run_limits
from shared.services import services
from shared.telemetry import emit_event
from triggers.problem import Problem, answer, invalid, problem_details, unknown
from triggers.queries import BAD_CONTINUATION, blobs_query, no_query, runs_query
from triggers.requests import RunOrder, json_object, path_id, reason_of, requested_by, run_order
from triggers.resources import resource
from triggers.starter import start
from triggers.views import blob_view, run_row_view, run_view, starting_view

bp = df.Blueprint()

ONE_STEP = timedelta(minutes=1)  # what an activity at work, and the way to the next one, may take


@bp.route(route="runs", methods=["POST"])
@bp.durable_client_input(client_name="client")
@problem_details
async def start_run(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    no_query(req)
    return await begin(
        client, run_order(json_object(req), services().clock.now()), requested_by(req)
    )


async def begin(
    client: df.DurableOrchestrationClient,
    order: RunOrder,
    by: str,
    *,
    retry_of: str = "",
) -> func.HttpResponse:
    """Claims the key before it starts anything: of many that ask at once, one starts and the others are shown its run."""
    app = services()
    now = app.clock.now()
    request: RunRequest = {
        "run_id": run_id(order.key, now, random_suffix()),
        "key": str(order.key),
        "force": order.force,
        "limits": run_limits(app.settings, now),
        "requested_by": by,
        "reason": order.reason,
        "retry_of": retry_of,
    }
    wanted = row_of(request, now)
    claimed = await claim(app.ledger, wanted, leave_trace=False)
    if claimed["status"] == "superseded":
        live = await app.ledger.runs.get(claimed["live_run_id"])
        shown = (
            await run_view(app.ledger, live)
            if live
            else starting_view(claimed["live_run_id"], order.key)
        )
        return accepted({**shown, "started": False}, live, now)
    await start(client, "export_run", request["run_id"], request)
    emit_event(
        "run_requested",
        f"{wanted.run_id}/requested/1",
        run_id=wanted.run_id,
        key=wanted.key,
        force=wanted.force,
        requested_by=by,
        retry_of=retry_of,
    )
    return accepted({**run_row_view(wanted), "started": True}, wanted, now)


@bp.route(route="runs", methods=["GET"])
@problem_details
async def list_runs(req: func.HttpRequest) -> func.HttpResponse:
    """One request to the tables for a page. Counts of a run that copies are those of its row: its own page has them newer."""
    app = services()
    query = runs_query(req, app.clock.now())
    try:
        runs, following = await app.ledger.runs.page(
            query.month.replace("-", ""),
            dataset=query.dataset or "",
            outcome=query.outcome,
            limit=query.limit,
            continuation=query.after[1],
        )
    except BadContinuation:
        raise invalid(BAD_CONTINUATION) from None
    return answer(
        200,
        {
            "started": query.month,
            "runs": [run_row_view(run) for run in runs],
            "continuation": query.continuation(following),
        },
    )


@bp.route(route="runs/{run_id}", methods=["GET"])
@problem_details
async def get_run(req: func.HttpRequest) -> func.HttpResponse:
    no_query(req)
    app = services()
    run = await asked_for(req)
    return resource(req, await run_view(app.ledger, run), **until_next(run, app.clock.now()))


@bp.route(route="runs/{run_id}/blobs", methods=["GET"])
@problem_details
async def list_run_blobs(req: func.HttpRequest) -> func.HttpResponse:
    """The blobs of the version that the run lands, each with what proves it or the code of what is wrong with it."""
    app = services()
    run = await asked_for(req)
    query = blobs_query(req, run.run_id, run.version)
    try:
        blobs, following = (
            await app.ledger.blobs.page(
                run.export_key,
                run.version,
                ok=query.ok,
                limit=query.limit,
                continuation=query.after[1],
            )
            if run.version
            else ([], None)
        )
    except BadContinuation:
        raise invalid(BAD_CONTINUATION) from None
    return answer(
        200,
        {
            "run_id": run.run_id,
            "version": run.version or None,
            "path": run.path or None,
            "blobs": [blob_view(blob) for blob in blobs],
            "continuation": query.continuation(following),
        },
    )


@bp.route(route="runs/{run_id}/cancel", methods=["POST"])
@problem_details
async def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
    """A mark in the run's row, which every activity reads before it begins: nothing is torn off."""
    no_query(req)
    app = services()
    if body := json_object(req):
        raise invalid({name[:40]: "is not known; a cancel takes no fields" for name in body})
    run = await asked_for(req)
    if run.outcome:
        raise Problem(
            409,
            "run_ended",
            f"The run has ended: {run.outcome}.",
            "There is nothing to cancel; what it landed stays.",
            run_id=run.run_id,
            outcome=run.outcome,
        )
    if not run.cancelled:
        await app.ledger.runs.mark_cancelled(run.run_id, app.clock.now(), requested_by(req))
    marked = await app.ledger.runs.get(run.run_id) or run
    now = app.clock.now()
    next_look = max(now, parse_iso(marked.next_check_at)) if marked.next_check_at else now
    return answer(
        202,
        {**await run_view(app.ledger, marked), "effective_by": iso(next_look + ONE_STEP)},
        Location=f"/api/runs/{run.run_id}",
        **until_next(marked, now),
    )


@bp.route(route="runs/{run_id}/retry", methods=["POST"])
@bp.durable_client_input(client_name="client")
@problem_details
async def retry_run(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """A new run of the same key: it finds what is proven and copies only the rest.

    One that was forced and landed is not forced again: that would copy all of it.
    """
    no_query(req)
    now = services().clock.now()
    reason = reason_of(json_object(req))
    run = await asked_for(req)
    if not run.outcome:
        raise Problem(
            409,
            "run_live",
            "The run has not ended yet.",
            "Wait for its end, or cancel it first.",
            run_id=run.run_id,
            stage=run.stage,
        )
    if not is_served(run.export_key, now):
        raise Problem(
            409,
            "not_served",
            "Microsoft does not serve this month as unbilled data any more.",
            "Ask for the billed dataset of the month's invoice instead.",
            run_id=run.run_id,
        )
    order = RunOrder(
        run.export_key, run.force and run.outcome not in ("landed", "unchanged"), reason
    )
    return await begin(client, order, requested_by(req), retry_of=run.run_id)


def is_served(key: ExportKey, now: datetime) -> bool:
    return not isinstance(key.scope, MonthScope) or period_word(key.scope.month, now) is not None


async def asked_for(req: func.HttpRequest) -> Run:
    run = await services().ledger.runs.get(path_id(req, "run_id", "run"))
    if run is None:
        raise unknown("run")
    return run


def accepted(body: dict[str, Any], run: Run | None, now: datetime) -> func.HttpResponse:
    retry_after = until_next(run, now) if run else {"Retry-After": "5"}
    return answer(202, body, Location=f"/api/runs/{body['run_id']}", **retry_after)


def until_next(run: Run, now: datetime) -> dict[str, str]:
    """When it is worth asking again; nothing for a run that has ended."""
    if run.outcome:
        return {}
    if not run.next_check_at:
        return {"Retry-After": "5"}
    return {
        "Retry-After": str(max(1, int((parse_iso(run.next_check_at) - now).total_seconds()) + 1))
    }
