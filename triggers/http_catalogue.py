"""GET /api/catalogue."""

import azure.functions as func

from shared.exports import Dataset
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.tables import InvalidContinuationError
from shared.services import services
from triggers import models
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.responses import json_response
from triggers.validation import parse_query

bp = ApiBlueprint()


@bp.serve(
    Endpoint(
        "GET",
        "catalogue",
        "List the newest version of each export key.",
        lambda: {200: models.catalogue.CatalogueResponse},
        query=lambda: models.catalogue.CatalogueQuery,
    )
)
async def get_catalogue(req: func.HttpRequest) -> func.HttpResponse:
    """List the newest version of each export key.

    A page of one dataset is one request to the tables, or two if it contains invoices to compare.
    Without a dataset, the page is filled from one dataset after the other.
    """
    app = services()
    now = app.clock.now()
    query = parse_query(req, models.catalogue.CatalogueQuery, now)
    scope = f"catalogue {query.billing_month or ''} {query.dataset or ''}"
    position = query.position(scope)
    datasets = [Dataset(query.dataset)] if query.dataset else list(Dataset)
    if position.dataset:
        if position.dataset not in datasets:
            raise InvalidContinuationError
        datasets = datasets[datasets.index(position.dataset) :]
    continuation = position.continuation
    entries: list[CatalogueEntry] = []
    token = None
    for dataset in datasets:
        if len(entries) == query.limit:
            token = models.lists.encode_token(scope, None, dataset)
            break
        rows, following = await app.ledger.catalogue.get_page(
            dataset,
            billing_month=query.billing_month or "",
            limit=query.limit - len(entries),
            continuation=continuation,
        )
        entries += rows
        if following:
            token = models.lists.encode_token(scope, following, dataset)
            break
        continuation = None
    invoices = await app.ledger.list_invoices_of(entries)
    response = models.catalogue.CatalogueEntryResponse
    return json_response(
        200,
        models.catalogue.CatalogueResponse(
            entries=[response.from_row(entry, now, invoices) for entry in entries],
            continuation=token,
        ),
    )
