"""Reads one page of a plan: names in batches, one per activity. Idempotent: it only reads."""

import json

import azure.durable_functions as df

from shared.errors import InfrastructureError
from shared.landing.layout import page_path
from shared.ledger.runs import Run
from shared.messages import PageContentResult, PageRequest
from shared.redaction import sanitize_exceptions
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="page")
@sanitize_exceptions
async def read_page(page: PageRequest) -> PageContentResult:
    app = services()
    run = await app.ledger.holding(page["run_id"])
    if not isinstance(run, Run):
        return {"version": "", "batches": []}  # the next activity ends the run
    stored = await app.landing.read(page_path(page["run_id"], page["plan"], page["page"]))
    if stored is None:
        raise InfrastructureError("plan_missing", "Plan")
    content: PageContentResult = json.loads(stored[0])
    return content
