"""ETags of cycles and backfills, and the table requests for a cycle with many runs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from shared.clock import parse_iso
from shared.exports import ExportKey
from shared.ledger.cycles import Cycle
from shared.ledger.keys import run_id, run_keys
from tests.integration.api.request_counter import RequestCounter, make_counted_world
from tests.support.world import World

SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)


@pytest.fixture
def world(azurite: Azurite) -> Iterator[World]:
    with World(
        azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_usage", EXPORT_PARALLELISM="2"
    ) as world:
        yield world


def get_resource(world: World, path: str, etag: str = "") -> Any:
    headers = {"If-None-Match": etag} if etag else {}
    return world.host.request("GET", path, headers=headers)


def start_resource(world: World, collection: str) -> str:
    """Start a cycle or a backfill, wait until its first runs poll, and return its path."""
    body = {} if collection == "cycles" else {"from": "2026-10", "to": "2026-11"}
    resource_id = world.post(f"/api/{collection}", body)[f"{collection[:-1]}_id"]
    rows = getattr(world.app.ledger, collection)

    def is_polling() -> bool:
        run_ids = world.on_loop(rows.get(resource_id)).runs
        runs = [world.on_loop(world.app.ledger.runs.get(run_id)) for run_id in run_ids]
        return bool(runs) and all(run is not None and run.polls >= 1 for run in runs)

    world.host.run_until(lambda: is_polling() or None)
    return f"/api/{collection}/{resource_id}"


def cancel_first_run(world: World, path: str) -> None:
    run_id = world.get(path)["runs"][0]["run_id"]
    world.post(f"/api/runs/{run_id}/cancel")
    world.host.run_until(lambda: world.run_row(run_id).outcome or None)


@pytest.mark.parametrize("collection", ["cycles", "backfills"])
def test_get_known_etag_returns_304_until_a_run_changes(world: World, collection: str) -> None:
    path = start_resource(world, collection)
    first = get_resource(world, path)
    etag = first.header("ETag") or ""
    assert first.status == 200
    assert etag.startswith('"')
    assert first.header("Cache-Control") == "private, no-cache"

    unchanged = get_resource(world, path, f"W/{etag}")
    assert (unchanged.status, unchanged.body, unchanged.header("ETag")) == (304, b"", etag)
    assert unchanged.header("Retry-After") == first.header("Retry-After") == "5"

    cancel_first_run(world, path)  # changes a run row, not the row of the resource
    changed = get_resource(world, path, etag)
    assert changed.status == 200
    assert changed.header("ETag") != etag

    world.simulator.behaviour = replace(SLOW, ready_after_seconds=0)
    world.host.wait(path.rsplit("/", 1)[-1])
    ended = get_resource(world, path, changed.header("ETag") or "")
    assert ended.status == 200
    assert ended.json()["state"] == "ended"
    assert ended.header("Retry-After") is None
    world.host.advance(timedelta(hours=1))
    assert get_resource(world, path, ended.header("ETag") or "").status == 304


def test_get_backfill_etag_does_not_change_with_time(world: World) -> None:
    path = start_resource(world, "backfills")
    cancel_first_run(world, path)
    first = get_resource(world, path)
    assert first.json()["waiting"] == 1
    assert first.json()["estimated_end"]
    world.host.advance(timedelta(seconds=5))
    assert get_resource(world, path, first.header("ETag") or "").status == 304


def test_get_cycle_many_runs_are_read_by_the_page(azurite: Azurite) -> None:
    request_counter = RequestCounter()
    start, cycle_id = parse_iso("2026-11-20T05:00:00Z"), "cycle-20261120t050000z"
    keys = [f"billed_usage/G{number:09}/full" for number in range(1_500)]
    run_ids = {key: run_id(ExportKey.parse(key), start) for key in keys}
    rows = {
        run_keys(run_id)[1]: {
            "run_id": run_id,
            "key": key,
            "stage": "ended",
            "outcome": "unchanged",
        }
        for key, run_id in run_ids.items()
    }
    with make_counted_world(azurite, request_counter) as world:
        ledger = world.app.ledger
        world.on_loop(ledger.cycles.insert(Cycle(cycle_id, "starting", "2026-11-20T05:00:00Z")))
        world.on_loop(ledger.cycles.save_plan(cycle_id, list(run_ids.values())))
        world.on_loop(
            ledger.cycles.save_result(cycle_id, {"unchanged": 1_500}, "2026-11-20T06:00:00Z")
        )
        world.on_loop(ledger.tables.upsert_many("runs", "202611", rows))
        request_counter.reset()
        cycle = world.get(f"/api/cycles/{cycle_id}")
        assert [run["run_id"] for run in cycle["runs"]] == list(run_ids.values())
        assert cycle["outcome"] == "complete"
        assert dict(request_counter.seen) == {"GET runs": 3}
