"""Lands one export key: claim, request and plan, copy, prove, record.

Every activity reads the ledger first, so a round repeats only what is missing. The same loop
handles a blob that failed, an expired SAS, a lost operation, and data that changed during the copy.
"""

import azure.durable_functions as df

from activities.claim_run import claim_run
from activities.commit_version import commit_version
from activities.record_outcome import record_outcome
from activities.tie_out import tie_out
from orchestrations.policies import (
    RETRY,
    RunFailedError,
    Steps,
    has_invoice_total,
    run_result,
    wait,
    windows,
)
from shared.messages import (
    FAILED_OUTCOMES,
    ClaimResult,
    CommitRequest,
    CommitResult,
    CommittedResult,
    OperationRequest,
    OperationResult,
    PlannedResult,
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
        is_last_round = round_number == run["limits"]["max_rounds"]
        context.set_custom_status({"stage": "requesting", "round": round_number})
        request: OperationRequest = {
            **run,
            "plan": round_number,
            "step": "start",
            "operation_id": None,
            "attempt": 0,
        }
        plan: OperationResult = yield context.call_sub_orchestrator_with_retry(
            "export_operation", RETRY, request, expected_type=dict
        )
        if plan["status"] != "planned":
            return run_result(plan)
        retry_after_seconds = yield from copy_pages(context, run, plan)
        commit: CommitRequest = {
            "run_id": run["run_id"],
            "plan": round_number,
            "is_last_round": is_last_round,
            "retry_after_seconds": retry_after_seconds,
            "attempt": 0,
        }
        proof = yield from commit_when_available(context, commit, plan["version"])
        if proof["status"] == "landed" and has_invoice_total(run["key"]):
            yield from compare(context, run)
        if proof["status"] != "missing":
            return run_result(proof)
        if not is_last_round:
            status = {"stage": "pausing", "round": round_number + 1}
            yield from wait(context, status, proof["wait_seconds"])
    return {"outcome": "incomplete", "code": "blobs_missing"}


def commit_when_available(
    context: df.DurableOrchestrationContext, request: CommitRequest, version: str
) -> Steps[CommittedResult]:
    """Commit the version, and repeat it while the landing account is not available."""
    status = {"stage": "proving", "version": version}
    context.set_custom_status(status)
    while True:
        result: CommitResult = yield context.call_activity_with_retry(
            commit_version, RETRY, request
        )
        if result["status"] != "waiting":
            return result
        request = {**request, "attempt": request["attempt"] + 1}
        yield from wait(context, status, result["wait_seconds"])


def compare(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[None]:
    """Compare the lines with the invoice total. A failure does not affect the landing."""
    context.set_custom_status({"stage": "comparing"})
    try:
        yield context.call_activity_with_retry(tie_out, RETRY, {"run_id": run["run_id"]})
    except Exception:  # a fault of the platform: the row and the report are not written
        context.set_custom_status({"stage": "ending"})


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
        try:
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
        except Exception:  # the worker process ended: the next round plans what is missing
            break
        retry_after_seconds = max(
            retry_after_seconds, *(page["retry_after_seconds"] for page in pages)
        )
    return retry_after_seconds
