"""The routes /api/status, /api/openapi.json and /api/health."""

import asyncio
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import azure.durable_functions as df
import azure.functions as func

from ncrontab import next_tick
from shared.clock import iso
from shared.exports import BillingMonth, Dataset
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.cycles import Cycle
from shared.services import Services, services
from shared.telemetry import APP_VERSION
from triggers import models
from triggers.problem import problem_details
from triggers.responses import cacheable_response, json_response
from triggers.validation import check_no_query

bp = df.Blueprint()

SDKS = (
    "azure-functions",
    "azure-functions-durable",
    "azure-data-tables",
    "azure-storage-blob",
    "azure-identity",
    "msgraph-sdk",
)


@bp.route(route="status", methods=["GET"])
@problem_details
async def get_status(req: func.HttpRequest) -> func.HttpResponse:
    """Return the schedule, the live runs, what landed last and the installed versions."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    cycle, live_runs, last_landed = await asyncio.gather(
        _get_last_cycle(app), _list_live_runs(app), _get_last_landed(app)
    )
    tick = next_tick(app.settings.export_schedule, now)
    return json_response(
        200,
        models.status.StatusResponse(
            now=iso(now),
            schedule=app.settings.export_schedule,
            next_tick_at=iso(tick) if tick else None,
            last_cycle=models.cycles.CycleSummaryResponse.from_row(cycle) if cycle else None,
            live_runs=live_runs,
            last_landed=last_landed,
            task_hub=app.settings.task_hub_name,
            versions=_get_versions(),
        ),
    )


async def _get_last_cycle(app: Services) -> Cycle | None:
    current = BillingMonth.of(app.clock.now())
    for month in (current, current.previous()):
        if cycle := await app.ledger.cycles.newest(str(month).replace("-", "")):
            return cycle
    return None


async def _list_live_runs(app: Services) -> "list[models.status.LiveRun]":
    """List the runs that hold an export key, the oldest first.

    The list includes the runs of other task hubs that use the same landing account.
    """
    locks = [lock async for lock in app.ledger.locks.list_held()]
    rows = await asyncio.gather(*(app.ledger.runs.get(lock.run_id) for lock in locks))
    runs = [
        models.status.LiveRun.from_row(lock, row) for lock, row in zip(locks, rows, strict=True)
    ]
    return sorted(runs, key=lambda run: (run.started_at or "~", run.run_id))


async def _get_last_landed(app: Services) -> "models.status.LastLanded":
    async def get_newest(dataset: Dataset) -> CatalogueEntry | None:
        entries = [
            entry
            async for entry in app.ledger.catalogue.list_by_dataset(dataset)
            if entry.landed_at
        ]
        return max(entries, key=lambda entry: entry.landed_at, default=None)

    newest = await asyncio.gather(*(get_newest(dataset) for dataset in Dataset))
    invoices = await app.ledger.list_invoices_of(entry for entry in newest if entry)
    return models.status.LastLanded(
        **{
            dataset.value: models.catalogue.CatalogueEntryResponse.from_row(
                entry, app.clock.now(), invoices
            )
            if entry
            else None
            for dataset, entry in zip(Dataset, newest, strict=True)
        }
    )


@cache
def _get_versions() -> dict[str, str | None]:
    """Return the versions of the app, of Python and of the installed SDKs."""
    versions: dict[str, str | None] = {"app": APP_VERSION, "python": platform.python_version()}
    for name in SDKS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


@bp.route(route="openapi.json", methods=["GET"])
@problem_details
async def get_openapi(req: func.HttpRequest) -> func.HttpResponse:
    """Return the OpenAPI 3.1 document of this API."""
    # Only this route needs the module, and its import would slow down every cold start.
    from triggers.openapi import get_document

    check_no_query(req, services().clock.now())
    return cacheable_response(req, get_document())


@bp.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@problem_details
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """Return 200 if the tables are available, otherwise 503. The result is cached."""
    is_healthy = await services().health.is_healthy()
    return func.HttpResponse(
        status_code=200 if is_healthy else 503, headers={"Cache-Control": "no-store"}
    )
