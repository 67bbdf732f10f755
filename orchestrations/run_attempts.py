"""The call of a run by a lane, which is repeated if the run was interrupted."""

import azure.durable_functions as df

from activities.check_run import check_run
from orchestrations.policies import (
    MAX_RUN_ATTEMPTS,
    MAX_RUN_CHECKS,
    RETRY,
    RUN_CHECK_SECONDS,
    Steps,
    run_request,
    sleep,
)
from shared.messages import LaneRequest, PlannedRun, RunResult, RunStatusResult, attempt_id


def run_export(
    context: df.DurableOrchestrationContext, run: PlannedRun, lane: LaneRequest, **fields: str
) -> Steps[bool]:
    """Run one export of a lane and return whether it succeeded.

    A run that fails without a recorded outcome was interrupted. It is called again in a new
    instance, because the engine does not repeat an interrupted orchestration.

    Args:
        context: The context of the lane.
        run: The run.
        lane: The lane.
        fields: Additional fields of the run's input.
    """
    for attempt in range(1, MAX_RUN_ATTEMPTS + 1):
        request = {**run_request(run, lane, context.current_utc_datetime), **fields}
        instance_id = run["run_id"] if attempt == 1 else attempt_id(run["run_id"], str(attempt))
        try:
            result: RunResult = yield context.call_sub_orchestrator(
                "export_run", request, instance_id=instance_id, expected_type=dict
            )
            if result.get("live_run_id") == run["run_id"]:
                yield from wait_until_ended(context, run)
            return True
        except Exception:
            if (yield from is_ended(context, run)):
                return False
    return False  # the orphaned-run cleanup starts the run again or records its outcome


def is_ended(context: df.DurableOrchestrationContext, run: PlannedRun) -> Steps[bool]:
    """Return whether the outcome of a run is recorded."""
    result: RunStatusResult = yield context.call_activity_with_retry(
        check_run, RETRY, {"run_id": run["run_id"]}
    )
    return result["status"] == "ended"


def wait_until_ended(context: df.DurableOrchestrationContext, run: PlannedRun) -> Steps[None]:
    """Wait for another instance of the run, which an earlier instance of the cycle has called."""
    for _ in range(MAX_RUN_CHECKS):
        if (yield from is_ended(context, run)):
            return
        yield from sleep(context, RUN_CHECK_SECONDS)
