"""GET /api/catalogue: what is landed, the newest version of every key."""

from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.exports import Dataset
from shared.ledger.tables import BadContinuation
from shared.services import services
from triggers.problem import answer, invalid, problem_details
from triggers.queries import BAD_CONTINUATION, Query, catalogue_query
from triggers.views import catalogue_view

bp = df.Blueprint()


@bp.route(route="catalogue", methods=["GET"])
@problem_details
async def get_catalogue(req: func.HttpRequest) -> func.HttpResponse:
    query = catalogue_query(req)
    try:
        entries, continuation = await page(query)
    except BadContinuation:
        raise invalid(BAD_CONTINUATION) from None
    return answer(200, {"entries": entries, "continuation": continuation})


async def page(query: Query) -> tuple[list[dict[str, Any]], str | None]:
    """Of one dataset in one request; without one, dataset after dataset until the page is full."""
    catalogue = services().ledger.catalogue
    datasets = [query.dataset] if query.dataset else list(Dataset)
    at, after = query.after
    if at:
        if at not in datasets:
            raise BadContinuation
        datasets = datasets[datasets.index(Dataset(at)) :]
    entries: list[dict[str, Any]] = []
    for dataset in datasets:
        if len(entries) == query.limit:
            return entries, query.continuation(None, dataset)
        found, following = await catalogue.page(
            dataset, billing_month=query.month, limit=query.limit - len(entries), continuation=after
        )
        entries += [catalogue_view(entry, services().clock.now()) for entry in found]
        if following:
            return entries, query.continuation(following, dataset)
        after = None
    return entries, None
