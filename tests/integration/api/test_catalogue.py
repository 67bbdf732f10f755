"""What is landed, by dataset and month, a page at a time; and the one look at everything."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from local.simulator.behaviour import Behaviour
from shared.exports import BillingMonth, Dataset, ExportKey, MonthScope
from shared.ledger.keys import scope_key
from tests.integration.api.counted import Requests
from tests.support.world import World

KEYS = 230


@pytest.fixture(scope="module")
def landed(world: World) -> list[str]:
    """Keys of one dataset, in the order of the table, and really landed ones of two others."""
    months, month = [], BillingMonth(2020, 1)
    for _ in range(KEYS // 5):
        months.append(month)
        month = month.next()
    keys = [
        ExportKey(Dataset.UNBILLED_RECONCILIATION, MonthScope(month, currency))
        for month in months
        for currency in ("AUD", "EUR", "GBP", "NOK", "USD")
    ]

    async def insert() -> None:
        tables = world.app.ledger.tables
        await asyncio.gather(
            *(
                tables.insert(
                    "catalogue",
                    key.dataset.value,
                    scope_key(key),
                    {
                        "key": str(key),
                        "attribute_set": "full",
                        "version": "v",
                        "landed_at": "2020-02-01T00:00:00Z",
                        "billing_month": str(key.scope).split("/")[0],
                        "rows": 5,
                    },
                )
                for key in keys
            )
        )

    world.simulator.behaviour = Behaviour(retry_after_seconds=20)
    assert (
        world.land("billed_usage")["outcome"] == "landed"
        and world.land("unbilled_usage")["outcome"] == "landed"
    )
    world.on_loop(insert())
    return [str(key) for key in keys]


def walk(world: World, requests: Requests, **query: Any) -> tuple[list[str], list[int]]:
    """All keys of a list, and how many requests to the tables each page took."""
    found, continuation, prices = [], "", []
    while continuation is not None:
        requests.reset()
        page = world.get("/api/catalogue?" + urlencode({**query, "continuation": continuation}))
        prices.append(requests.total())
        found += [entry["key"] for entry in page["entries"]]
        continuation = page["continuation"]
    return found, prices


def test_a_page_of_a_dataset_is_one_request(
    world: World, requests: Requests, landed: list[str]
) -> None:
    assert walk(world, requests, dataset="unbilled_reconciliation") == (landed, [1, 1, 1])
    assert walk(world, requests, dataset="unbilled_reconciliation", limit=1000) == (landed, [1])


def test_a_month_is_the_tables_work(world: World, requests: Requests, landed: list[str]) -> None:
    found, prices = walk(
        world, requests, dataset="unbilled_reconciliation", billing_month="2021-03"
    )
    assert (
        found == [key for key in landed if "/2021-03/" in key] and len(found) == 5 and prices == [1]
    )


@pytest.mark.parametrize("limit", [1, 7, 100, 231, 1000])
def test_without_a_dataset_all_four_follow_each_other(
    world: World, requests: Requests, landed: list[str], limit: int
) -> None:
    found, prices = walk(world, requests, limit=limit)
    billed, unbilled = f"billed_usage/{world.invoice_id}/full", "unbilled_usage/2026-11/USD/full"
    assert found == [billed, unbilled, *landed] and max(prices) <= 4


def test_the_month_of_a_billed_key_is_that_of_its_files(world: World, landed: list[str]) -> None:
    entry = world.get("/api/catalogue?dataset=billed_usage")["entries"][0]
    assert (
        entry["billing_month"] == "2026-10"
        and entry["last_outcome"] == "landed"
        and entry["rows"] > 0
    )
    assert world.get("/api/catalogue?dataset=billed_usage&billing_month=2026-10")["entries"] == [
        entry
    ]
    assert world.get("/api/catalogue?dataset=billed_usage&billing_month=2026-09")["entries"] == []
    again = world.land("billed_usage")
    assert again["outcome"] == "unchanged"
    assert (
        world.get("/api/catalogue?dataset=billed_usage")["entries"][0]["billing_month"] == "2026-10"
    )


def test_status_is_one_look_at_everything(world: World, landed: list[str]) -> None:
    world.simulator.behaviour = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)
    run_id = world.start("billed_reconciliation")
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    status = world.get("/api/status")
    assert (
        status["next_tick_at"] == "2026-11-22T05:00:00Z"
        and status["task_hub"] == "Tests"
        and status["last_cycle"] is None
    )
    [live] = status["live_runs"]
    assert (live["run_id"], live["stage"], live["task_hub"]) == (
        run_id,
        "waiting",
        "Tests",
    ) and live["next_check_at"]
    assert status["last_landed"]["billed_reconciliation"] is None
    assert status["last_landed"]["billed_usage"]["key"] == f"billed_usage/{world.invoice_id}/full"
    assert all(status["versions"].values()) and status["versions"]["azure-functions-durable"]
    world.finish(run_id)
    cycle = world.post("/api/cycles")["cycle_id"]
    world.host.wait(cycle)
    after = world.get("/api/status")
    assert (
        after["live_runs"] == []
        and after["last_cycle"]["cycle_id"] == cycle
        and after["last_cycle"]["state"] == "ended"
    )
