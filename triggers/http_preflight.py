"""GET /api/preflight."""

import azure.durable_functions as df
import azure.functions as func

from shared.services import services
from triggers import models
from triggers.problem import problem_details
from triggers.responses import json_response
from triggers.validation import check_no_query

bp = df.Blueprint()


@bp.route(route="preflight", methods=["GET"])
@problem_details
async def preflight(req: func.HttpRequest) -> func.HttpResponse:
    """Check each permission and dependency. The status is 200 even if checks fail."""
    app = services()
    check_no_query(req, app.clock.now())
    report = models.preflight.PreflightResponse.model_validate(await app.preflight.run())
    return json_response(200, report, **{"Cache-Control": "no-store"})
