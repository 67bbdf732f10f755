"""All that is due, a few runs at a time: the plan is dealt into lanes, and a lane runs its exports one after another.

A run that fails never stops the others: a lane catches it, and its row says why. An invoice list that cannot be had is
asked for a few times more; then the cycle goes on with the invoices that are known.
"""

import azure.durable_functions as df

from activities.plan_exports import plan_exports
from activities.summarize_cycle import summarize_cycle
from orchestrations.policies import (
    LIST_TRIES,
    RETRY,
    Steps,
    lane_requests,
    pause_for_list,
    run_of,
    sleep,
    start_pause,
)
from shared.messages import CyclePlanResult, CycleRequest, CycleResult, LaneRequest, LaneResult

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_cycle(context: df.DurableOrchestrationContext) -> Steps[CycleResult]:
    cycle: CycleRequest = context.get_input()
    context.set_custom_status({"stage": "planning"})
    for attempt in range(1, LIST_TRIES + 1):
        answer: CyclePlanResult = yield context.call_activity_with_retry(
            plan_exports, RETRY, {**cycle, "last_try": attempt == LIST_TRIES}
        )
        if answer["status"] == "planned":
            break
        yield from sleep(context, pause_for_list(answer["retry_after_seconds"], attempt))
    else:
        raise RuntimeError("plan_exports waits although it was its last try")
    if answer["lanes"]:
        context.set_custom_status(
            {"stage": "running", "runs": sum(len(lane) for lane in answer["lanes"])}
        )
        yield context.task_all(
            [
                context.call_sub_orchestrator("cycle_lane", lane, expected_type=dict)
                for lane in lane_requests(answer, cycle["cycle_id"])
            ]
        )
    summary: CycleResult = yield context.call_activity_with_retry(summarize_cycle, RETRY, cycle)
    context.set_custom_status({"stage": "ended", **summary})
    return summary


@bp.orchestration_trigger(context_name="context", input_type=dict)
def cycle_lane(context: df.DurableOrchestrationContext) -> Steps[LaneResult]:
    lane: LaneRequest = context.get_input()
    began, failed = context.current_utc_datetime, 0
    for done, due in enumerate(lane["runs"]):
        yield from sleep(context, start_pause(due, began, context.current_utc_datetime))
        context.set_custom_status(
            {"stage": "running", "run_id": due["run_id"], "done": done, "runs": len(lane["runs"])}
        )
        run = {**run_of(due, lane, context.current_utc_datetime), "cycle_id": lane["cycle_id"]}
        try:
            yield context.call_sub_orchestrator(
                "export_run", run, instance_id=due["run_id"], expected_type=dict
            )
        except Exception:  # the run has recorded its own outcome, or clean_up_orphaned_runs will
            failed += 1
    return {"ended": len(lane["runs"]), "failed": failed}
