"""Lands one export key: claim, ask, plan, copy, prove, record. The order of things and nothing else.

Every activity reads the ledger first, so a round repeats only what is missing: a blob that failed, a SAS that died,
an operation that Microsoft forgot and data that changed meanwhile all go once more round the same loop.
"""

import azure.durable_functions as df

from activities.claim_run import claim_run
from activities.commit_version import commit_version
from activities.plan_copy import plan_copy
from activities.record_outcome import record_outcome
from activities.tie_out import tie_out
from orchestrations.policies import (
    PLAN_WAITS,
    RETRY,
    RunFailed,
    Steps,
    ended_by,
    has_invoice_total,
    pause_before,
    sleep,
    wait_for,
    windows,
)
from shared.messages import (
    FAILED_OUTCOMES,
    ClaimResult,
    CommitResult,
    OperationResult,
    PlannedResult,
    PlanResult,
    RunRequest,
    RunResult,
    VersionRequest,
)

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def export_run(context: df.DurableOrchestrationContext) -> Steps[RunResult]:
    run: RunRequest = context.get_input()
    context.set_custom_status({"stage": "starting"})
    claim: ClaimResult = yield context.call_activity_with_retry(
        claim_run, RETRY, {**run, "instance_id": context.instance_id}
    )
    end: RunResult = (
        (yield from land_and_record(context, run))
        if claim["status"] == "claimed"
        else ended_by(claim)
    )
    context.set_custom_status({"stage": "ended", **end})
    if end["outcome"] in FAILED_OUTCOMES:
        raise RunFailed(
            end
        )  # recorded first, raised second: the portal shows Failed, with code and remedy
    return end


def land_and_record(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[RunResult]:
    try:
        end: RunResult = yield from land(context, run)
    except (
        Exception
    ):  # an activity failed RETRY times: the platform's fault, never an answer about the data
        end = {"outcome": "failed", "code": "platform_fault"}
    recorded: RunResult = yield context.call_activity_with_retry(
        record_outcome, RETRY, {"run_id": run["run_id"], **end}
    )
    return recorded


def land(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[RunResult]:
    asked_to_wait = 0
    for round_number in range(run["limits"]["max_rounds"]):
        if round_number:
            context.set_custom_status({"stage": "pausing", "round": round_number + 1})
            yield from sleep(context, pause_before(round_number, asked_to_wait, run["limits"]))
        operation: OperationResult = yield context.call_sub_orchestrator(
            "export_operation", run, expected_type=dict
        )
        if operation["status"] != "succeeded":
            return ended_by(operation)
        copy: VersionRequest = {
            "run_id": run["run_id"],
            "operation_id": operation["operation_id"],
            "plan": round_number + 1,
        }
        context.set_custom_status({"stage": "planning", "round": round_number + 1})
        plan = yield from plan_when_served(context, run, copy)
        if plan["status"] == "gone" or plan["status"] == "waiting":
            asked_to_wait = (plan["retry_after_seconds"] or 0) if plan["status"] == "waiting" else 0
            continue
        if plan["status"] != "planned":
            return ended_by(plan)
        asked_to_wait = yield from copy_pages(context, run, plan)
        context.set_custom_status({"stage": "proving", "version": plan["version"]})
        proof: CommitResult = yield context.call_activity_with_retry(commit_version, RETRY, copy)
        if proof["status"] != "missing":
            if proof["status"] == "landed" and has_invoice_total(run["key"]):
                yield from compare(context, run)
            return ended_by(proof)
    return {"outcome": "incomplete", "code": "blobs_missing"}


def compare(context: df.DurableOrchestrationContext, run: RunRequest) -> Steps[None]:
    """The sum against the invoice's total: whatever comes of it, the landing stands."""
    context.set_custom_status({"stage": "comparing"})
    try:
        yield context.call_activity_with_retry(tie_out, RETRY, {"run_id": run["run_id"]})
    except Exception:  # the platform's fault, RETRY times over: row and report are simply not there
        context.set_custom_status({"stage": "ending"})


def plan_when_served(
    context: df.DurableOrchestrationContext, run: RunRequest, copy: VersionRequest
) -> Steps[PlanResult]:
    """A plan that Microsoft puts off is asked for again, and takes no round: rounds are for blobs that could not be landed."""
    plan: PlanResult = yield context.call_activity_with_retry(plan_copy, RETRY, copy)
    for attempt in range(1, PLAN_WAITS + 1):
        if plan["status"] != "waiting":
            break
        yield from sleep(context, wait_for(plan["retry_after_seconds"], attempt, run["limits"]))
        plan = yield context.call_activity_with_retry(plan_copy, RETRY, copy)
    return plan


def copy_pages(
    context: df.DurableOrchestrationContext, run: RunRequest, plan: PlannedResult
) -> Steps[int]:
    """Seconds that storage asked us to wait before more, 0 if it did not."""
    asked_to_wait = 0
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
        asked_to_wait = max(asked_to_wait, *(page["retry_after_seconds"] for page in pages))
    return asked_to_wait
