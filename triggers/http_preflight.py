"""GET /api/preflight."""

import azure.functions as func

from shared.services import services
from triggers import models
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.responses import json_response
from triggers.validation import check_no_query

bp = ApiBlueprint()


@bp.serve(
    Endpoint(
        "GET",
        "preflight",
        "Check each permission and dependency.",
        lambda: {200: models.preflight.PreflightResponse},
    )
)
async def preflight(req: func.HttpRequest) -> func.HttpResponse:
    """Check each permission and dependency. The status is 200 even if checks fail."""
    app = services()
    check_no_query(req, app.clock.now())
    report = models.preflight.PreflightResponse.model_validate(await app.preflight.run())
    return json_response(200, report, **{"Cache-Control": "no-store"})
