"""Turns the settings and the invoices into the runs of a cycle, divided into lanes.

Idempotent: run IDs are derived from the keys and the tick of the cycle, so a run that is planned
twice is one run. The orchestrator uses the plan that was written last. If another task hub started
the cycle of this tick, this activity does not write the row of the cycle.
"""

import azure.durable_functions as df

from shared.clock import parse_iso
from shared.exports import BillingMonth
from shared.invoices import InvoiceList, left_out_text
from shared.ledger.cycles import Cycle
from shared.ledger.keys import run_id, suffix_of
from shared.messages import CyclePlanResult, CycleRequest, PlannedRun
from shared.planning.due import lane_limits, lanes, start_offset_seconds
from shared.planning.waits import get_next_check_at
from shared.redaction import sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="cycle")
@sanitize_exceptions
async def plan_exports(cycle: CycleRequest) -> CyclePlanResult:
    app, cycle_id = services(), cycle["cycle_id"]
    tick = parse_iso(cycle["tick"])
    await app.ledger.insert_cycle(
        Cycle(cycle_id, "starting", cycle["tick"], started_at=cycle["tick"])
    )
    row = await app.ledger.cycles.get(cycle_id)
    is_row_writable = row is not None and row.hub == app.ledger.hub and not row.is_over
    requested_by = (row.requested_by if row else "") or "timer"
    invoices = await app.planner.list_invoices(
        attempt=cycle.get("attempt", 1), is_last_attempt=cycle.get("is_last_attempt", False)
    )
    if not isinstance(invoices, InvoiceList):
        if is_row_writable:
            next_check_at = get_next_check_at(app.clock.now(), invoices["wait_seconds"])
            await app.ledger.cycles.save_wait(cycle_id, next_check_at)
            await app.ledger.open_items.renew(cycle_id, parse_iso(next_check_at))
        emit_event(
            "cycle_delayed",
            f"{cycle_id}/delayed/1",
            cycle_id=cycle_id,
            seconds=invoices["wait_seconds"],
        )
        return invoices
    due = await app.planner.select_due(tick, invoices)
    suffix, is_scheduled = suffix_of(cycle_id), requested_by == "timer"
    runs: list[PlannedRun] = [
        {
            "run_id": run_id(key, tick, suffix),
            "key": str(key),
            "start_after_seconds": start_offset_seconds(key) if is_scheduled else 0,
        }
        for key in due.keys
    ]
    if row is not None and is_row_writable:
        run_ids = [run["run_id"] for run in runs]
        if row.restarts:  # keys whose runs have ended are no longer due
            existing = await app.ledger.runs.get_many(row.runs)
            run_ids += [run_id for run_id in row.runs if run_id in existing.keys() - {*run_ids}]
        await app.ledger.cycles.save_plan(cycle_id, run_ids, left_out_text(due.left_out))
    is_billed = await app.planner.is_month_billed(BillingMonth.of(tick).previous())
    for dataset in app.settings.export_datasets:
        emit_event(
            "dataset_planned",
            f"{cycle_id}/planned-{dataset.value}/1",
            cycle_id=cycle_id,
            dataset=dataset.value,
            due=sum(key.dataset is dataset for key in due.keys),
            not_due=sum(export.key.dataset is dataset for export in due.not_due),
            last_month_billed=is_billed,
            incomplete=dataset in due.incomplete,
        )
    return {
        "status": "planned",
        "lanes": lanes(runs, app.settings.export_parallelism),
        "limits": lane_limits(app.settings),
        "requested_by": requested_by,
    }
