"""GET /api/status and GET /api/health."""

import asyncio
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import azure.functions as func

from ncrontab import next_tick
from shared.clock import iso
from shared.exports import BillingMonth, Dataset
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.cycles import Cycle
from shared.services import Services, services
from shared.telemetry import APP_VERSION
from triggers import models
from triggers.endpoints import ApiBlueprint, Endpoint
from triggers.responses import json_response
from triggers.validation import check_no_query

bp = ApiBlueprint()

SDKS = (
    "azure-functions",
    "azure-functions-durable",
    "azure-data-tables",
    "azure-storage-blob",
    "azure-identity",
    "msgraph-sdk",
)


@bp.serve(
    Endpoint(
        "GET",
        "status",
        "Get the schedule, live runs, the newest and the damaged data, and the installed versions.",
        lambda: {200: models.status.StatusResponse},
    )
)
async def get_status(req: func.HttpRequest) -> func.HttpResponse:
    """Return the schedule, the live runs, what landed last, what is damaged, and the versions."""
    app = services()
    now = app.clock.now()
    check_no_query(req, now)
    cycle, live_runs, entries = await asyncio.gather(
        _get_last_cycle(app), _list_live_runs(app), _list_entries(app)
    )
    last_landed = {dataset: _get_last_landed(entries[dataset]) for dataset in Dataset}
    damaged = [entry for dataset in Dataset for entry in entries[dataset] if entry.damaged_version]
    invoices = await app.ledger.list_invoices_of(
        entry for entry in (*last_landed.values(), *damaged) if entry
    )

    def describe(entry: CatalogueEntry) -> models.catalogue.CatalogueEntryResponse:
        return models.catalogue.CatalogueEntryResponse.from_row(entry, now, invoices)

    tick = next_tick(app.settings.export_schedule, now)
    return json_response(
        200,
        models.status.StatusResponse(
            now=iso(now),
            schedule=app.settings.export_schedule,
            next_tick_at=iso(tick) if tick else None,
            last_cycle=models.cycles.CycleSummaryResponse.from_row(cycle) if cycle else None,
            live_runs=live_runs,
            last_landed=models.status.LastLanded(
                **{
                    dataset.value: describe(entry) if entry else None
                    for dataset, entry in last_landed.items()
                }
            ),
            damaged=[describe(entry) for entry in damaged],
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


async def _list_entries(app: Services) -> dict[Dataset, list[CatalogueEntry]]:
    """Return the catalogue entries of each dataset."""

    async def list_by_dataset(dataset: Dataset) -> list[CatalogueEntry]:
        return [entry async for entry in app.ledger.catalogue.list_by_dataset(dataset)]

    entries = await asyncio.gather(*(list_by_dataset(dataset) for dataset in Dataset))
    return dict(zip(Dataset, entries, strict=True))


def _get_last_landed(entries: Iterable[CatalogueEntry]) -> CatalogueEntry | None:
    landed = [entry for entry in entries if entry.landed_at]
    return max(landed, key=lambda entry: entry.landed_at, default=None)


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


@bp.serve(
    Endpoint(
        "GET",
        "health",
        "Check whether the app can reach its tables. The result is cached for a minute.",
        lambda: {200: None, 503: None},
        problems=(),
        is_anonymous=True,
    )
)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """Return 200 if the tables are available, otherwise 503. The result is cached."""
    is_healthy = await services().health.is_healthy()
    return func.HttpResponse(
        status_code=200 if is_healthy else 503, headers={"Cache-Control": "no-store"}
    )
