"""What cycles and backfills have in common: plan the runs, then run them in concurrent lanes.

If a lane is interrupted because the worker process ended, the cycle or the backfill fails, and the
orphaned-run cleanup starts it again.
"""

from collections.abc import Mapping
from typing import Any

import azure.durable_functions as df

from orchestrations.policies import MAX_LIST_ATTEMPTS, RETRY, Steps, lane_requests, sleep
from shared.messages import CyclePlannedResult, CyclePlanResult


def plan_runs(
    context: df.DurableOrchestrationContext, activity: Any, request: Mapping[str, object]
) -> Steps[CyclePlannedResult]:
    """Call a planning activity until it has a plan. In its last attempt, it always has one."""
    for attempt in range(1, MAX_LIST_ATTEMPTS + 1):
        plan: CyclePlanResult = yield context.call_activity_with_retry(
            activity,
            RETRY,
            {**request, "attempt": attempt, "is_last_attempt": attempt == MAX_LIST_ATTEMPTS},
        )
        if plan["status"] == "planned":
            return plan
        yield from sleep(context, plan["wait_seconds"])
    raise RuntimeError("the planning activity requested a retry in its last attempt")


def run_lanes(
    context: df.DurableOrchestrationContext,
    orchestrator: str,
    plan: CyclePlannedResult,
    cycle_id: str,
) -> Steps[None]:
    """Run all lanes of a plan concurrently. `cycle_id` is the ID of the cycle or the backfill."""
    lanes = lane_requests(plan, cycle_id)
    if not lanes:  # the engine does not support an empty `task_all`
        return
    context.set_custom_status(
        {"stage": "running", "runs": sum(len(lane["runs"]) for lane in lanes)}
    )
    yield context.task_all(
        [context.call_sub_orchestrator(orchestrator, lane, expected_type=dict) for lane in lanes]
    )
