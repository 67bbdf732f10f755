"""Turns settings and invoices into the runs of a cycle, dealt into lanes.

Idempotent: keys and run ids follow from the settings and the cycle's id and tick, so a repeat plans the same runs.
"""

import azure.durable_functions as df

from shared.clock import parse_iso
from shared.due import due_keys, lane_limits, lanes
from shared.ledger.cycles import Cycle
from shared.ledger.keys import STAMP, run_id
from shared.messages import CyclePlan, CycleRequest, DueRun
from shared.redaction import walled
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="cycle")
@walled
async def plan_exports(cycle: CycleRequest) -> CyclePlan:
    app = services()
    tick = parse_iso(cycle["tick"])
    runs: list[DueRun] = [
        {"run_id": run_id(key, tick, suffix_of(cycle["cycle_id"])), "key": str(key)}
        for key in due_keys(app.settings, tick)]
    await app.ledger.cycles.insert(Cycle(cycle["cycle_id"], "starting", cycle["tick"], started_at=cycle["tick"]))
    await app.ledger.cycles.planned(cycle["cycle_id"], [run["run_id"] for run in runs])
    known = await app.ledger.cycles.get(cycle["cycle_id"])
    return {
        "lanes": lanes(runs, app.settings.export_parallelism), "limits": lane_limits(app.settings),
        "requested_by": known.requested_by if known else "timer"}


def suffix_of(cycle_id: str) -> str:
    """The four random characters of a cycle asked for by hand, "" of a scheduled one; its runs carry the same."""
    found = STAMP.search(cycle_id)
    return (found[2] or "").removeprefix("-") if found else ""
