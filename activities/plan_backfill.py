"""Turns months and datasets into the runs of a backfill: what is not landed yet and still served.

Idempotent: run ids follow from the keys and the backfill's id, so what is planned twice is one run.
"""

import azure.durable_functions as df

from activities.plan_exports import list_invoices, suffix_of
from shared.exports import BillingMonth, Dataset
from shared.invoices import InvoiceList, left_out_text
from shared.ledger.keys import run_id, started_at
from shared.messages import BackfillRequest, CyclePlanResult, PlannedRun
from shared.planning.due import lane_limits, lanes
from shared.planning.gaps import KeyState, Scopes, missing, months_between
from shared.redaction import sanitize_exceptions
from shared.services import Services, services

bp = df.Blueprint()


@bp.activity_trigger(input_name="backfill")
@sanitize_exceptions
async def plan_backfill(backfill: BackfillRequest) -> CyclePlanResult:
    app, backfill_id = services(), backfill["backfill_id"]
    listed = await list_invoices(app, last_try=backfill.get("last_try", False))
    if not isinstance(listed, InvoiceList):
        return listed
    datasets = [Dataset(dataset) for dataset in backfill["datasets"]]
    months = months_between(
        BillingMonth.parse(backfill["first_month"]), BillingMonth.parse(backfill["last_month"])
    )
    keys, settled = missing(
        months,
        datasets,
        await scopes_of(app, listed),
        await known_states(app, datasets),
        BillingMonth.of(app.clock.now()),
    )
    began = started_at(backfill_id)
    assert began is not None  # the starter made the id
    runs: list[PlannedRun] = [
        {"run_id": run_id(key, began, suffix_of(backfill_id)), "key": str(key)} for key in keys
    ]
    await app.ledger.backfills.planned(
        backfill_id, [run["run_id"] for run in runs], settled, left_out_text(listed.left_out)
    )
    return {
        "status": "planned",
        "lanes": lanes(runs, app.settings.export_parallelism),
        "limits": lane_limits(app.settings),
        "requested_by": f"backfill:{backfill_id}",
    }


async def scopes_of(app: Services, listed: InvoiceList) -> Scopes:
    """Invoices and currencies; without a setting, every currency that an invoice of new commerce was ever in."""
    learned = [
        invoice.currency for invoice in listed.invoices if invoice.currency and not invoice.legacy
    ]
    return Scopes(
        listed.invoices,
        app.settings.export_currencies or tuple(dict.fromkeys(learned)),
        app.settings.export_attribute_sets,
    )


async def known_states(app: Services, datasets: list[Dataset]) -> dict[str, KeyState]:
    """What the catalogue says of every key of these datasets."""
    return {
        entry.key: KeyState(entry.version, entry.last_outcome, entry.last_code)
        for dataset in datasets
        async for entry in app.ledger.catalogue.of_dataset(dataset)
    }
