"""Requests everything that is missing for a range of months, a few runs at a time.

After a crash, the backfill continues where it stopped: a run that is in its history is not started
again.
"""

import azure.durable_functions as df

from activities.check_backfill import check_backfill
from activities.plan_backfill import plan_backfill
from activities.summarize_backfill import summarize_backfill
from orchestrations.lanes import plan_runs, run_lanes
from orchestrations.policies import RETRY, Steps
from orchestrations.run_attempts import run_export
from shared.messages import (
    BackfillRequest,
    BackfillStatusResult,
    CycleResult,
    LaneRequest,
    LaneResult,
)

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def backfill(context: df.DurableOrchestrationContext) -> Steps[CycleResult]:
    request: BackfillRequest = context.get_input()
    context.set_custom_status({"stage": "planning"})
    plan = yield from plan_runs(context, plan_backfill, request)
    yield from run_lanes(context, "backfill_lane", plan, request["backfill_id"])
    result: CycleResult = yield context.call_activity_with_retry(
        summarize_backfill, RETRY, {"backfill_id": request["backfill_id"]}
    )
    context.set_custom_status({"stage": "ended", **result})
    return result


@bp.orchestration_trigger(context_name="context", input_type=dict)
def backfill_lane(context: df.DurableOrchestrationContext) -> Steps[LaneResult]:
    lane: LaneRequest = context.get_input()
    ended, failed = 0, 0
    for run in lane["runs"]:
        context.set_custom_status(
            {"stage": "running", "run_id": run["run_id"], "done": ended, "runs": len(lane["runs"])}
        )
        try:
            status: BackfillStatusResult = yield context.call_activity_with_retry(
                check_backfill, RETRY, {"backfill_id": lane["cycle_id"]}
            )
            if status["status"] == "cancelled":
                break
            has_succeeded = yield from run_export(context, run, lane)
        except Exception:  # an activity failed in every attempt: the orphaned-run cleanup follows
            has_succeeded = False
        failed += not has_succeeded
        ended += 1
    return {"ended": ended, "failed": failed}
