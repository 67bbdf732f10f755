"""Who is first, where several want the same at once: one run per key, one version per eTag, one cycle per tick."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import BEHAVIOUR, open_hooked_environment
from tests.support.run_state import (
    assert_ended,
    assert_landed,
    create_run_request,
    get_lock,
    key_fields,
    list_version_folders,
)

SLOW = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=300)
MANY = 20


def runs_of(env: AppEnvironment) -> list[dict[str, Any]]:
    return [instance for instance in env.host.instances() if instance["name"] == "export_run"]


def test_of_twenty_simultaneous_posts_one_starts_and_the_others_are_shown_its_run(
    azurite: Azurite,
) -> None:
    with open_hooked_environment(azurite) as env, ThreadPoolExecutor(MANY) as pool:
        key = "unbilled_usage/2026-10/USD/full"

        def ask(_: int) -> Any:
            return env.host.request("POST", "/api/runs", json=key_fields(key))

        answers = list(pool.map(ask, range(MANY)))
        bodies = [json.loads(answer.body) for answer in answers]
        assert {answer.status for answer in answers} == {202}
        (started,) = [body["run_id"] for body in bodies if body["started"]]
        assert {body["run_id"] for body in bodies} == {started}
        assert_ended(env, env.finish(started), "landed")
        assert [instance["instanceId"] for instance in runs_of(env)] == [started]
        assert len(env.simulator.requests_of("start")) == 1
        assert_landed(env, key, env.simulator.expected(key))


@pytest.mark.parametrize("count", [2, 5])
def test_runs_that_race_without_a_lock_land_one_version_whole(azurite: Azurite, count: int) -> None:
    with open_hooked_environment(azurite, locking=False) as env:
        key = "billed_usage/" + env.invoice_id + "/full"
        requests = [create_run_request(env, key) for _ in range(count)]
        for request in requests:
            env.host.start_orchestration("export_run", request, request["run_id"])
        runs = [env.finish(request["run_id"]) for request in requests]
        assert {run["outcome"] for run in runs} <= {"landed", "unchanged"} and "landed" in {
            run["outcome"] for run in runs
        }
        expected = env.simulator.expected(key)
        assert_landed(env, key, expected)
        (folder,) = list_version_folders(env, key)
        assert {run["version"] for run in runs} == {folder.removeprefix("version=")}
        assert all(
            run["blobs"]["landed"] == len(expected.blobs) and run["bytes"] == expected.bytes
            for run in runs
        )


def test_runs_that_race_without_a_lock_over_restated_data_leave_the_newest_shown(
    azurite: Azurite,
) -> None:
    """The first has the old data in its hands when the second begins with the new."""
    with open_hooked_environment(azurite, locking=False, behaviour=SLOW) as env:
        key = "billed_reconciliation/" + env.invoice_id + "/full"
        old, first = env.simulator.expected(key), create_run_request(env, key)
        env.host.start_orchestration("export_run", first, first["run_id"])
        env.host.run_until(lambda: env.simulator.operations)
        env.host.advance(timedelta(minutes=5))
        new = env.simulator.restate(key)
        second = create_run_request(env, key)
        env.simulator.behaviour = BEHAVIOUR
        env.host.start_orchestration("export_run", second, second["run_id"])
        assert env.finish(second["run_id"])["outcome"] == "landed"
        late = env.finish(first["run_id"])
        assert (
            late["outcome"] == "landed" and late["version"] != env.run_row(second["run_id"]).version
        )
        assert_landed(
            env, key, new
        )  # the older one that finished later is landed, and shown by nobody
        assert len(list_version_folders(env, key)) == 2 and old.etag != new.etag


def test_a_tick_that_fires_twice_starts_one_cycle(azurite: Azurite) -> None:
    with open_hooked_environment(azurite, EXPORT_DATASETS="unbilled_reconciliation") as env:
        for _ in range(2):
            env.host.fire_timer("start_scheduled_cycle")
        cycles = [
            instance for instance in env.host.instances() if instance["name"] == "export_cycle"
        ]
        assert len(cycles) == 1
        cycle_id = cycles[0]["instanceId"]
        env.host.wait(cycle_id)
        ended = env.get(f"/api/cycles/{cycle_id}")
        assert ended["outcomes"] == {"landed": 2} and ended["requested_by"] == "timer"
        assert len(runs_of(env)) == len(env.simulator.requests_of("start")) == 2


def test_a_tick_is_served_once_though_it_fires_by_itself_and_again_by_hand(
    azurite: Azurite,
) -> None:
    start = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
    with open_hooked_environment(
        azurite, start=start, timers=True, EXPORT_DATASETS="unbilled_reconciliation"
    ) as env:
        env.host.advance_to(datetime(2026, 11, 21, 5, 0, tzinfo=UTC))
        env.host.fire_timer("start_scheduled_cycle")
        cycles = [
            one["instanceId"] for one in env.host.instances() if one["name"] == "export_cycle"
        ]
        assert cycles == ["cycle-20261121t050000z"]
        env.host.wait(cycles[0])
        assert env.get(f"/api/cycles/{cycles[0]}")["outcomes"] == {"landed": 2}
        env.host.fire_timer(
            "start_scheduled_cycle"
        )  # minutes later, by hand: that is another moment, and another cycle
        assert len([one for one in env.host.instances() if one["name"] == "export_cycle"]) == 2


def test_a_cycle_beside_a_live_run_of_one_of_its_keys_lands_the_others(azurite: Azurite) -> None:
    with open_hooked_environment(
        azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_reconciliation,unbilled_usage"
    ) as env:
        key = "unbilled_usage/2026-10/USD/full"
        live = env.start(**key_fields(key))
        env.host.run_until(lambda: env.run_row(live).polls >= 1)
        cycle_id = env.post("/api/cycles")["cycle_id"]
        env.host.settle()
        env.simulator.behaviour = BEHAVIOUR  # everybody has asked: what is waited for may end
        env.host.wait(cycle_id)
        ended = env.get(f"/api/cycles/{cycle_id}")
        assert ended["outcomes"] == {"landed": 3, "superseded": 1}
        (superseded,) = [run for run in ended["runs"] if run["outcome"] == "superseded"]
        assert (
            superseded["key"] == key
            and superseded["live_run_id"] == live
            and superseded["posts"] == 0
        )
        assert_ended(env, superseded, "superseded", own=False)
        assert_ended(env, env.finish(live), "landed")
        assert all(
            lock is not None and lock.run_id == ""
            for lock in (get_lock(env, run["key"]) for run in ended["runs"])
        )


def test_a_key_whose_run_is_marked_cancelled_may_be_taken_at_once(azurite: Azurite) -> None:
    with open_hooked_environment(azurite, behaviour=SLOW) as env:
        key = "unbilled_reconciliation/2026-10/USD/full"
        first = env.start(**key_fields(key))
        env.host.run_until(lambda: env.run_row(first).polls >= 1)
        env.post(f"/api/runs/{first}/cancel")
        second = env.start(**key_fields(key))  # answered with "started": true
        assert second != first
        ended = env.finish(first)
        assert (ended["outcome"], ended["live_run_id"]) == ("cancelled", None)
        lock = get_lock(env, key)
        assert lock is not None and (lock.run_id, lock.epoch) == (second, 2)
        env.simulator.behaviour = BEHAVIOUR
        assert_ended(env, env.finish(second), "landed")


def test_a_cancel_that_meets_the_end_loses_or_wins_but_never_both(azurite: Azurite) -> None:
    """The mark and the outcome are written to the row at once, from many threads, again and again."""
    with open_hooked_environment(azurite) as env, ThreadPoolExecutor(4) as pool:
        key = "unbilled_reconciliation/2026-10/USD/full"
        for _ in range(3):
            env.simulator.restate(key)
            run_id = env.start(**key_fields(key))
            env.host.run_until(lambda run_id=run_id: env.run_row(run_id).polls >= 2)  # type: ignore[misc]
            marks = [
                pool.submit(env.host.request, "POST", f"/api/runs/{run_id}/cancel", json={})
                for _ in range(4)
            ]
            run = env.finish(run_id)
            statuses = {mark.result().status for mark in marks}
            assert statuses <= {202, 409}
            assert run["outcome"] in ("landed", "cancelled")
            assert_ended(env, run, run["outcome"], run["code"])
            assert run["outcome"] == "landed" or run["cancel_requested_at"]
            env.host.advance(timedelta(minutes=5))
        assert env.land(**key_fields(key))["outcome"] in ("landed", "unchanged")
        assert_landed(env, key, env.simulator.expected(key))
