"""Once a day: old versions, old rows, plans of ended runs and old orchestration history, in bounded steps."""

import azure.durable_functions as df

from activities.prune_plans import prune_plans
from activities.prune_versions import prune_versions
from activities.purge_history import purge_history
from orchestrations.policies import RETRY, Steps
from shared.messages import RetentionRequest, RetentionResult

bp = df.Blueprint()

STEPS_PER_HISTORY = 50


@bp.orchestration_trigger(context_name="context", input_type=dict)
def retention(context: df.DurableOrchestrationContext) -> Steps[dict[str, int] | None]:
    """What one part cannot do is not in the way of the others; all of it is found again tomorrow."""
    request: RetentionRequest = context.get_input()
    done: dict[str, int] = dict(request.get("done") or {})
    cursor: list[str] = list(request.get("cursor") or [])
    steps = 0
    for name in ("versions", "plans", "history"):
        if f"{name}_ended" in done:
            continue
        step = (
            prune_versions
            if name == "versions"
            else prune_plans
            if name == "plans"
            else purge_history
        )
        context.set_custom_status({"stage": name, **done})
        while True:
            if steps == STEPS_PER_HISTORY:
                context.continue_as_new({"day": request["day"], "done": done, "cursor": cursor})
                return None
            steps += 1
            given = {"cursor": cursor} if name == "versions" else {"day": request["day"]}
            try:
                result: RetentionResult = yield context.call_activity_with_retry(step, RETRY, given)
            except Exception:  # storage refuses, or is away: the other parts have their turn
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
