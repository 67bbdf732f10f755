"""Requests an export from Microsoft and polls the operation until it ends, for minutes or hours.

If the operation no longer exists at Microsoft, `start_export` requests a new one, a limited number
of times.
"""

from datetime import datetime

import azure.durable_functions as df

from activities.check_operation import check_operation
from activities.start_export import start_export
from orchestrations.policies import (
    MAX_POLLS_PER_HISTORY,
    RETRY,
    TIMER_TOLERANCE,
    Steps,
    next_check_at,
    sleep,
)
from shared.messages import CheckResult, OperationRequest, OperationResult, StartResult

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_operation(context: df.DurableOrchestrationContext) -> Steps[OperationResult | None]:
    given: OperationRequest = context.get_input()
    request: OperationRequest = {
        **given,
        "operation_id": given.get("operation_id"),
        "attempt": given.get("attempt", 0),
    }
    deadline = datetime.fromisoformat(request["limits"]["deadline"])
    for _ in range(MAX_POLLS_PER_HISTORY):
        is_polling = request["operation_id"] is not None
        stage = "waiting" if is_polling else "posting"
        context.set_custom_status({"stage": stage, "polls": request["attempt"]})
        result: StartResult | CheckResult = yield context.call_activity_with_retry(
            check_operation if is_polling else start_export, RETRY, request
        )
        if result["status"] == "started":
            request = {**request, "operation_id": result["operation_id"], "attempt": 0}
        elif result["status"] == "gone":
            request = {**request, "operation_id": None}
            yield from sleep(context, result["wait_seconds"])
        elif result["status"] == "waiting":
            # A wait that crosses the deadline is not cut short: the deadline applies after it.
            if context.current_utc_datetime >= deadline - TIMER_TOLERANCE:
                return {"status": "timed_out"}
            request = {**request, "attempt": request["attempt"] + 1}
            context.set_custom_status(
                {
                    "stage": "waiting",
                    "polls": request["attempt"],
                    "next_check_at": next_check_at(context, result["wait_seconds"]),
                }
            )
            yield from sleep(context, result["wait_seconds"])
        else:
            return result
    context.continue_as_new(request)
    return None
