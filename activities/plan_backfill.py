"""Turns months and datasets into the runs of a backfill: what has not landed and is still served.

Idempotent: run IDs are derived from the keys and the ID of the backfill, so a run that is planned
twice is one run.
"""

import azure.durable_functions as df

from shared.clock import parse_iso
from shared.exports import BillingMonth, Dataset
from shared.invoices import InvoiceList, left_out_text
from shared.ledger.keys import run_id, started_at, suffix_of
from shared.ledger.runs import BACKFILL_PREFIX
from shared.messages import BackfillRequest, CyclePlanResult, PlannedRun
from shared.planning.due import lane_limits, lanes
from shared.planning.gaps import list_left_out, missing, months_between
from shared.planning.waits import get_next_check_at
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="backfill")
@sanitize_exceptions
async def plan_backfill(backfill: BackfillRequest) -> CyclePlanResult:
    app, backfill_id = services(), backfill["backfill_id"]
    invoices = await app.planner.list_invoices(
        attempt=backfill.get("attempt", 1), is_last_attempt=backfill.get("is_last_attempt", False)
    )
    if not isinstance(invoices, InvoiceList):
        next_check_at = get_next_check_at(app.clock.now(), invoices["wait_seconds"])
        await app.ledger.backfills.save_wait(backfill_id, next_check_at)
        await app.ledger.open_items.renew(backfill_id, parse_iso(next_check_at))
        return invoices
    datasets = [Dataset(dataset) for dataset in backfill["datasets"]]
    months = months_between(
        BillingMonth.parse(backfill["first_month"]), BillingMonth.parse(backfill["last_month"])
    )
    scopes = app.planner.scopes(invoices)
    keys, settled = missing(
        months,
        datasets,
        scopes,
        await app.planner.key_states(datasets),
        BillingMonth.of(app.clock.now()),
    )
    started = started_at(backfill_id)
    assert started is not None  # the trigger created the ID
    suffix = suffix_of(backfill_id)
    runs: list[PlannedRun] = [
        {"run_id": run_id(key, started, suffix), "key": str(key)} for key in keys
    ]
    left_out = list_left_out(months, datasets, scopes, invoices)
    await app.ledger.backfills.save_plan(
        backfill_id, [run["run_id"] for run in runs], settled, left_out_text(left_out)
    )
    return {
        "status": "planned",
        "lanes": lanes(runs, app.settings.export_parallelism),
        "limits": lane_limits(app.settings),
        "requested_by": f"{BACKFILL_PREFIX}{backfill_id}",
    }
