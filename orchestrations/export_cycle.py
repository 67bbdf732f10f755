"""Requests every export that is due, a few runs at a time.

The plan is divided into lanes, and each lane starts its runs one after another. A run that fails
does not stop the others. If the invoice list is not available, the cycle tries again a few times
and then uses the invoices that are already known.
"""

import azure.durable_functions as df

from activities.plan_exports import plan_exports
from activities.summarize_cycle import summarize_cycle
from orchestrations.lanes import plan_runs, run_lanes
from orchestrations.policies import RETRY, Steps, sleep, start_delay_seconds
from orchestrations.run_attempts import run_export
from shared.messages import CycleRequest, CycleResult, LaneRequest, LaneResult

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_cycle(context: df.DurableOrchestrationContext) -> Steps[CycleResult]:
    cycle: CycleRequest = context.get_input()
    context.set_custom_status({"stage": "planning"})
    plan = yield from plan_runs(context, plan_exports, cycle)
    yield from run_lanes(context, "cycle_lane", plan, cycle["cycle_id"])
    result: CycleResult = yield context.call_activity_with_retry(summarize_cycle, RETRY, cycle)
    context.set_custom_status({"stage": "ended", **result})
    return result


@bp.orchestration_trigger(context_name="context", input_type=dict)
def cycle_lane(context: df.DurableOrchestrationContext) -> Steps[LaneResult]:
    lane: LaneRequest = context.get_input()
    lane_started, failed = context.current_utc_datetime, 0
    for done, run in enumerate(lane["runs"]):
        delay = start_delay_seconds(run, lane_started, context.current_utc_datetime)
        yield from sleep(context, delay)
        context.set_custom_status(
            {"stage": "running", "run_id": run["run_id"], "done": done, "runs": len(lane["runs"])}
        )
        try:
            has_succeeded = yield from run_export(context, run, lane, cycle_id=lane["cycle_id"])
        except Exception:  # an activity failed in every attempt: the orphaned-run cleanup follows
            has_succeeded = False
        failed += not has_succeeded
    return {"ended": len(lane["runs"]), "failed": failed}
