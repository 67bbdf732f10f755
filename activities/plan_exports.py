"""Turns settings and invoices into the runs of a cycle, dealt into lanes.

Idempotent: run ids follow from the keys and the cycle's tick, so what is planned twice is one run; the last plan that is
written is the one that the orchestration goes by.
"""

from datetime import date, datetime

import azure.durable_functions as df

from shared.clock import parse_iso
from shared.errors import RequestRefusedError, TransientError
from shared.exports import BillingMonth, Dataset
from shared.invoices import Invoice, InvoiceList, LeftOut, left_out_text
from shared.ledger.cycles import Cycle
from shared.ledger.keys import STAMP, run_id, started_at
from shared.messages import CyclePlanResult, CycleRequest, PlannedRun, WaitingResult
from shared.planning.due import Due, KnownKey, lane_limits, lanes, select_due, start_offset_seconds
from shared.redaction import sanitize_exceptions
from shared.services import Services, services
from shared.telemetry import emit_event

bp = df.Blueprint()

LONGEST_WAIT = (
    3600  # seconds; asked to wait longer, a cycle goes on with the invoices that are known
)


@bp.activity_trigger(input_name="cycle")
@sanitize_exceptions
async def plan_exports(cycle: CycleRequest) -> CyclePlanResult:
    app = services()
    tick = parse_iso(cycle["tick"])
    await app.ledger.cycles.insert(
        Cycle(cycle["cycle_id"], "starting", cycle["tick"], started_at=cycle["tick"])
    )
    known = await app.ledger.cycles.get(cycle["cycle_id"])
    requested_by = (known.requested_by if known else "") or "timer"
    listed = await list_invoices(app, last_try=cycle.get("last_try", False))
    if not isinstance(listed, InvoiceList):
        emit_event(
            "cycle_delayed",
            f"{cycle['cycle_id']}/delayed/1",
            cycle_id=cycle["cycle_id"],
            seconds=listed["retry_after_seconds"],
        )
        return listed
    due = await due_now(app, tick, listed)
    suffix, spread = suffix_of(cycle["cycle_id"]), requested_by == "timer"
    runs: list[PlannedRun] = [
        {
            "run_id": run_id(key, tick, suffix),
            "key": str(key),
            "start_after_seconds": start_offset_seconds(key) if spread else 0,
        }
        for key in due.keys
    ]
    await app.ledger.cycles.planned(
        cycle["cycle_id"], [run["run_id"] for run in runs], left_out_text(due.left_out)
    )
    billed = await is_billed(app, BillingMonth.of(tick).previous())
    for dataset in app.settings.export_datasets:
        emit_event(
            "dataset_planned",
            f"{cycle['cycle_id']}/planned-{dataset.value}/1",
            cycle_id=cycle["cycle_id"],
            dataset=dataset.value,
            due=sum(key.dataset is dataset for key in due.keys),
            resting=sum(one.key.dataset is dataset for one in due.resting),
            last_month_billed=billed,
        )
    return {
        "status": "planned",
        "lanes": lanes(runs, app.settings.export_parallelism),
        "limits": lane_limits(app.settings),
        "requested_by": requested_by,
    }


async def list_invoices(app: Services, *, last_try: bool) -> InvoiceList | WaitingResult:
    """The invoices, from where INVOICE_SOURCE says; where they cannot be had, those known from before, and why by its code."""
    match app.settings.invoice_source:
        case "none":
            return InvoiceList()
        case "list":
            return InvoiceList(
                tuple(Invoice(invoice_id) for invoice_id in app.settings.invoice_ids)
            )
        case "partner_center":
            try:
                listed = await app.partner_center.list_invoices()
            except TransientError as error:
                if not last_try and (error.retry_after_seconds or 0) <= LONGEST_WAIT:
                    return {"status": "waiting", "retry_after_seconds": error.retry_after_seconds}
                code = error.code
            except RequestRefusedError as error:
                code = error.code
            else:
                await app.ledger.invoices.keep(listed.invoices)
                return listed
    return InvoiceList(
        tuple(await app.ledger.invoices.all()), (LeftOut(code=code),), complete=False
    )


async def is_billed(app: Services, month: BillingMonth) -> bool:
    """Whether billed usage of `month` is landed: until then Microsoft may stop unbilled data in the first days of the next."""
    billed, _ = await app.ledger.catalogue.page(
        Dataset.BILLED_USAGE, billing_month=str(month), limit=1
    )
    return any(entry.version for entry in billed)


async def due_now(app: Services, tick: datetime, listed: InvoiceList) -> Due:
    """What is due at `tick`, from the list and what the catalogue knows of billed keys."""
    known: dict[str, KnownKey] = {}
    for dataset in app.settings.export_datasets:
        if dataset.billed:
            async for entry in app.ledger.catalogue.of_dataset(dataset):
                known[entry.key] = KnownKey(
                    settles_on=date.fromisoformat(entry.settles_on) if entry.settles_on else None,
                    started=started_at(entry.last_run_id) if entry.last_run_id else None,
                    outcome=entry.last_outcome,
                )
    return select_due(app.settings, tick, listed, known)


def suffix_of(cycle_id: str) -> str:
    """The four random characters of a cycle asked for by hand, "" of a scheduled one; its runs carry the same."""
    found = STAMP.search(cycle_id)
    return (found[2] or "").removeprefix("-") if found else ""
