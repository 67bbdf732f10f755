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
from tests.integration.api.request_counter import RequestCounter, create_counted_environment
from tests.support.app_environment import AppEnvironment

SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)


@pytest.fixture
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with AppEnvironment(
        azurite, behaviour=SLOW, EXPORT_DATASETS="unbilled_usage", EXPORT_PARALLELISM="2"
    ) as env:
        yield env


def get_resource(env: AppEnvironment, path: str, etag: str = "") -> Any:
    headers = {"If-None-Match": etag} if etag else {}
    return env.host.request("GET", path, headers=headers)


def start_resource(env: AppEnvironment, collection: str) -> str:
    """Start a cycle or a backfill, wait until its first runs poll, and return its path."""
    body = {} if collection == "cycles" else {"from": "2026-10", "to": "2026-11"}
    resource_id = env.post(f"/api/{collection}", body)[f"{collection[:-1]}_id"]
    rows = getattr(env.app.ledger, collection)

    def is_polling() -> bool:
        run_ids = env.on_loop(rows.get(resource_id)).runs
        runs = [env.on_loop(env.app.ledger.runs.get(run_id)) for run_id in run_ids]
        return bool(runs) and all(run is not None and run.polls >= 1 for run in runs)

    env.host.run_until(lambda: is_polling() or None)
    return f"/api/{collection}/{resource_id}"


def cancel_first_run(env: AppEnvironment, path: str) -> None:
    run_id = env.get(path)["runs"][0]["run_id"]
    env.post(f"/api/runs/{run_id}/cancel")
    env.host.run_until(lambda: env.run_row(run_id).outcome or None)


@pytest.mark.parametrize("collection", ["cycles", "backfills"])
def test_get_known_etag_returns_304_until_a_run_changes(
    env: AppEnvironment, collection: str
) -> None:
    path = start_resource(env, collection)
    first = get_resource(env, path)
    etag = first.header("ETag") or ""
    assert first.status == 200
    assert etag.startswith('"')
    assert first.header("Cache-Control") == "private, no-cache"

    unchanged = get_resource(env, path, f"W/{etag}")
    assert (unchanged.status, unchanged.body, unchanged.header("ETag")) == (304, b"", etag)
    assert unchanged.header("Retry-After") == first.header("Retry-After") == "5"

    cancel_first_run(env, path)  # changes a run row, not the row of the resource
    changed = get_resource(env, path, etag)
    assert changed.status == 200
    assert changed.header("ETag") != etag

    env.simulator.behaviour = replace(SLOW, ready_after_seconds=0)
    env.host.wait(path.rsplit("/", 1)[-1])
    ended = get_resource(env, path, changed.header("ETag") or "")
    assert ended.status == 200
    assert ended.json()["state"] == "ended"
    assert ended.header("Retry-After") is None
    env.host.advance(timedelta(hours=1))
    assert get_resource(env, path, ended.header("ETag") or "").status == 304


def test_get_backfill_etag_does_not_change_with_time(env: AppEnvironment) -> None:
    path = start_resource(env, "backfills")
    cancel_first_run(env, path)
    first = get_resource(env, path)
    assert first.json()["waiting"] == 1
    assert first.json()["estimated_end"]
    env.host.advance(timedelta(seconds=5))
    assert get_resource(env, path, first.header("ETag") or "").status == 304


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
    with create_counted_environment(azurite, request_counter) as env:
        ledger = env.app.ledger
        env.on_loop(ledger.cycles.insert(Cycle(cycle_id, "starting", "2026-11-20T05:00:00Z")))
        env.on_loop(ledger.cycles.save_plan(cycle_id, list(run_ids.values())))
        env.on_loop(
            ledger.cycles.save_result(cycle_id, {"unchanged": 1_500}, "2026-11-20T06:00:00Z")
        )
        env.on_loop(ledger.tables.upsert_many("runs", "202611", rows))
        request_counter.reset()
        cycle = env.get(f"/api/cycles/{cycle_id}")
        assert [run["run_id"] for run in cycle["runs"]] == list(run_ids.values())
        assert cycle["outcome"] == "complete"
        assert dict(request_counter.seen) == {"GET runs": 3}
