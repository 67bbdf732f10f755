"""Copies one page of a plan: at most 100 blobs, in concurrent activities.

The orchestrator returns counts and never raises an exception because of a blob.
"""

import azure.durable_functions as df

from activities.copy_blobs import copy_blobs
from activities.read_page import read_page
from orchestrations.policies import RETRY, Steps
from shared.messages import CopyRequest, CopyResult, PageContentResult, PageCopyResult, PageRequest

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", input_type=dict)
def page_copy(context: df.DurableOrchestrationContext) -> Steps[PageCopyResult]:
    page: PageRequest = context.get_input()
    context.set_custom_status({"stage": "copying", "page": page["page"]})
    batches: list[CopyRequest] = []
    try:
        content: PageContentResult = yield context.call_activity_with_retry(read_page, RETRY, page)
        batches = [
            {
                "run_id": page["run_id"],
                "plan": page["plan"],
                "version": content["version"],
                "names": names,
            }
            for names in content["batches"]
        ]
        if not batches:
            return {"landed": 0, "failed": 0, "retry_after_seconds": 0}
        # No retries here: a retry inside `task_all` desynchronizes the replay.
        results: list[CopyResult] = yield context.task_all(
            [context.call_activity(copy_blobs, batch, expected_type=dict) for batch in batches]
        )
    except (
        Exception
    ):  # for example, the worker process stopped: the next round plans what is missing
        return {"landed": 0, "failed": max(1, len(batches)), "retry_after_seconds": 0}
    return {
        "landed": sum(result["landed"] for result in results),
        "failed": sum(result["failed"] for result in results),
        "retry_after_seconds": max(result["retry_after_seconds"] for result in results),
    }
