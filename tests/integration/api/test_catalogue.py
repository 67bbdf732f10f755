"""GET /api/catalogue and GET /api/status."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from local.simulator.behaviour import Behaviour
from shared.errors import get_remedy
from shared.exports import BillingMonth, Dataset, ExportKey, MonthScope
from shared.ledger.keys import scope_key
from shared.versions.publication import verify_published
from tests.integration.api.request_counter import RequestCounter
from tests.support.app_environment import AppEnvironment

MONTHS = 46
CURRENCIES = ("AUD", "EUR", "GBP", "NOK", "USD")


@pytest.fixture(scope="module")
def catalogue_keys(env: AppEnvironment) -> list[str]:
    """The export keys of one dataset in the order of the table.

    Two other datasets have one key each, which runs have landed.
    """
    month, keys = BillingMonth(2020, 1), []
    for _ in range(MONTHS):
        keys += [
            ExportKey(Dataset.UNBILLED_RECONCILIATION, MonthScope(month, currency))
            for currency in CURRENCIES
        ]
        month = month.next()

    async def insert(key: ExportKey) -> None:
        row = {
            "key": str(key),
            "attribute_set": "full",
            "version": "v",
            "landed_at": "2020-02-01T00:00:00Z",
            "billing_month": str(key.scope).split("/")[0],
            "rows": 5,
        }
        tables = env.app.ledger.tables
        await tables.insert("catalogue", key.dataset.value, scope_key(key), row)

    async def insert_all() -> None:
        await asyncio.gather(*(insert(key) for key in keys))

    env.simulator.behaviour = Behaviour(retry_after_seconds=20)
    assert env.land("billed_usage")["outcome"] == "landed"
    assert env.land("unbilled_usage")["outcome"] == "landed"
    env.on_loop(insert_all())
    return [str(key) for key in keys]


def list_keys(
    env: AppEnvironment, request_counter: RequestCounter, **query: Any
) -> tuple[list[str], list[int]]:
    """Return the keys of all pages, and the number of table requests for each page."""
    keys, continuation, counts = [], "", []
    while continuation is not None:
        request_counter.reset()
        page = env.get("/api/catalogue?" + urlencode({**query, "continuation": continuation}))
        counts.append(request_counter.total())
        keys += [entry["key"] for entry in page["entries"]]
        continuation = page["continuation"]
    return keys, counts


@pytest.mark.parametrize(("limit", "pages"), [(100, 3), (1000, 1)])
def test_get_catalogue_page_of_a_dataset_is_one_table_request(
    env: AppEnvironment,
    request_counter: RequestCounter,
    catalogue_keys: list[str],
    limit: int,
    pages: int,
) -> None:
    result = list_keys(env, request_counter, dataset="unbilled_reconciliation", limit=limit)
    assert result == (catalogue_keys, [1] * pages)


def test_get_catalogue_month_is_filtered_in_the_table_service(
    env: AppEnvironment, request_counter: RequestCounter, catalogue_keys: list[str]
) -> None:
    query = {"dataset": "unbilled_reconciliation", "billing_month": "2021-03"}
    expected = [f"unbilled_reconciliation/2021-03/{name}/full" for name in CURRENCIES]
    assert list_keys(env, request_counter, **query) == (expected, [1])


@pytest.mark.parametrize("limit", [1, 7, 100, 231, 1000])
def test_get_catalogue_without_dataset_lists_all_datasets(
    env: AppEnvironment, request_counter: RequestCounter, catalogue_keys: list[str], limit: int
) -> None:
    keys, counts = list_keys(env, request_counter, limit=limit)
    billed, unbilled = f"billed_usage/{env.invoice_id}/full", "unbilled_usage/2026-11/USD/full"
    assert keys == [billed, unbilled, *catalogue_keys]
    assert max(counts) <= len(Dataset)


def test_get_catalogue_billed_key_has_the_month_of_its_data(
    env: AppEnvironment, catalogue_keys: list[str]
) -> None:
    path = "/api/catalogue?dataset=billed_usage"
    [entry] = env.get(path)["entries"]
    assert (entry["billing_month"], entry["last_outcome"]) == ("2026-10", "landed")
    assert entry["rows"] > 0
    assert env.get(f"{path}&billing_month=2026-10")["entries"] == [entry]
    assert env.get(f"{path}&billing_month=2026-09")["entries"] == []
    assert env.land("billed_usage")["outcome"] == "unchanged"
    assert env.get(path)["entries"][0]["billing_month"] == "2026-10"


def test_get_status_returns_schedule_live_runs_and_last_landed(
    env: AppEnvironment, catalogue_keys: list[str]
) -> None:
    env.simulator.behaviour = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)
    run_id = env.start("billed_reconciliation")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    status = env.get("/api/status")
    assert status["next_tick_at"] == "2026-11-22T05:00:00Z"
    assert status["task_hub"] == "Tests"
    assert status["last_cycle"] is None
    [live_run] = status["live_runs"]
    assert (live_run["run_id"], live_run["stage"]) == (run_id, "waiting")
    assert live_run["task_hub"] == "Tests"
    assert live_run["next_check_at"]
    last_landed = status["last_landed"]
    assert last_landed["billed_reconciliation"] is None
    assert last_landed["billed_usage"]["key"] == f"billed_usage/{env.invoice_id}/full"
    assert all(status["versions"].values())
    assert "azure-functions-durable" in status["versions"]


def test_damaged_version_is_shown_with_code_and_remedy(
    env: AppEnvironment, catalogue_keys: list[str]
) -> None:
    env.simulator.behaviour = Behaviour(retry_after_seconds=20)
    path = "/api/catalogue?dataset=unbilled_usage"
    [landed] = env.get(path)["entries"]
    assert landed["damage"] is None and env.get("/api/status")["damaged"] == []
    [blob, *_] = env.get(f"/api/runs/{landed['last_run_id']}/blobs")["blobs"]

    async def damage() -> None:
        assert await env.app.landing.delete(f"{landed['path']}/{blob['name']}")
        await verify_published(env.app.ledger, env.app.landing, ExportKey.parse(landed["key"]))

    env.on_loop(damage())
    [entry] = env.get(path)["entries"]
    assert (entry["version"], entry["rows"]) == (None, 0)
    assert entry["damage"]["version"] == landed["version"]
    assert entry["damage"]["code"] == "version_damaged"
    assert entry["damage"]["remedy"] == get_remedy("version_damaged")
    status = env.get("/api/status")
    assert status["damaged"] == [entry] and status["last_landed"]["unbilled_usage"] is None
    repaired = env.land("unbilled_usage")
    assert (repaired["outcome"], repaired["version"]) == ("landed", landed["version"])
    assert env.get("/api/status")["damaged"] == []
