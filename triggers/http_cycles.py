"""The routes under /api/cycles."""

import asyncio
from collections.abc import Iterable
from datetime import datetime

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.exports import ExportKey
from shared.invoices import InvoiceList
from shared.ledger.cycles import Cycle
from shared.ledger.keys import random_suffix, stamp
from shared.planning.due import export_request, stalled_since
from shared.services import Services, services
from shared.telemetry import emit_event
from triggers import models
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.problem import not_found
from triggers.responses import cacheable_response, json_response, retry_after
from triggers.starter import start_orchestration
from triggers.validation import check_no_query, get_principal, parse_body, parse_id

bp = ApiBlueprint()


@bp.serve(
    Endpoint(
        "POST",
        "cycles",
        "Start a cycle now, or return what it would request.",
        lambda: {202: models.cycles.CycleResponse, 200: models.cycles.CycleDryRunResponse},
        problems=(400, 413, 503),
        body=lambda: models.cycles.StartCycleRequest,
    )
)
async def start_cycle(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """Start a cycle now. It does not start a second run of an export key that has a live run."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    if parse_body(req, models.cycles.StartCycleRequest, now).dry_run:
        return json_response(200, await _plan(app, now))
    cycle = Cycle(
        f"cycle-{stamp(now)}-{random_suffix()}",
        "starting",
        iso(now),
        get_principal(req),
        started_at=iso(now),
    )
    await app.ledger.insert_cycle(cycle)
    request = {"cycle_id": cycle.cycle_id, "tick": cycle.tick}
    await start_orchestration(client, "export_cycle", cycle.cycle_id, request)
    emit_event(
        "cycle_started",
        f"{cycle.cycle_id}/started/1",
        cycle_id=cycle.cycle_id,
        tick=cycle.tick,
        requested_by=cycle.requested_by,
        late=False,
    )
    location = {"Location": f"/api/cycles/{cycle.cycle_id}"}
    return json_response(
        202, models.cycles.CycleResponse.from_row(cycle), **location, **retry_after(now)
    )


@bp.serve(
    Endpoint(
        "GET",
        "cycles/{cycle_id}",
        "Get a cycle and its runs.",
        lambda: {200: models.cycles.CycleResponse},
        problems=(400, 404, 503),
        is_cacheable=True,
    )
)
async def get_cycle(req: func.HttpRequest) -> func.HttpResponse:
    """Return a cycle. Its state is `failed` if its orchestration did not complete."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    cycle = await app.ledger.cycles.get(parse_id(req, "cycle_id", "cycle"))
    if cycle is None:
        raise not_found("cycle")
    rows = await app.ledger.runs.get_many(cycle.runs)
    runs = [rows[run_id] for run_id in cycle.runs if run_id in rows]
    responses = await asyncio.gather(
        *(models.runs.RunResponse.load(app.ledger, run) for run in runs)
    )
    stalled = await _get_stalled_keys(app, (run.export_key for run in runs))
    headers = {} if cycle.is_over else retry_after(now, cycle.next_check_at)
    return cacheable_response(
        req, models.cycles.CycleResponse.from_row(cycle, responses, stalled), **headers
    )


async def _plan(app: Services, now: datetime) -> "models.cycles.CycleDryRunResponse":
    """Return the requests that a cycle would send, without starting anything.

    The request of an export key with a live run contains the ID of that run, because the cycle
    would share it.
    """
    invoices = await app.planner.list_invoices(attempt=1, is_last_attempt=True)
    assert isinstance(invoices, InvoiceList)  # the last attempt never waits
    due = await app.planner.select_due(now, invoices)
    locks = await asyncio.gather(*(app.ledger.locks.get(str(key)) for key in due.keys))
    return models.cycles.CycleDryRunResponse(
        dry_run=True,
        tick=iso(now),
        base_url=app.settings.graph_base_url,
        requests=[
            models.cycles.PlannedRequest(
                key=str(key),
                **export_request(key, now),
                live_run_id=lock.run_id if lock else None,
            )
            for key, lock in zip(due.keys, locks, strict=True)
        ],
        not_due=[
            models.cycles.NotDueKey(key=str(item.key), next_due_at=iso(item.next_due_at))
            for item in due.not_due
        ],
        left_out=[models.cycles.LeftOutResponse.from_plan(item) for item in due.left_out],
    )


async def _get_stalled_keys(
    app: Services, keys: Iterable[ExportKey]
) -> "list[models.cycles.StalledKey]":
    """Return the unbilled keys of the current month whose data have not changed for days."""
    unbilled = [key for key in dict.fromkeys(keys) if not key.dataset.billed]
    entries = await asyncio.gather(*(app.ledger.catalogue.get(key) for key in unbilled))
    stalled = []
    for key, entry in zip(unbilled, entries, strict=True):
        if entry and entry.is_rejected:
            continue
        created_at = parse_iso(entry.created_at) if entry and entry.created_at else None
        since = stalled_since(key, created_at, app.clock.now())
        if since is not None:
            stalled.append(models.cycles.StalledKey.of(key, since))
    return stalled
