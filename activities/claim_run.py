"""Makes the key this run's, or says whose it is.

Idempotent: a repeated claim finds the lock and the row its own. Re-validates the whole input, because anyone who has
the host's key can start an orchestration with anything in it.
"""

from datetime import datetime
from typing import Any

import azure.durable_functions as df

from shared.exports import ExportKey, InvalidValueError
from shared.ledger.claims import claim, create_run
from shared.ledger.keys import is_run_id_of, started_at
from shared.ledger.reuse import reuse_recent_run
from shared.messages import ClaimRequest, ClaimResult
from shared.redaction import is_secret_free, sanitize_exceptions
from shared.services import services
from shared.telemetry import emit_event

bp = df.Blueprint()


@bp.activity_trigger(input_name="request")
@sanitize_exceptions
async def claim_run(request: ClaimRequest) -> ClaimResult:
    if not is_valid(request):
        return {"status": "refused", "code": "input_invalid"}
    if request["instance_id"] != request["run_id"]:
        return {"status": "refused", "code": "instance_id_mismatch"}
    app = services()
    wanted, tick = create_run(request, app.clock.now()), started_at(request.get("cycle_id", ""))
    if tick is not None and (shared := await reuse_recent_run(app.ledger, wanted, tick)):
        return shared
    claimed = await claim(app.ledger, wanted)
    if claimed["status"] == "claimed":
        emit_event(
            "run_started",
            f"{wanted.run_id}/started/1",
            run_id=wanted.run_id,
            key=wanted.key,
            force=wanted.force,
            deadline=wanted.deadline,
            requested_by=wanted.requested_by,
            cycle_id=wanted.cycle_id,
            retry_of=wanted.retry_of,
        )
    return claimed


def is_valid(request: Any) -> bool:
    """Whether this is an input that a trigger or a lane of this app makes."""
    try:
        key, limits = ExportKey.parse(request["key"]), request["limits"]
        deadline = datetime.fromisoformat(limits["deadline"])
        texts = [
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
        and all(isinstance(text, str) and len(text) <= 500 for text in texts)
        and is_secret_free(texts)
        and all(
            isinstance(number, int) and not isinstance(number, bool) for number in numbers.values()
        )
        and 1 <= numbers["max_rounds"] <= 10
        and 1 <= numbers["max_concurrent_pages"] <= 16
    )
