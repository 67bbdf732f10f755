"""GET of a single cycle and of a single backfill: an ETag that stands for the whole answer, runs and all."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from tests.support.world import World

SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)


@pytest.fixture
def world(azurite: Azurite) -> Iterator[World]:
    with World(azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_usage", EXPORT_PARALLELISM="2") as world:
        yield world


def look(world: World, path: str, etag: str = "") -> Any:
    return world.host.request("GET", path, headers={"If-None-Match": etag} if etag else {})


def started(world: World, what: str) -> str:
    """The path of a cycle or a backfill whose first runs wait for Microsoft."""
    body = {} if what == "cycles" else {"from": "2026-10", "to": "2026-11"}
    single = world.post(f"/api/{what}", body)[f"{what[:-1]}_id"]
    rows = getattr(world.app.ledger, what)

    def wait_for_microsoft() -> bool:
        runs = [world.on_loop(world.app.ledger.runs.get(run_id)) for run_id in world.on_loop(rows.get(single)).runs]
        return bool(runs) and all(run is not None and run.polls >= 1 for run in runs)

    world.host.run_until(lambda: wait_for_microsoft() or None)
    return f"/api/{what}/{single}"


@pytest.mark.parametrize("what", ["cycles", "backfills"])
def test_who_has_the_same_is_told_so_until_a_run_moves(world: World, what: str) -> None:
    path = started(world, what)
    first = look(world, path)
    etag = first.header("ETag") or ""
    assert first.status == 200 and etag.startswith('"') and first.header("Cache-Control") == "private, no-cache"
    same = look(world, path, f"W/{etag}")
    assert (same.status, same.body, same.header("ETag")) == (304, b"", etag)
    assert same.header("Retry-After") == first.header("Retry-After") != ""  # when to ask again is told in either case
    run_id = first.json()["runs"][0]["run_id"]
    world.post(f"/api/runs/{run_id}/cancel")
    world.host.run_until(lambda: world.run_row(run_id).outcome or None)  # the row of the cycle or backfill is as it was
    moved = look(world, path, etag)
    assert moved.status == 200 and moved.header("ETag") != etag
    world.simulator.behaviour = replace(SLOW, ready_after_seconds=0)
    world.host.wait(path.rsplit("/", 1)[-1])
    ended = look(world, path, moved.header("ETag") or "")
    assert ended.status == 200 and ended.json()["state"] == "ended" and ended.header("Retry-After") is None
    world.host.advance(timedelta(hours=1))
    assert look(world, path, ended.header("ETag") or "").status == 304


def test_time_alone_does_not_change_a_backfill_that_has_an_estimate(world: World) -> None:
    path = started(world, "backfills")
    run_id = world.get(path)["runs"][0]["run_id"]
    world.post(f"/api/runs/{run_id}/cancel")
    world.host.run_until(lambda: world.run_row(run_id).outcome or None)
    first = look(world, path)
    assert first.json()["waiting"] == 1 and first.json()["estimated_end"]
    world.host.advance(timedelta(seconds=5))
    assert look(world, path, first.header("ETag") or "").status == 304
