"""All that is due, a few runs at a time: the plan is dealt into lanes, and a lane runs its exports one after another.

A run that fails never stops the others: a lane catches it, and its row says why.
"""

from datetime import timedelta

import azure.durable_functions as df

from activities.plan_exports import plan_exports
from activities.sum_up_cycle import sum_up_cycle
from orchestrations.policies import RETRY, Steps
from shared.messages import CyclePlan, CycleRequest, CycleSummary, LaneRequest, LaneResult

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_cycle(context: df.DurableOrchestrationContext) -> Steps[CycleSummary]:
    cycle: CycleRequest = context.get_input()
    context.set_custom_status({"stage": "planning"})
    plan: CyclePlan = yield context.call_activity_with_retry(plan_exports, RETRY, cycle)
    if plan["lanes"]:
        context.set_custom_status({"stage": "running", "runs": sum(len(lane) for lane in plan["lanes"])})
        yield context.task_all([
            context.call_sub_orchestrator(
                "cycle_lane",
                {"cycle_id": cycle["cycle_id"], "runs": lane, "limits": plan["limits"], "requested_by": plan["requested_by"]},
                expected_type=dict)
            for lane in plan["lanes"]])
    summary: CycleSummary = yield context.call_activity_with_retry(sum_up_cycle, RETRY, cycle)
    context.set_custom_status({"stage": "ended", **summary})
    return summary


@bp.orchestration_trigger(context_name="context", input_type=dict)
def cycle_lane(context: df.DurableOrchestrationContext) -> Steps[LaneResult]:
    lane: LaneRequest = context.get_input()
    failed = 0
    for done, due in enumerate(lane["runs"]):
        context.set_custom_status({"stage": "running", "run_id": due["run_id"], "done": done, "runs": len(lane["runs"])})
        limits = lane["limits"]
        deadline = context.current_utc_datetime + timedelta(hours=limits["deadline_hours"])
        run = {
            "run_id": due["run_id"], "key": due["key"], "force": False, "cycle_id": lane["cycle_id"],
            "requested_by": lane["requested_by"], "limits": {
                "deadline": deadline.isoformat(), "rounds": limits["rounds"], "pages_in_flight": limits["pages_in_flight"],
                "poll_min_seconds": limits["poll_min_seconds"]}}
        try:
            yield context.call_sub_orchestrator("export_run", run, instance_id=due["run_id"], expected_type=dict)
        except Exception:  # the run has recorded its own outcome, or settle_dead_runs will
            failed += 1
    return {"ended": len(lane["runs"]), "failed": failed}
