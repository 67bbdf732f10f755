"""GET /api/preflight: the doctor's report, each right and dependency by itself, with the fix."""

import azure.durable_functions as df
import azure.functions as func

from shared.services import services
from triggers.problem import answer, problem_details
from triggers.queries import no_query

bp = df.Blueprint()


@bp.route(route="preflight", methods=["GET"])
@problem_details
async def preflight(req: func.HttpRequest) -> func.HttpResponse:
    """200 whatever was found: the question was answered, and `status` is the answer. What watches for 503 asks /health."""
    no_query(req)
    return answer(200, await services().preflight.run(), **{"Cache-Control": "no-store"})
