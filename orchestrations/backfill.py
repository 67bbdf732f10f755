"""Brings the past: all that is missing of some months, a few runs at a time, until it is done or cancelled.

It carries on after any crash where it was: what is landed is in the history, and its run is never started again.
"""

import azure.durable_functions as df

from activities.check_backfill import check_backfill
from activities.plan_backfill import plan_backfill
from activities.summarize_backfill import summarize_backfill
from orchestrations.policies import (
    LIST_TRIES,
    RETRY,
    Steps,
    lane_requests,
    pause_for_list,
    run_of,
    sleep,
)
from shared.messages import (
    BackfillRequest,
    BackfillStatusResult,
    CyclePlanResult,
    CycleResult,
    LaneRequest,
    LaneResult,
)

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def backfill(context: df.DurableOrchestrationContext) -> Steps[CycleResult]:
    request: BackfillRequest = context.get_input()
    context.set_custom_status({"stage": "planning"})
    for attempt in range(1, LIST_TRIES + 1):
        answer: CyclePlanResult = yield context.call_activity_with_retry(
            plan_backfill, RETRY, {**request, "last_try": attempt == LIST_TRIES}
        )
        if answer["status"] == "planned":
            break
        yield from sleep(context, pause_for_list(answer["retry_after_seconds"], attempt))
    else:
        raise RuntimeError("plan_backfill waits although it was its last try")
    if answer["lanes"]:
        context.set_custom_status(
            {"stage": "running", "runs": sum(len(lane) for lane in answer["lanes"])}
        )
        yield context.task_all(
            [
                context.call_sub_orchestrator("backfill_lane", lane, expected_type=dict)
                for lane in lane_requests(answer, request["backfill_id"])
            ]
        )
    summary: CycleResult = yield context.call_activity_with_retry(
        summarize_backfill, RETRY, {"backfill_id": request["backfill_id"]}
    )
    context.set_custom_status({"stage": "ended", **summary})
    return summary


@bp.orchestration_trigger(context_name="context", input_type=dict)
def backfill_lane(context: df.DurableOrchestrationContext) -> Steps[LaneResult]:
    lane: LaneRequest = context.get_input()
    ended, failed = 0, 0
    for due in lane["runs"]:
        context.set_custom_status(
            {"stage": "running", "run_id": due["run_id"], "done": ended, "runs": len(lane["runs"])}
        )
        try:
            state: BackfillStatusResult = yield context.call_activity_with_retry(
                check_backfill, RETRY, {"backfill_id": lane["cycle_id"]}
            )
            if state["status"] == "cancelled":
                break
            run = run_of(due, lane, context.current_utc_datetime)
            yield context.call_sub_orchestrator(
                "export_run", run, instance_id=due["run_id"], expected_type=dict
            )
        except (
            Exception
        ):  # the run has recorded its own outcome, or clean_up_orphaned_runs will; the others go on
            failed += 1
        ended += 1
    return {"ended": ended, "failed": failed}
