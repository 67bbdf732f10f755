"""Claims the export key for a run, unless another run holds it.

Idempotent: a repeated claim finds that the run already holds the lock and has a row. If another
instance of the run holds it, in another task hub or as another attempt, the claim writes nothing
unless that instance belongs to this task hub and is no longer live. The activity
validates the whole input again, because a caller with the host key can start an orchestration with
any input.
"""

from datetime import datetime
from typing import Any

import azure.durable_functions as df

from shared.exports import ExportKey, InvalidValueError
from shared.instances import get_instance_state
from shared.ledger.claims import claim, create_run
from shared.ledger.keys import is_attempt_of, is_run_id_of, started_at
from shared.ledger.reuse import reuse_recent_run
from shared.messages import ClaimRequest, ClaimResult
from shared.redaction import is_secret_free, sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@bp.durable_client_input(client_name="client")
@sanitize_exceptions
async def claim_run(request: ClaimRequest, client: df.DurableOrchestrationClient) -> ClaimResult:
    if not is_valid(request):
        return {"status": "refused", "code": "input_invalid"}
    if not is_attempt_of(request["instance_id"], request["run_id"]):
        return {"status": "refused", "code": "instance_id_mismatch"}
    app = services()
    run = create_run(request, app.clock.now(), request["instance_id"])
    tick = started_at(request.get("cycle_id", ""))
    if tick is not None and (superseded := await reuse_recent_run(app.ledger, run, tick)):
        return superseded

    async def is_live(instance_id: str) -> bool:
        return await get_instance_state(client, instance_id) == "live"

    result = await claim(app.ledger, run, is_live=is_live)
    if result["status"] == "claimed":
        emit_event(
            "run_started",
            f"{run.run_id}/started/1",
            run_id=run.run_id,
            key=run.key,
            force=run.force,
            deadline=run.deadline,
            requested_by=run.requested_by,
            cycle_id=run.cycle_id,
            retry_of=run.retry_of,
        )
    return result


def is_valid(request: Any) -> bool:
    """Return whether a trigger or a lane of this app could have created this input."""
    try:
        key, limits = ExportKey.parse(request["key"]), request["limits"]
        deadline = datetime.fromisoformat(limits["deadline"])
        strings = [
            request.get(name, "") for name in ("requested_by", "reason", "cycle_id", "retry_of")
        ]
        numbers = {name: limits[name] for name in ("max_rounds", "max_concurrent_pages")}
    except (InvalidValueError, KeyError, TypeError, ValueError, AttributeError):
        return False
    return (
        str(key) == request["key"]
        and isinstance(request["force"], bool)
        and isinstance(request["instance_id"], str)
        and isinstance(request["run_id"], str)
        and is_run_id_of(request["run_id"], key)
        and deadline.tzinfo is not None
        and all(isinstance(text, str) and len(text) <= 500 for text in strings)
        and is_secret_free(strings)
        and all(
            isinstance(number, int) and not isinstance(number, bool) for number in numbers.values()
        )
        and 1 <= numbers["max_rounds"] <= 10
        and 1 <= numbers["max_concurrent_pages"] <= 16
    )
