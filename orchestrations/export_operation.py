"""Asks Microsoft for an export and waits until it is made: minutes or hours, as long as Retry-After says.

An operation that Microsoft forgot is asked for anew; start_export refuses when it has asked too often.
"""

from datetime import datetime

import azure.durable_functions as df

from activities.check_operation import check_operation
from activities.start_export import start_export
from orchestrations.policies import EARLY, POLLS_PER_HISTORY, RETRY, Steps, sleep, wait_for
from shared.messages import CheckResult, OperationRequest, OperationResult, StartResult

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_operation(context: df.DurableOrchestrationContext) -> Steps[OperationResult | None]:
    given: OperationRequest = context.get_input()
    wait: OperationRequest = {
        **given,
        "operation_id": given.get("operation_id"),
        "attempt": given.get("attempt", 0),
    }
    deadline = datetime.fromisoformat(wait["limits"]["deadline"])
    for _ in range(POLLS_PER_HISTORY):
        step = check_operation if wait["operation_id"] else start_export
        context.set_custom_status(
            {"stage": "waiting" if wait["operation_id"] else "posting", "polls": wait["attempt"]}
        )
        answer: StartResult | CheckResult = yield context.call_activity_with_retry(
            step, RETRY, wait
        )
        if answer["status"] == "started":
            wait = {**wait, "operation_id": answer["operation_id"], "attempt": 0}
        elif answer["status"] == "gone":
            wait = {**wait, "operation_id": None}
        elif answer["status"] == "waiting":
            if context.current_utc_datetime >= deadline - EARLY:
                return {
                    "status": "timed_out"
                }  # this was the last look: a wait that crosses the deadline is served in full
            wait = {**wait, "attempt": wait["attempt"] + 1}
            pause = wait_for(answer["retry_after_seconds"], wait["attempt"], wait["limits"])
            context.set_custom_status(
                {
                    "stage": "waiting",
                    "polls": wait["attempt"],
                    "next_check_at": (context.current_utc_datetime + pause)
                    .isoformat()
                    .replace("+00:00", "Z"),
                }
            )
            yield from sleep(context, pause)
        else:
            return answer
    context.continue_as_new(wait)
    return None
