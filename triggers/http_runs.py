"""POST /api/runs, GET /api/runs/{run_id}, POST /api/runs/{run_id}/cancel."""

from datetime import datetime, timedelta
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.due import limits_until
from shared.ledger.claims import claim, row_of
from shared.ledger.keys import random_suffix, run_id
from shared.ledger.runs import Run
from shared.messages import RunRequest
from shared.services import services
from triggers.problem import Problem, answer, answered, unknown
from triggers.requests import json_object, path_id, requested_by, run_order
from triggers.starter import start
from triggers.views import run_view, starting_view

bp = df.Blueprint()

RETRY_AFTER = "10"  # seconds; a live run with a next check of its own says that instead


@bp.route(route="runs", methods=["POST"])
@bp.durable_client_input(client_name="client")
@answered
async def start_run(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Claims the key before it starts anything: of many that ask at once, one starts and the others are shown its run."""
    app = services()
    now = app.clock.now()
    order = run_order(json_object(req), now)
    request: RunRequest = {
        "run_id": run_id(order.key, now, random_suffix()), "key": str(order.key), "force": order.force,
        "limits": limits_until(app.settings, now), "requested_by": requested_by(req), "reason": order.reason}
    claimed = await claim(app.ledger, row_of(request, now), leave_trace=False)
    if claimed["status"] == "superseded":
        live = await app.ledger.runs.get(claimed["live_run_id"])
        shown = await run_view(app.ledger, live) if live else starting_view(claimed["live_run_id"], str(order.key))
        return accepted({**shown, "started": False})
    await start(client, "export_run", request["run_id"], request)
    run = await app.ledger.runs.get(request["run_id"])
    assert run is not None  # claim() inserted it
    return accepted({**await run_view(app.ledger, run), "started": True})


@bp.route(route="runs/{run_id}", methods=["GET"])
@answered
async def get_run(req: func.HttpRequest) -> func.HttpResponse:
    app = services()
    run = await app.ledger.runs.get(path_id(req, "run_id", "run"))
    if run is None:
        raise unknown("run")
    return answer(200, await run_view(app.ledger, run), **until_next(run, app.clock.now()))


@bp.route(route="runs/{run_id}/cancel", methods=["POST"])
@answered
async def cancel_run(req: func.HttpRequest) -> func.HttpResponse:
    """A mark in the run's row, which every activity reads before it begins: nothing is torn off."""
    app = services()
    json_object(req)
    run = await app.ledger.runs.get(path_id(req, "run_id", "run"))
    if run is None:
        raise unknown("run")
    if run.outcome:
        raise Problem(
            409, "run_ended", f"The run has ended: {run.outcome}.", "There is nothing to cancel; what it landed stays.",
            run_id=run.run_id, outcome=run.outcome)
    if not run.cancelled:
        await app.ledger.runs.mark_cancelled(run.run_id, app.clock.now(), requested_by(req))
    marked = await app.ledger.runs.get(run.run_id) or run
    next_look = parse_iso(marked.next_check_at) if marked.next_check_at else app.clock.now() + timedelta(minutes=1)
    return answer(
        202, {**await run_view(app.ledger, marked), "effective_by": iso(next_look)}, Location=f"/api/runs/{run.run_id}")


def accepted(body: dict[str, Any]) -> func.HttpResponse:
    return answer(202, body, Location=f"/api/runs/{body['run_id']}", **{"Retry-After": RETRY_AFTER})


def until_next(run: Run, now: datetime) -> dict[str, str]:
    """When it is worth asking again; nothing for a run that has ended."""
    if run.outcome:
        return {}
    if not run.next_check_at:
        return {"Retry-After": "5"}
    return {"Retry-After": str(max(1, int((parse_iso(run.next_check_at) - now).total_seconds()) + 1))}
