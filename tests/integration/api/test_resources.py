"""GET of a single cycle and of a single backfill: an ETag that stands for the whole answer, runs and all."""

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
from tests.integration.api.counted import Requests, counted_world
from tests.support.world import World

SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)


@pytest.fixture
def world(azurite: Azurite) -> Iterator[World]:
    with World(
        azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_usage", EXPORT_PARALLELISM="2"
    ) as world:
        yield world


def look(world: World, path: str, etag: str = "") -> Any:
    return world.host.request("GET", path, headers={"If-None-Match": etag} if etag else {})


def started(world: World, what: str) -> str:
    """The path of a cycle or a backfill whose first runs wait for Microsoft."""
    body = {} if what == "cycles" else {"from": "2026-10", "to": "2026-11"}
    single = world.post(f"/api/{what}", body)[f"{what[:-1]}_id"]
    rows = getattr(world.app.ledger, what)

    def wait_for_microsoft() -> bool:
        runs = [
            world.on_loop(world.app.ledger.runs.get(one))
            for one in world.on_loop(rows.get(single)).runs
        ]
        return bool(runs) and all(run is not None and run.polls >= 1 for run in runs)

    world.host.run_until(lambda: wait_for_microsoft() or None)
    return f"/api/{what}/{single}"


@pytest.mark.parametrize("what", ["cycles", "backfills"])
def test_who_has_the_same_is_told_so_until_a_run_moves(world: World, what: str) -> None:
    path = started(world, what)
    first = look(world, path)
    etag = first.header("ETag") or ""
    assert (
        first.status == 200
        and etag.startswith('"')
        and first.header("Cache-Control") == "private, no-cache"
    )
    same = look(world, path, f"W/{etag}")
    assert (same.status, same.body, same.header("ETag")) == (304, b"", etag)
    assert (
        same.header("Retry-After") == first.header("Retry-After") != ""
    )  # when to ask again is told in either case
    ending = first.json()["runs"][0]["run_id"]
    world.post(f"/api/runs/{ending}/cancel")
    world.host.run_until(
        lambda: world.run_row(ending).outcome or None
    )  # the row of the cycle or backfill is as it was
    moved = look(world, path, etag)
    assert moved.status == 200 and moved.header("ETag") != etag
    world.simulator.behaviour = replace(SLOW, ready_after_seconds=0)
    world.host.wait(path.rsplit("/", 1)[-1])
    ended = look(world, path, moved.header("ETag") or "")
    assert (
        ended.status == 200
        and ended.json()["state"] == "ended"
        and ended.header("Retry-After") is None
    )
    world.host.advance(timedelta(hours=1))
    assert look(world, path, ended.header("ETag") or "").status == 304


def test_time_alone_does_not_change_a_backfill_that_has_an_estimate(world: World) -> None:
    path = started(world, "backfills")
    ending = world.get(path)["runs"][0]["run_id"]
    world.post(f"/api/runs/{ending}/cancel")
    world.host.run_until(lambda: world.run_row(ending).outcome or None)
    first = look(world, path)
    assert first.json()["waiting"] == 1 and first.json()["estimated_end"]
    world.host.advance(timedelta(seconds=5))
    assert look(world, path, first.header("ETag") or "").status == 304


def test_a_cycle_of_many_runs_is_read_by_the_page(azurite: Azurite) -> None:
    """Its row, and its runs a thousand to a request: not one request for each of them."""
    requests = Requests()
    moment, cycle_id = parse_iso("2026-11-20T05:00:00Z"), "cycle-20261120t050000z"
    keys = [f"billed_usage/G{number:09}/full" for number in range(1_500)]
    ids = {key: run_id(ExportKey.parse(key), moment) for key in keys}
    rows = {
        run_keys(made)[1]: {"run_id": made, "key": key, "stage": "ended", "outcome": "unchanged"}
        for key, made in ids.items()
    }
    with counted_world(azurite, requests) as world:
        ledger = world.app.ledger
        world.on_loop(ledger.cycles.insert(Cycle(cycle_id, "starting", "2026-11-20T05:00:00Z")))
        world.on_loop(ledger.cycles.save_plan(cycle_id, list(ids.values())))
        world.on_loop(
            ledger.cycles.save_result(cycle_id, {"unchanged": 1_500}, "2026-11-20T06:00:00Z")
        )
        world.on_loop(ledger.tables.upsert_many("runs", "202611", rows))
        requests.reset()
        shown = world.get(f"/api/cycles/{cycle_id}")
        assert [run["run_id"] for run in shown["runs"]] == list(ids.values()) and shown[
            "outcome"
        ] == "complete"
        assert dict(requests.seen) == {"GET runs": 3}
