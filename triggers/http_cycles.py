"""POST /api/cycles, GET /api/cycles/{cycle_id}."""

import asyncio
from dataclasses import replace

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso
from shared.ledger.cycles import Cycle
from shared.ledger.keys import random_suffix, stamp
from shared.services import services
from triggers.problem import answer, answered, invalid, unknown
from triggers.requests import json_object, path_id, requested_by
from triggers.starter import start
from triggers.views import cycle_view, run_view

bp = df.Blueprint()

DIED = (
    df.OrchestrationRuntimeStatus.Failed, df.OrchestrationRuntimeStatus.Terminated, df.OrchestrationRuntimeStatus.Canceled)


@bp.route(route="cycles", methods=["POST"])
@bp.durable_client_input(client_name="client")
@answered
async def start_cycle(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """The scheduled round, now. Its runs share keys with whatever is live: a key is never landed twice at once."""
    app = services()
    body = json_object(req)
    if body:
        raise invalid({name[:40]: "is not known; a cycle takes no fields" for name in body})
    now = app.clock.now()
    cycle = Cycle(f"cycle-{stamp(now)}-{random_suffix()}", "starting", iso(now), requested_by(req), started_at=iso(now))
    await app.ledger.cycles.insert(cycle)
    await start(client, "export_cycle", cycle.cycle_id, {"cycle_id": cycle.cycle_id, "tick": cycle.tick})
    return answer(202, cycle_view(cycle, []), Location=f"/api/cycles/{cycle.cycle_id}", **{"Retry-After": "5"})


@bp.route(route="cycles/{cycle_id}", methods=["GET"])
@bp.durable_client_input(client_name="client")
@answered
async def get_cycle(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """The row, and of one that never got as far as to end itself, what the engine says: `failed`."""
    app = services()
    cycle = await app.ledger.cycles.get(path_id(req, "cycle_id", "cycle"))
    if cycle is None:
        raise unknown("cycle")
    if cycle.state != "ended":
        status = await client.get_status(cycle.cycle_id)
        if status and status.runtime_status in DIED:
            cycle = replace(cycle, state="failed")
    rows = await asyncio.gather(*(app.ledger.runs.get(run_id) for run_id in cycle.runs))
    runs = await asyncio.gather(*(run_view(app.ledger, run) for run in rows if run is not None))
    return answer(200, cycle_view(cycle, list(runs)), **({} if cycle.state in ("ended", "failed") else {"Retry-After": "5"}))
