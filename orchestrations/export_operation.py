"""Requests an export from Microsoft, polls the operation until it ends, and plans the copy.

Each activity determines its own wait, which can take hours, and applies the deadline of the run. If
the operation no longer exists at Microsoft, or its manifest is malformed, `start_export` requests a
new one, a limited number of times.
"""

import azure.durable_functions as df

from activities.check_operation import check_operation
from activities.plan_copy import plan_copy
from activities.start_export import start_export
from orchestrations.policies import MAX_POLLS_PER_HISTORY, RETRY, Steps, wait
from shared.messages import (
    CheckResult,
    OperationRequest,
    OperationResult,
    OperationStep,
    PlanResult,
    StartResult,
)

bp = df.Blueprint()

STAGES: dict[OperationStep, str] = {"start": "posting", "poll": "waiting", "plan": "planning"}


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_operation(context: df.DurableOrchestrationContext) -> Steps[OperationResult | None]:
    request: OperationRequest = context.get_input()
    for _ in range(MAX_POLLS_PER_HISTORY):
        status = {
            "stage": STAGES[request["step"]],
            "round": request["plan"],
            "attempt": request["attempt"],
        }
        context.set_custom_status(status)
        result: StartResult | CheckResult | PlanResult = yield context.call_activity_with_retry(
            start_export
            if request["step"] == "start"
            else check_operation
            if request["step"] == "poll"
            else plan_copy,
            RETRY,
            request,
        )
        match result["status"]:
            case "waiting":
                request = {**request, "attempt": request["attempt"] + 1}
            case "started":
                operation_id = result["operation_id"]
                request = {**request, "step": "poll", "operation_id": operation_id, "attempt": 0}
            case "succeeded":
                request = {**request, "step": "plan", "attempt": 0}
                continue
            case "gone":
                request = {**request, "step": "start", "operation_id": None, "attempt": 0}
            case _:
                return result
        yield from wait(context, status, result["wait_seconds"])
    context.continue_as_new(request)
    return None
