"""Lands one export key: claim, request, plan, copy, prove, record.

Every activity reads the ledger first, so a round repeats only what is missing. The same loop
handles a blob that failed, an expired SAS, a lost operation, and data that changed during the copy.
"""

import azure.durable_functions as df

from activities.claim_run import claim_run
from activities.commit_version import commit_version
from activities.plan_copy import plan_copy
from activities.record_outcome import record_outcome
from activities.tie_out import tie_out
from orchestrations.policies import (
    MAX_PLAN_WAITS,
    RETRY,
    RunFailedError,
    Steps,
    has_invoice_total,
    next_check_at,
    run_result,
    sleep,
    windows,
)
from shared.messages import (
    FAILED_OUTCOMES,
    ClaimResult,
    CommitRequest,
    CommitResult,
    OperationResult,
    PlannedResult,
    PlanRequest,
    PlanResult,
    RunRequest,
    RunResult,
)

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_run(context: df.DurableOrchestrationContext) -> Steps[RunResult]:
    run: RunRequest = context.get_input()
    context.set_custom_status({"stage": "starting"})
    claim: ClaimResult = yield context.call_activity_with_retry(
        claim_run, RETRY, {**run, "instance_id": context.instance_id}
    )
    result: RunResult
    if claim["status"] == "claimed":
        result = yield from land_and_record(context, run)
    else:
        result = run_result(claim)
    context.set_custom_status({"stage": "ended", **result})
    if result["outcome"] in FAILED_OUTCOMES:
        # The outcome is already recorded; the exception makes the portal show Failed and the code.
        raise RunFailedError(result)
    return result


def land_and_record(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[RunResult]:
    try:
        result: RunResult = yield from land(context, run)
    except Exception:  # an activity failed in every attempt: a fault of the platform
        result = {"outcome": "failed", "code": "platform_fault"}
    recorded: RunResult = yield context.call_activity_with_retry(
        record_outcome, RETRY, {"run_id": run["run_id"], **result}
    )
    return recorded


def land(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[RunResult]:
    for round_number in range(1, run["limits"]["max_rounds"] + 1):
        operation: OperationResult = yield context.call_sub_orchestrator(
            "export_operation", run, expected_type=dict
        )
        if operation["status"] != "succeeded":
            return run_result(operation)
        request: PlanRequest = {
            "run_id": run["run_id"],
            "operation_id": operation["operation_id"],
            "plan": round_number,
            "attempt": 0,
        }
        context.set_custom_status({"stage": "planning", "round": round_number})
        plan = yield from plan_when_available(context, request)
        if plan["status"] == "gone" or plan["status"] == "waiting":
            wait_seconds = plan["wait_seconds"]
        elif plan["status"] != "planned":
            return run_result(plan)
        else:
            retry_after_seconds = yield from copy_pages(context, run, plan)
            context.set_custom_status({"stage": "proving", "version": plan["version"]})
            commit: CommitRequest = {
                "run_id": run["run_id"],
                "plan": round_number,
                "retry_after_seconds": retry_after_seconds,
            }
            proof: CommitResult = yield context.call_activity_with_retry(
                commit_version, RETRY, commit
            )
            if proof["status"] != "missing":
                if proof["status"] == "landed" and has_invoice_total(run["key"]):
                    yield from compare(context, run)
                return run_result(proof)
            wait_seconds = proof["wait_seconds"]
        if round_number < run["limits"]["max_rounds"]:
            context.set_custom_status(
                {
                    "stage": "pausing",
                    "round": round_number + 1,
                    "next_check_at": next_check_at(context, wait_seconds),
                }
            )
            yield from sleep(context, wait_seconds)
    return {"outcome": "incomplete", "code": "blobs_missing"}


def compare(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[None]:
    """Compare the lines with the invoice total. A failure does not affect the landing."""
    context.set_custom_status({"stage": "comparing"})
    try:
        yield context.call_activity_with_retry(tie_out, RETRY, {"run_id": run["run_id"]})
    except Exception:  # a fault of the platform: the row and the report are not written
        context.set_custom_status({"stage": "ending"})


def plan_when_available(
    context: df.DurableOrchestrationContext, request: PlanRequest
) -> Steps[PlanResult]:
    """Plan the copy, and repeat it while Microsoft does not return the manifest.

    These attempts do not count as rounds: rounds are for blobs that could not be landed.
    """
    plan: PlanResult = yield context.call_activity_with_retry(plan_copy, RETRY, request)
    for attempt in range(1, MAX_PLAN_WAITS + 1):
        if plan["status"] != "waiting":
            break
        context.set_custom_status(
            {
                "stage": "planning",
                "round": request["plan"],
                "next_check_at": next_check_at(context, plan["wait_seconds"]),
            }
        )
        yield from sleep(context, plan["wait_seconds"])
        plan = yield context.call_activity_with_retry(
            plan_copy, RETRY, {**request, "attempt": attempt}
        )
    return plan


def copy_pages(
    context: df.DurableOrchestrationContext, run: RunRequest, plan: PlannedResult
) -> Steps[int]:
    """Copy all pages of a plan. Return the longest `Retry-After` of storage, in seconds, or 0."""
    retry_after_seconds = 0
    for window in windows(plan["pages"], run["limits"]["max_concurrent_pages"]):
        context.set_custom_status(
            {
                "stage": "copying",
                "pages_total": plan["pages"],
                "pages_done": window.start,
                "blobs_missing": plan["blobs"],
            }
        )
        pages = yield context.task_all(
            [
                context.call_sub_orchestrator(
                    "page_copy",
                    {"run_id": run["run_id"], "plan": plan["plan"], "page": page},
                    expected_type=dict,
                )
                for page in window
            ]
        )
        retry_after_seconds = max(
            retry_after_seconds, *(page["retry_after_seconds"] for page in pages)
        )
    return retry_after_seconds
