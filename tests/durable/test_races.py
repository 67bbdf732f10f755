"""Tests for concurrent requests: one run per key, one version per eTag, one cycle per tick."""

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
REQUEST_COUNT = 20


def list_runs(env: AppEnvironment) -> list[dict[str, Any]]:
    return [instance for instance in env.host.instances() if instance["name"] == "export_run"]


def test_post_runs_twenty_concurrent_requests_start_one_run(
    azurite: Azurite,
) -> None:
    with open_hooked_environment(azurite) as env, ThreadPoolExecutor(REQUEST_COUNT) as pool:
        key = "unbilled_usage/2026-10/USD/full"

        def post_run(_: int) -> Any:
            return env.host.request("POST", "/api/runs", json=key_fields(key))

        responses = list(pool.map(post_run, range(REQUEST_COUNT)))
        bodies = [json.loads(response.body) for response in responses]
        assert {response.status for response in responses} == {202}
        (started,) = [body["run_id"] for body in bodies if body["started"]]
        assert {body["run_id"] for body in bodies} == {started}
        assert_ended(env, env.finish(started), "landed")
        assert [instance["instanceId"] for instance in list_runs(env)] == [started]
        assert len(env.simulator.requests_of("start")) == 1
        assert_landed(env, key, env.simulator.expected(key))


@pytest.mark.parametrize("count", [2, 5])
def test_runs_concurrent_without_locks_land_one_complete_version(
    azurite: Azurite, count: int
) -> None:
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


def test_runs_concurrent_over_restated_data_publish_the_newest_version(
    azurite: Azurite,
) -> None:
    """The first run reads the old data; the second run starts after the restatement."""
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
        first_run = env.finish(first["run_id"])
        assert (
            first_run["outcome"] == "landed"
            and first_run["version"] != env.run_row(second["run_id"]).version
        )
        # The older version was completed later: it is landed, but the catalogue does not contain
        # it.
        assert_landed(env, key, new)
        assert len(list_version_folders(env, key)) == 2 and old.etag != new.etag


def test_timer_tick_fires_twice_starts_one_cycle(azurite: Azurite) -> None:
    with open_hooked_environment(azurite, EXPORT_DATASETS="unbilled_reconciliation") as env:
        for _ in range(2):
            env.host.fire_timer("start_scheduled_cycle")
        cycles = [
            instance for instance in env.host.instances() if instance["name"] == "export_cycle"
        ]
        assert len(cycles) == 1
        cycle_id = cycles[0]["instanceId"]
        env.host.wait(cycle_id)
        result = env.get(f"/api/cycles/{cycle_id}")
        assert result["outcomes"] == {"landed": 2} and result["requested_by"] == "timer"
        assert len(list_runs(env)) == len(env.simulator.requests_of("start")) == 2


def test_timer_tick_scheduled_and_manual_starts_one_cycle(
    azurite: Azurite,
) -> None:
    start = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
    with open_hooked_environment(
        azurite, start=start, timers=True, EXPORT_DATASETS="unbilled_reconciliation"
    ) as env:
        env.host.advance_to(datetime(2026, 11, 21, 5, 0, tzinfo=UTC))
        env.host.fire_timer("start_scheduled_cycle")
        cycles = [
            instance["instanceId"]
            for instance in env.host.instances()
            if instance["name"] == "export_cycle"
        ]
        assert cycles == ["cycle-20261121t050000z"]
        env.host.wait(cycles[0])
        assert env.get(f"/api/cycles/{cycles[0]}")["outcomes"] == {"landed": 2}
        # A manual start a few minutes later has a different tick and starts another cycle.
        env.host.fire_timer("start_scheduled_cycle")
        cycles = [
            instance["instanceId"]
            for instance in env.host.instances()
            if instance["name"] == "export_cycle"
        ]
        assert len(cycles) == 2


def test_cycle_key_with_live_run_is_superseded_and_other_keys_land(azurite: Azurite) -> None:
    with open_hooked_environment(
        azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_reconciliation,unbilled_usage"
    ) as env:
        key = "unbilled_usage/2026-10/USD/full"
        live_run_id = env.start(**key_fields(key))
        env.host.run_until(lambda: env.run_row(live_run_id).polls >= 1)
        cycle_id = env.post("/api/cycles")["cycle_id"]
        env.host.settle()
        env.simulator.behaviour = BEHAVIOUR  # all runs have started their exports
        env.host.wait(cycle_id)
        result = env.get(f"/api/cycles/{cycle_id}")
        assert result["outcomes"] == {"landed": 3, "superseded": 1}
        (superseded,) = [run for run in result["runs"] if run["outcome"] == "superseded"]
        assert (
            superseded["key"] == key
            and superseded["live_run_id"] == live_run_id
            and superseded["posts"] == 0
        )
        assert_ended(env, superseded, "superseded", own=False)
        assert_ended(env, env.finish(live_run_id), "landed")
        assert all(
            lock is not None and lock.run_id == ""
            for lock in (get_lock(env, run["key"]) for run in result["runs"])
        )


def test_claim_key_of_cancelled_run_succeeds_immediately(azurite: Azurite) -> None:
    with open_hooked_environment(azurite, behaviour=SLOW) as env:
        key = "unbilled_reconciliation/2026-10/USD/full"
        first = env.start(**key_fields(key))
        env.host.run_until(lambda: env.run_row(first).polls >= 1)
        env.post(f"/api/runs/{first}/cancel")
        second = env.start(**key_fields(key))  # the response contains "started": true
        assert second != first
        result = env.finish(first)
        assert (result["outcome"], result["live_run_id"]) == ("cancelled", None)
        lock = get_lock(env, key)
        assert lock is not None and (lock.run_id, lock.epoch) == (second, 2)
        env.simulator.behaviour = BEHAVIOUR
        assert_ended(env, env.finish(second), "landed")


def test_cancel_at_end_of_run_leaves_one_consistent_outcome(azurite: Azurite) -> None:
    """Several threads request cancellation while the run writes its outcome to the same row."""
    with open_hooked_environment(azurite) as env, ThreadPoolExecutor(4) as pool:
        key = "unbilled_reconciliation/2026-10/USD/full"
        for _ in range(3):
            env.simulator.restate(key)
            run_id = env.start(**key_fields(key))
            env.host.run_until(lambda run_id=run_id: env.run_row(run_id).polls >= 2)  # type: ignore[misc]
            cancellations = [
                pool.submit(env.host.request, "POST", f"/api/runs/{run_id}/cancel", json={})
                for _ in range(4)
            ]
            run = env.finish(run_id)
            statuses = {cancellation.result().status for cancellation in cancellations}
            assert statuses <= {202, 409}
            assert run["outcome"] in ("landed", "cancelled")
            assert_ended(env, run, run["outcome"], run["code"])
            assert run["outcome"] == "landed" or run["cancel_requested_at"]
            env.host.advance(timedelta(minutes=5))
        assert env.land(**key_fields(key))["outcome"] in ("landed", "unchanged")
        assert_landed(env, key, env.simulator.expected(key))
