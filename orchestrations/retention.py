"""Removes what is old, and compares the invoices with their listed totals, once a day.

Removed are old versions, old rows, plans of ended runs and old history. The work is divided into
small activities, and the orchestrator continues as new after some of them.
"""

import azure.durable_functions as df

from activities.compare_invoices import compare_invoices
from activities.prune_plans import prune_plans
from activities.prune_versions import prune_versions
from activities.purge_history import purge_history
from orchestrations.policies import RETRY, Steps
from shared.messages import RetentionRequest, RetentionResult

bp = df.Blueprint()

MAX_STEPS_PER_HISTORY = 50

PARTS = {
    "versions": prune_versions,
    "plans": prune_plans,
    "history": purge_history,
    "tie_outs": compare_invoices,
}


@bp.orchestration_trigger(context_name="context", input_type=dict)
def retention(context: df.DurableOrchestrationContext) -> Steps[dict[str, int] | None]:
    """Run each part to completion.

    A part that fails does not stop the others; it runs again tomorrow.
    """
    request: RetentionRequest = context.get_input()
    done: dict[str, int] = dict(request.get("done") or {})
    cursor: list[str] = list(request.get("cursor") or [])
    steps = 0
    for name, activity in PARTS.items():
        if f"{name}_ended" in done:
            continue
        context.set_custom_status({"stage": name, **done})
        while True:
            if steps == MAX_STEPS_PER_HISTORY:
                context.continue_as_new({"day": request["day"], "done": done, "cursor": cursor})
                return None
            steps += 1
            step = {"cursor": cursor} if name == "versions" else {"day": request["day"]}
            try:
                result: RetentionResult = yield context.call_activity_with_retry(
                    activity, RETRY, step
                )
            except Exception:  # for example, storage is not available
                done[f"{name}_failed"] = 1
                break
            done[name] = done.get(name, 0) + result["removed"]
            cursor = result["cursor"]
            if not result["more"]:
                break
        done[f"{name}_ended"] = 1
        cursor = []
    context.set_custom_status({"stage": "ended", **done})
    return done
