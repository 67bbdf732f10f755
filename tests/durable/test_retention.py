"""Retention on virtual time: what it removes, what it never removes, and that it goes on where it stopped."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from activities import purge_history as purging
from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from shared.errors import InfrastructureError
from shared.exports import ExportKey
from shared.ledger.retention import PurgedUntil
from tests.support.world import World

KEY = "unbilled_usage/2026-11/USD/full"


@pytest.fixture
def world(azurite: Azurite) -> Iterator[World]:
    quick = Behaviour(ready_after_polls=0)
    with World(
        azurite,
        start=datetime(2026, 11, 2, 6, tzinfo=UTC),
        behaviour=quick,
        KEEP_VERSIONS_UNBILLED="2",
        PRUNE_GRACE_HOURS="24",
        HISTORY_DAYS="15",
        BLOB_ROW_DAYS="30",
    ) as world:
        yield world


def retain(world: World) -> dict[str, int]:
    """The day's retention, by its timer; what it did."""
    day = world.clock.now().strftime("%Y-%m-%d")
    world.host.fire_timer("start_daily_retention")
    world.host.fire_timer("start_daily_retention")  # twice is once
    status = world.host.wait(f"retention-{day}")
    assert status["runtimeStatus"] == "Completed", status
    return dict(status["output"])


def land_days(world: World, days: int) -> list[dict[str, Any]]:
    """One restated version a day."""
    runs = []
    for _ in range(days):
        run = world.land("unbilled_usage")
        assert run["outcome"] == "landed"
        runs.append(run)
        world.host.advance(timedelta(days=1))
        world.simulator.restate(KEY)
    return runs


def folders(world: World) -> set[str]:
    return {
        path.split("/version=")[1].split("/")[0]
        for path in world.landed_files()
        if path.startswith("data/")
    }


def test_the_first_day_of_an_empty_app(world: World) -> None:
    done = retain(world)
    assert done == {
        "versions": 0,
        "versions_ended": 1,
        "plans": 0,
        "plans_ended": 1,
        "history": 0,
        "history_ended": 1,
    }


def test_old_versions_plans_and_history_go_and_the_rest_stays(world: World) -> None:
    runs = land_days(world, 4)
    assert any(path.startswith("runs/") for path in world.landed_files())
    done = retain(world)
    assert done["plans"] > 0 and not any(path.startswith("runs/") for path in world.landed_files())
    assert folders(world) == {run["version"] for run in runs[-2:]} and done["versions"] > 0
    assert (
        json.loads(
            world.landed_files()[
                "catalogue/unbilled_usage/billing_month=2026-11/currency_code=USD/attribute_set=full"
                "/latest.json"
            ]
        )["version"]
        == runs[-1]["version"]
    )
    assert retain_again(world) == {"versions": 0, "plans": 0, "history": 0}
    world.host.advance(timedelta(days=20))
    assert retain_again(world)["history"] > 0
    assert all(world.host.status(run["run_id"]) is None for run in runs)
    for run in runs:
        assert (
            world.get(f"/api/runs/{run['run_id']}")["outcome"] == "landed"
        )  # the ledger remembers
    versions = world.on_loop(all_versions(world))
    assert [version.state for version in versions] == ["pruned", "pruned", "complete", "complete"]


def retain_again(world: World) -> dict[str, int]:
    world.host.advance(timedelta(days=1))
    done = retain(world)
    return {name: done[name] for name in ("versions", "plans", "history")}


async def all_versions(world: World) -> list[Any]:
    found = [
        version async for version in world.app.ledger.versions.list_by_key(ExportKey.parse(KEY))
    ]
    return sorted(found, key=lambda version: version.age)


def test_old_blob_rows_go_and_their_version_is_still_known_to_be_whole(world: World) -> None:
    invoices = world.simulator.invoices()
    settled = next(
        invoice.invoice_id for invoice in invoices if not invoice.legacy
    )  # the oldest: it changes no more
    run = world.land("billed_usage", invoice_id=settled)
    assert world.get(f"/api/runs/{run['run_id']}/blobs")["blobs"]
    world.host.advance(timedelta(days=31))
    retain(world)
    assert world.get(f"/api/runs/{run['run_id']}/blobs")["blobs"] == []
    asked = len(world.simulator.storage_requests)
    again = world.land("billed_usage", invoice_id=settled)
    assert again["outcome"] == "unchanged" and again["version"] == run["version"]
    assert len(world.simulator.storage_requests) == asked


def test_a_live_run_keeps_its_plan_and_its_instance(world: World) -> None:
    world.simulator.behaviour = Behaviour(
        ready_after_polls=0, ready_after_seconds=23 * 3600, retry_after_seconds=23 * 3600
    )
    run_id = world.start("unbilled_usage")
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    world.host.advance(timedelta(hours=20))
    retain(world)
    assert world.finish(run_id)["outcome"] == "landed"


def test_history_goes_day_by_day_and_on_where_it_stopped(world: World) -> None:
    done = PurgedUntil(world.app.ledger.tables, world.app.ledger.hub)
    slices: list[tuple[datetime, datetime]] = []

    class Client:
        async def purge_instance_history_by(
            self, created_time_from: datetime, created_time_to: datetime, **_: Any
        ) -> Any:
            slices.append((created_time_from, created_time_to))
            if len(slices) == 3:
                raise OSError

            class Purged:
                instances_deleted = 1

            return Purged

    async def purge(day: str) -> Any:
        return await purging.purge_history._function.get_user_function().__wrapped__(
            request={"day": day}, client=Client()
        )

    def until_done(day: str) -> int:
        steps = 0
        while True:
            steps += 1
            if not world.on_loop(purge(day))["more"]:
                return steps

    assert until_done("2026-11-20") == 2  # all before the edge's day, then that day
    with pytest.raises(InfrastructureError):
        until_done("2026-11-23")
    assert world.on_loop(done.get()).isoformat() == "2026-11-05"  # as far as it came
    assert until_done("2026-11-23") == 3
    assert world.on_loop(done.get()).isoformat() == "2026-11-08"
    assert all(
        after[0] - before[1] <= timedelta(milliseconds=1) for before, after in pairwise(slices)
    )
