"""/api/status, /api/openapi.json, and /api/health: anonymous, so it says nothing but whether the app can do its work."""

import asyncio
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import azure.durable_functions as df
import azure.functions as func

from shared.clock import iso
from shared.exports import BillingMonth, Dataset
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.cycles import Cycle
from shared.services import Services, services
from shared.telemetry import APP_VERSION
from triggers.ncrontab import next_tick
from triggers.openapi import document
from triggers.problem import answer, problem_details
from triggers.queries import no_query
from triggers.resources import resource
from triggers.views import catalogue_view, cycle_view, live_view

bp = df.Blueprint()

CACHED = 60.0  # seconds, so that anybody may ask as often as they like
SDKS = (
    "azure-functions",
    "azure-functions-durable",
    "azure-data-tables",
    "azure-storage-blob",
    "azure-identity",
    "msgraph-sdk",
)
_last: dict[str, float | bool] = {}


@bp.route(route="status", methods=["GET"])
@problem_details
async def get_status(req: func.HttpRequest) -> func.HttpResponse:
    """One look at everything: what comes next, what runs, what landed last."""
    no_query(req)
    app = services()
    now = app.clock.now()
    cycle, runs, landed = await asyncio.gather(last_cycle(app), live_runs(app), last_landed(app))
    tick = next_tick(app.settings.export_schedule, now)
    return answer(
        200,
        {
            "now": iso(now),
            "schedule": app.settings.export_schedule,
            "next_tick_at": iso(tick) if tick else None,
            "last_cycle": {**cycle_view(cycle, []), "runs": len(cycle.runs)} if cycle else None,
            "live_runs": runs,
            "last_landed": landed,
            "task_hub": app.settings.task_hub_name,
            "versions": versions(),
        },
    )


async def last_cycle(app: Services) -> Cycle | None:
    month = BillingMonth.of(app.clock.now())
    for one in (month, month.previous()):
        if cycle := await app.ledger.cycles.newest(str(one).replace("-", "")):
            return cycle
    return None


async def live_runs(app: Services) -> list[dict[str, Any]]:
    """What holds a key: of this task hub and of others on the same landing account. Oldest first."""
    locks = [lock async for lock in app.ledger.locks.held()]
    rows = await asyncio.gather(*(app.ledger.runs.get(lock.run_id) for lock in locks))
    shown = [live_view(lock, run) for lock, run in zip(locks, rows, strict=True)]
    return sorted(shown, key=lambda run: (run["started_at"] or "~", run["run_id"]))


async def last_landed(app: Services) -> dict[str, Any]:
    """Per dataset the key that landed last; null where nothing has."""

    async def of(dataset: Dataset) -> CatalogueEntry | None:
        entries = [
            entry async for entry in app.ledger.catalogue.of_dataset(dataset) if entry.landed_at
        ]
        return max(entries, key=lambda entry: entry.landed_at, default=None)

    found = await asyncio.gather(*(of(dataset) for dataset in Dataset))
    return {
        dataset.value: catalogue_view(entry, app.clock.now()) if entry else None
        for dataset, entry in zip(Dataset, found, strict=True)
    }


@cache
def versions() -> dict[str, str | None]:
    """Of the app, of Python and of the SDKs that are really there."""
    found: dict[str, str | None] = {"app": APP_VERSION, "python": platform.python_version()}
    for name in SDKS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


@bp.route(route="openapi.json", methods=["GET"])
@problem_details
async def get_openapi(req: func.HttpRequest) -> func.HttpResponse:
    """What this app answers to, as OpenAPI 3.1."""
    no_query(req)
    return resource(req, document())


@bp.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@problem_details
async def health(req: func.HttpRequest) -> func.HttpResponse:
    clock = services().clock
    if not _last or clock.monotonic() - _last["at"] >= CACHED:
        _last.update(at=clock.monotonic(), well=await is_well())
    return func.HttpResponse(
        status_code=200 if _last["well"] else 503, headers={"Cache-Control": "no-store"}
    )


async def is_well() -> bool:
    """The tables answer: without them no run can begin or end."""
    try:
        await services().ledger.locks.get("health")
    except Exception:  # whatever it is, the answer is 503 and the log of the next run says why
        return False
    return True
