"""GET /api/health: whether the app can do its work. Anonymous, so it says nothing else."""

import azure.durable_functions as df
import azure.functions as func

from shared.services import services
from triggers.problem import answered

bp = df.Blueprint()

CACHED = 60.0  # seconds, so that anybody may ask as often as they like
_last: dict[str, float | bool] = {}


@bp.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@answered
async def health(req: func.HttpRequest) -> func.HttpResponse:
    clock = services().clock
    if not _last or clock.monotonic() - _last["at"] >= CACHED:
        _last.update(at=clock.monotonic(), well=await is_well())
    return func.HttpResponse(status_code=200 if _last["well"] else 503, headers={"Cache-Control": "no-store"})


async def is_well() -> bool:
    """The tables answer: without them no run can begin or end."""
    try:
        await services().ledger.locks.get("health")
    except Exception:  # whatever it is, the answer is 503 and the log of the next run says why
        return False
    return True
