"""POST /api/cycles, GET /api/cycles/{cycle_id}."""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.errors import get_cause, get_remedy
from shared.exports import ExportKey
from shared.invoices import InvoiceList, LeftOut, read_left_out
from shared.ledger.cycles import Cycle
from shared.ledger.keys import random_suffix, stamp
from shared.messages import FAILED_OUTCOMES
from shared.planning.due import export_request, stalled_since
from shared.services import Services, services
from shared.telemetry import emit_event
from triggers.problem import answer, invalid, problem_details, unknown
from triggers.queries import no_query
from triggers.requests import json_object, path_id, requested_by
from triggers.resources import resource
from triggers.starter import start
from triggers.views import cycle_view, run_view

bp = df.Blueprint()

DIED = (
    df.OrchestrationRuntimeStatus.Failed,
    df.OrchestrationRuntimeStatus.Terminated,
    df.OrchestrationRuntimeStatus.Canceled,
)


@bp.route(route="cycles", methods=["POST"])
@bp.durable_client_input(client_name="client")
@problem_details
async def start_cycle(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """The scheduled round, now. Its runs share keys with whatever is live: a key is never landed twice at once."""
    no_query(req)
    app = services()
    now = app.clock.now()
    if is_dry_run(json_object(req)):
        return answer(200, await dry_run(app, now))
    cycle = Cycle(
        f"cycle-{stamp(now)}-{random_suffix()}",
        "starting",
        iso(now),
        requested_by(req),
        started_at=iso(now),
    )
    await app.ledger.cycles.insert(cycle)
    await start(
        client, "export_cycle", cycle.cycle_id, {"cycle_id": cycle.cycle_id, "tick": cycle.tick}
    )
    emit_event(
        "cycle_started",
        f"{cycle.cycle_id}/started/1",
        cycle_id=cycle.cycle_id,
        tick=cycle.tick,
        requested_by=cycle.requested_by,
        late=False,
    )
    return answer(
        202,
        {**cycle_view(cycle, []), **summary(cycle, [])},
        Location=f"/api/cycles/{cycle.cycle_id}",
        **{"Retry-After": "5"},
    )


@bp.route(route="cycles/{cycle_id}", methods=["GET"])
@bp.durable_client_input(client_name="client")
@problem_details
async def get_cycle(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """The row, and of one that never got as far as to end itself, what the engine says: `failed`."""
    no_query(req)
    app = services()
    cycle = await app.ledger.cycles.get(path_id(req, "cycle_id", "cycle"))
    if cycle is None:
        raise unknown("cycle")
    if cycle.state != "ended":
        status = await client.get_status(cycle.cycle_id)
        if status and status.runtime_status in DIED:
            cycle = replace(cycle, state="failed")
    there = await app.ledger.runs.some(cycle.runs)
    rows = [there[run_id] for run_id in cycle.runs if run_id in there]
    runs = await asyncio.gather(*(run_view(app.ledger, run) for run in rows))
    stalled = await stalled_keys(app, [run.export_key for run in rows])
    return resource(
        req,
        {**cycle_view(cycle, list(runs)), **summary(cycle, stalled)},
        **({} if cycle.state in ("ended", "failed") else {"Retry-After": "5"}),
    )


def is_dry_run(body: dict[str, Any]) -> bool:
    faults = {name[:40]: "is not known; known is dry_run" for name in body if name != "dry_run"}
    if not isinstance(body.get("dry_run", False), bool):
        faults["dry_run"] = "must be true or false"
    if faults:
        raise invalid(faults)
    return bool(body.get("dry_run", False))


async def dry_run(app: Services, now: datetime) -> dict[str, Any]:
    """Exactly the requests that a cycle would begin its runs with, and what it would not ask for. Starts nothing.

    A key whose run is live would be shared: its request is told with that run, which has made it or is about to.
    """
    listed = await app.planner.list_invoices(attempt=1, is_last_attempt=True)
    assert isinstance(listed, InvoiceList)  # the last attempt never waits
    due = await app.planner.select_due(now, listed)
    locks = await asyncio.gather(*(app.ledger.locks.get(str(key)) for key in due.keys))
    requests = [
        {
            "key": str(key),
            **export_request(key, now),
            "live_run_id": lock.run_id or None if lock else None,
        }
        for key, lock in zip(due.keys, locks, strict=True)
    ]
    not_due = [{"key": str(one.key), "next_due_at": iso(one.next_due_at)} for one in due.not_due]
    return {
        "dry_run": True,
        "tick": iso(now),
        "base_url": app.settings.graph_base_url,
        "requests": requests,
        "not_due": not_due,
        "left_out": left_out_view(due.left_out),
    }


def summary(cycle: Cycle, stalled: list[dict[str, Any]]) -> dict[str, Any]:
    """The cycle's own outcome: `complete` when every run ended without a failure, else `incomplete`; None until it ends."""
    outcome = None
    if cycle.state in ("ended", "failed"):
        well = cycle.state == "ended" and not any(
            cycle.outcomes.get(bad) for bad in (*FAILED_OUTCOMES, "cancelled", "lost")
        )
        outcome = "complete" if well else "incomplete"
    return {
        "outcome": outcome,
        "left_out": left_out_view(read_left_out(cycle.left_out)),
        "stalled": stalled,
    }


def left_out_view(left_out: tuple[LeftOut, ...]) -> list[dict[str, Any]]:
    return [
        {
            "code": one.code,
            "invoice_id": one.invoice_id or None,
            "cause": get_cause(one.code),
            "remedy": get_remedy(one.code),
        }
        for one in left_out
    ]


async def stalled_keys(app: Services, keys: list[ExportKey]) -> list[dict[str, Any]]:
    """Unbilled keys of the current month whose data have not moved for days: told, but no failure."""
    unbilled = [key for key in dict.fromkeys(keys) if not key.dataset.billed]
    entries = await asyncio.gather(*(app.ledger.catalogue.get(key) for key in unbilled))
    found = []
    for key, entry in zip(unbilled, entries, strict=True):
        since = stalled_since(
            key,
            parse_iso(entry.created_at) if entry and entry.created_at else None,
            app.clock.now(),
        )
        if since is not None:
            found.append({"key": str(key), "stalled_since": iso(since)})
    return found
