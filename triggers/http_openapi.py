"""GET /api/openapi.json, and the modules of all endpoints, which the document describes."""

from functools import cache
from typing import Any

import azure.functions as func

from shared.services import services
from triggers import (
    http_backfills,
    http_catalogue,
    http_cycles,
    http_preflight,
    http_runs,
    http_service,
)
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.responses import cacheable_response
from triggers.validation import check_no_query

bp = ApiBlueprint()

BLUEPRINTS: tuple[ApiBlueprint, ...] = (
    http_runs.bp,
    http_cycles.bp,
    http_backfills.bp,
    http_catalogue.bp,
    http_service.bp,
    http_preflight.bp,
    bp,
)


@bp.serve(
    Endpoint(
        "GET",
        "openapi.json",
        "Get this document.",
        lambda: {200: None},
        problems=(400,),
        is_cacheable=True,
    )
)
async def get_openapi(req: func.HttpRequest) -> func.HttpResponse:
    """Return the OpenAPI 3.1 document of this API."""
    check_no_query(req, services().clock.now())
    return cacheable_response(req, get_document())


def list_endpoints() -> dict[str, Endpoint]:
    """Return every endpoint of the API by operation ID."""
    return {name: value for api in BLUEPRINTS for name, value in api.endpoints.items()}


@cache
def get_document() -> dict[str, Any]:
    """Return the OpenAPI document as a JSON value."""
    # Only this endpoint needs the module, and its import would slow down every cold start.
    from triggers.openapi import build_document

    return build_document(list_endpoints())
