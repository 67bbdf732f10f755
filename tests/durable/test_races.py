"""Who is first, where several want the same at once: one run per key, one version per eTag, one cycle per tick."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from tests.durable.scene import (
    BEHAVIOUR,
    assert_ended,
    assert_landed,
    export_request,
    fields_of,
    folders_of,
    lock_of,
    open_world,
)
from tests.support.world import World

SLOW = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=300)
MANY = 20


def runs_of(world: World) -> list[dict[str, Any]]:
    return [instance for instance in world.host.instances() if instance["name"] == "export_run"]


def test_of_twenty_simultaneous_posts_one_starts_and_the_others_are_shown_its_run(
    azurite: Azurite,
) -> None:
    with open_world(azurite) as world, ThreadPoolExecutor(MANY) as pool:
        key = "unbilled_usage/2026-10/USD/full"

        def ask(_: int) -> Any:
            return world.host.request("POST", "/api/runs", json=fields_of(key))

        answers = list(pool.map(ask, range(MANY)))
        bodies = [json.loads(answer.body) for answer in answers]
        assert {answer.status for answer in answers} == {202}
        (started,) = [body["run_id"] for body in bodies if body["started"]]
        assert {body["run_id"] for body in bodies} == {started}
        assert_ended(world, world.finish(started), "landed")
        assert [instance["instanceId"] for instance in runs_of(world)] == [started]
        assert len(world.simulator.requests_of("start")) == 1
        assert_landed(world, key, world.simulator.expected(key))


@pytest.mark.parametrize("count", [2, 5])
def test_runs_that_race_without_a_lock_land_one_version_whole(azurite: Azurite, count: int) -> None:
    with open_world(azurite, locking=False) as world:
        key = "billed_usage/" + world.invoice_id + "/full"
        requests = [export_request(world, key) for _ in range(count)]
        for request in requests:
            world.host.start_orchestration("export_run", request, request["run_id"])
        runs = [world.finish(request["run_id"]) for request in requests]
        assert {run["outcome"] for run in runs} <= {"landed", "unchanged"} and "landed" in {
            run["outcome"] for run in runs
        }
        expected = world.simulator.expected(key)
        assert_landed(world, key, expected)
        (folder,) = folders_of(world, key)
        assert {run["version"] for run in runs} == {folder.removeprefix("version=")}
        assert all(
            run["blobs"]["landed"] == len(expected.blobs) and run["bytes"] == expected.bytes
            for run in runs
        )


def test_runs_that_race_without_a_lock_over_restated_data_leave_the_newest_shown(
    azurite: Azurite,
) -> None:
    """The first has the old data in its hands when the second begins with the new."""
    with open_world(azurite, locking=False, behaviour=SLOW) as world:
        key = "billed_reconciliation/" + world.invoice_id + "/full"
        old, first = world.simulator.expected(key), export_request(world, key)
        world.host.start_orchestration("export_run", first, first["run_id"])
        world.host.run_until(lambda: world.simulator.operations)
        world.host.advance(timedelta(minutes=5))
        new = world.simulator.restate(key)
        second = export_request(world, key)
        world.simulator.behaviour = BEHAVIOUR
        world.host.start_orchestration("export_run", second, second["run_id"])
        assert world.finish(second["run_id"])["outcome"] == "landed"
        late = world.finish(first["run_id"])
        assert (
            late["outcome"] == "landed"
            and late["version"] != world.run_row(second["run_id"]).version
        )
        assert_landed(
            world, key, new
        )  # the older one that finished later is landed, and shown by nobody
        assert len(folders_of(world, key)) == 2 and old.etag != new.etag


def test_a_tick_that_fires_twice_starts_one_cycle(azurite: Azurite) -> None:
    with open_world(azurite, EXPORT_DATASETS="unbilled_reconciliation") as world:
        for _ in range(2):
            world.host.fire_timer("start_scheduled_cycle")
        cycles = [
            instance for instance in world.host.instances() if instance["name"] == "export_cycle"
        ]
        assert len(cycles) == 1
        cycle_id = cycles[0]["instanceId"]
        world.host.wait(cycle_id)
        ended = world.get(f"/api/cycles/{cycle_id}")
        assert ended["outcomes"] == {"landed": 2} and ended["requested_by"] == "timer"
        assert len(runs_of(world)) == len(world.simulator.requests_of("start")) == 2


def test_a_tick_is_served_once_though_it_fires_by_itself_and_again_by_hand(
    azurite: Azurite,
) -> None:
    start = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
    with open_world(
        azurite, start=start, timers=True, EXPORT_DATASETS="unbilled_reconciliation"
    ) as world:
        world.host.advance_to(datetime(2026, 11, 21, 5, 0, tzinfo=UTC))
        world.host.fire_timer("start_scheduled_cycle")
        cycles = [
            one["instanceId"] for one in world.host.instances() if one["name"] == "export_cycle"
        ]
        assert cycles == ["cycle-20261121t050000z"]
        world.host.wait(cycles[0])
        assert world.get(f"/api/cycles/{cycles[0]}")["outcomes"] == {"landed": 2}
        world.host.fire_timer(
            "start_scheduled_cycle"
        )  # minutes later, by hand: that is another moment, and another cycle
        assert len([one for one in world.host.instances() if one["name"] == "export_cycle"]) == 2


def test_a_cycle_beside_a_live_run_of_one_of_its_keys_lands_the_others(azurite: Azurite) -> None:
    with open_world(
        azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_reconciliation,unbilled_usage"
    ) as world:
        key = "unbilled_usage/2026-10/USD/full"
        live = world.start(**fields_of(key))
        world.host.run_until(lambda: world.run_row(live).polls >= 1)
        cycle_id = world.post("/api/cycles")["cycle_id"]
        world.host.settle()
        world.simulator.behaviour = BEHAVIOUR  # everybody has asked: what is waited for may end
        world.host.wait(cycle_id)
        ended = world.get(f"/api/cycles/{cycle_id}")
        assert ended["outcomes"] == {"landed": 3, "superseded": 1}
        (superseded,) = [run for run in ended["runs"] if run["outcome"] == "superseded"]
        assert (
            superseded["key"] == key
            and superseded["live_run_id"] == live
            and superseded["posts"] == 0
        )
        assert_ended(world, superseded, "superseded", own=False)
        assert_ended(world, world.finish(live), "landed")
        assert all(
            lock is not None and lock.run_id == ""
            for lock in (lock_of(world, run["key"]) for run in ended["runs"])
        )


def test_a_key_whose_run_is_marked_cancelled_may_be_taken_at_once(azurite: Azurite) -> None:
    with open_world(azurite, behaviour=SLOW) as world:
        key = "unbilled_reconciliation/2026-10/USD/full"
        first = world.start(**fields_of(key))
        world.host.run_until(lambda: world.run_row(first).polls >= 1)
        world.post(f"/api/runs/{first}/cancel")
        second = world.start(**fields_of(key))  # answered with "started": true
        assert second != first
        ended = world.finish(first)
        assert (ended["outcome"], ended["live_run_id"]) == ("cancelled", None)
        lock = lock_of(world, key)
        assert lock is not None and (lock.run_id, lock.epoch) == (second, 2)
        world.simulator.behaviour = BEHAVIOUR
        assert_ended(world, world.finish(second), "landed")


def test_a_cancel_that_meets_the_end_loses_or_wins_but_never_both(azurite: Azurite) -> None:
    """The mark and the outcome are written to the row at once, from many threads, again and again."""
    with open_world(azurite) as world, ThreadPoolExecutor(4) as pool:
        key = "unbilled_reconciliation/2026-10/USD/full"
        for _ in range(3):
            world.simulator.restate(key)
            run_id = world.start(**fields_of(key))
            world.host.run_until(lambda run_id=run_id: world.run_row(run_id).polls >= 2)  # type: ignore[misc]
            marks = [
                pool.submit(world.host.request, "POST", f"/api/runs/{run_id}/cancel", json={})
                for _ in range(4)
            ]
            run = world.finish(run_id)
            statuses = {mark.result().status for mark in marks}
            assert statuses <= {202, 409}
            assert run["outcome"] in ("landed", "cancelled")
            assert_ended(world, run, run["outcome"], run["code"])
            assert run["outcome"] == "landed" or run["cancel_requested_at"]
            world.host.advance(timedelta(minutes=5))
        assert world.land(**fields_of(key))["outcome"] in ("landed", "unchanged")
        assert_landed(world, key, world.simulator.expected(key))
