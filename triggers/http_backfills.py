"""POST /api/backfills, GET /api/backfills/{backfill_id}, POST /api/backfills/{backfill_id}/cancel, GET /api/gaps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso, parse_iso
from shared.exports import BillingMonth, Dataset, InvalidValueError, parse_dataset
from shared.invoices import read_left_out
from shared.ledger.backfills import Backfill
from shared.ledger.keys import random_suffix, stamp
from shared.ledger.runs import Run
from shared.messages import FAILED_OUTCOMES, BackfillRequest
from shared.planning.gaps import FIRST_SERVED, MOST_MONTHS, Gap, gaps, months_between
from shared.services import Services, services
from triggers.http_cycles import DIED, left_out_view
from triggers.problem import Problem, answer, invalid, problem_details, unknown
from triggers.queries import no_query, parameters
from triggers.requests import json_object, path_id, requested_by
from triggers.resources import resource
from triggers.starter import start

bp = df.Blueprint()
T = TypeVar("T")

FIELDS = ("from", "to", "datasets")
DONE = ("landed", "unchanged")


@dataclass(frozen=True)
class Span:
    """Months, both included, and datasets, in their own order."""

    first: BillingMonth
    last: BillingMonth
    datasets: tuple[Dataset, ...]


@bp.route(route="backfills", methods=["POST"])
@bp.durable_client_input(client_name="client")
@problem_details
async def start_backfill(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    """Asks for all of these months that is not landed yet, as far as Microsoft still serves it."""
    no_query(req)
    app = services()
    now = app.clock.now()
    span = span_of(json_object(req), app, now)
    backfill = Backfill(
        f"backfill-{stamp(now)}-{random_suffix()}",
        "starting",
        str(span.first),
        str(span.last),
        [dataset.value for dataset in span.datasets],
        requested_by(req),
        started_at=iso(now),
    )
    await app.ledger.backfills.insert(backfill)
    request: BackfillRequest = {
        "backfill_id": backfill.backfill_id,
        "first_month": backfill.first_month,
        "last_month": backfill.last_month,
        "datasets": backfill.datasets,
    }
    await start(client, "backfill", backfill.backfill_id, request)
    return accepted(view(backfill, [], now))


@bp.route(route="backfills/{backfill_id}", methods=["GET"])
@bp.durable_client_input(client_name="client")
@problem_details
async def get_backfill(
    req: func.HttpRequest, client: df.DurableOrchestrationClient
) -> func.HttpResponse:
    no_query(req)
    app = services()
    backfill = await known(app, req)
    if backfill.state != "ended":
        status = await client.get_status(backfill.backfill_id)
        if status and status.runtime_status in DIED:
            backfill = replace(backfill, state="failed")
    headers = {} if backfill.state in ("ended", "failed") else {"Retry-After": "10"}
    return resource(req, view(backfill, await runs_of(app, backfill), app.clock.now()), **headers)


@bp.route(route="backfills/{backfill_id}/cancel", methods=["POST"])
@problem_details
async def cancel_backfill(req: func.HttpRequest) -> func.HttpResponse:
    """A mark: no further run begins, and those that are live end at their next look. What is landed stays."""
    no_query(req)
    app = services()
    if body := json_object(req):
        raise invalid({name[:40]: "is not known; a cancel takes no fields" for name in body})
    backfill = await known(app, req)
    now = app.clock.now()
    if backfill.state == "ended":
        raise Problem(
            409,
            "backfill_ended",
            "The backfill has ended.",
            "There is nothing to cancel; what it landed stays.",
            backfill_id=backfill.backfill_id,
        )
    if not backfill.cancelled:
        await app.ledger.backfills.mark_cancelled(backfill.backfill_id, now)
    runs = await runs_of(app, backfill)
    for run in runs:
        if not run.outcome and not run.cancelled:
            await app.ledger.runs.mark_cancelled(run.run_id, now, requested_by(req))
    return accepted(view(await known(app, req), runs, now))


@bp.route(route="gaps", methods=["GET"])
@problem_details
async def get_gaps(req: func.HttpRequest) -> func.HttpResponse:
    """Per dataset and month what is landed, and what is missing and why: from the catalogue and the invoices last listed."""
    app = services()
    now = app.clock.now()
    this = BillingMonth.of(now)
    wanted: dict[str, Any] = dict(parameters(req))
    if "datasets" in wanted:
        wanted["datasets"] = [part.strip() for part in wanted["datasets"].split(",")]
    year_ago = BillingMonth(this.year - 1, this.month)
    span = span_of({"from": str(year_ago), "to": str(this), **wanted}, app, now)
    listed = await app.planner.list_known_invoices()
    found = gaps(
        months_between(span.first, span.last),
        span.datasets,
        app.planner.scopes(listed),
        await app.planner.key_states(span.datasets),
        this,
    )
    return answer(
        200,
        {"from": str(span.first), "to": str(span.last), "gaps": [gap_view(gap) for gap in found]},
    )


def span_of(body: dict[str, Any], app: Services, now: datetime) -> Span:
    """Every wrong field at once. Months in the future, and before anything was served, are refused here."""
    faults = {
        name[:40]: f"is not known; known are {', '.join(FIELDS)}"
        for name in body
        if name not in FIELDS
    }
    this = BillingMonth.of(now)
    months = {
        name: read(body, name, lambda text: a_month(text, this), faults) for name in ("from", "to")
    }
    datasets = (
        read(body, "datasets", some_datasets, faults)
        if "datasets" in body
        else app.settings.export_datasets
    )
    first, last = months["from"], months["to"]
    if first and last and last < first:
        faults["to"] = f"must not be before from, {first}"
    elif first and last and len(months_between(first, last)) > MOST_MONTHS:
        faults["to"] = f"must be at most {MOST_MONTHS} months from the first"
    if faults or first is None or last is None or datasets is None:
        raise invalid(faults)
    return Span(first, last, tuple(datasets))


def read(
    body: dict[str, Any], name: str, parse: Callable[[Any], T], faults: dict[str, str]
) -> T | None:
    if name not in body:
        faults[name] = "is missing"
        return None
    try:
        return parse(body[name])
    except InvalidValueError as error:
        faults[name] = str(error)
        return None


def a_month(value: Any, this: BillingMonth) -> BillingMonth:
    month = BillingMonth.parse(value if isinstance(value, str) else "")
    if not FIRST_SERVED <= month <= this:
        raise InvalidValueError(
            f"must be from {FIRST_SERVED}, the first month ever served, to {this}, this month"
        )
    return month


def some_datasets(value: Any) -> tuple[Dataset, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise InvalidValueError("must be a list of datasets")
    return tuple(dict.fromkeys(parse_dataset(one) for one in value))


async def known(app: Services, req: func.HttpRequest) -> Backfill:
    backfill = await app.ledger.backfills.get(path_id(req, "backfill_id", "backfill"))
    if backfill is None:
        raise unknown("backfill")
    return backfill


async def runs_of(app: Services, backfill: Backfill) -> list[Run]:
    rows = await app.ledger.runs.some(backfill.runs)
    return [rows[run_id] for run_id in backfill.runs if run_id in rows]


def view(backfill: Backfill, runs: list[Run], now: datetime) -> dict[str, Any]:
    """`planned` counts every key of the months that is known; `waiting` has not ended yet."""
    ended = [run for run in runs if run.outcome]
    landed = sum(run.outcome in DONE for run in ended) + backfill.settled.get("landed", 0)
    over = backfill.state in ("ended", "failed")
    left = 0 if over else len(backfill.runs) - len(ended)
    return {
        "backfill_id": backfill.backfill_id,
        "state": backfill.state,
        "from": backfill.first_month,
        "to": backfill.last_month,
        "datasets": backfill.datasets,
        "requested_by": backfill.requested_by or None,
        "started_at": backfill.started_at or None,
        "ended_at": backfill.ended_at or None,
        "cancel_requested_at": backfill.cancel_requested_at or None,
        "planned": len(backfill.runs) + sum(backfill.settled.values()),
        "landed": landed,
        "landed_before": backfill.settled.get("landed", 0),
        "no_data": sum(run.outcome == "no_data" for run in ended),
        "not_served": backfill.settled.get("not_served", 0)
        + sum(run.code == "not_served" for run in ended),
        "failed": sum(run.outcome in FAILED_OUTCOMES and run.code != "not_served" for run in ended),
        "waiting": left,
        "estimated_end": estimated_end(backfill, ended, left, now),
        "outcomes": backfill.outcomes,
        "left_out": left_out_view(read_left_out(backfill.left_out)),
        "runs": [
            {
                "run_id": run.run_id,
                "key": run.key,
                "stage": run.stage,
                "outcome": run.outcome or None,
                "code": run.code or None,
            }
            for run in runs
        ],
    }


def estimated_end(backfill: Backfill, ended: list[Run], left: int, now: datetime) -> str | None:
    """At the pace up to the last run that ended; None while nothing has ended, and when nothing is left.

    So it moves, and with it the ETag, when a run has ended and not with every look; only one that has passed is put off.
    """
    if not ended or not left or not backfill.started_at:
        return None
    began, last = parse_iso(backfill.started_at), max(parse_iso(run.ended_at) for run in ended)
    estimate = last + (last - began) / len(ended) * left
    if estimate <= now:
        estimate = now + (now - began) / len(ended) * left
    return iso(estimate.replace(microsecond=0))


def gap_view(gap: Gap) -> dict[str, Any]:
    return {
        "dataset": gap.dataset.value,
        "billing_month": str(gap.month),
        "state": gap.state,
        "keys": [
            {"key": str(key), "state": state, "code": code or None} for key, state, code in gap.keys
        ],
    }


def accepted(body: dict[str, Any]) -> func.HttpResponse:
    return answer(
        202, body, Location=f"/api/backfills/{body['backfill_id']}", **{"Retry-After": "10"}
    )
