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
from tests.support.app_environment import AppEnvironment

KEY = "unbilled_usage/2026-11/USD/full"


@pytest.fixture
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    quick = Behaviour(ready_after_polls=0)
    with AppEnvironment(
        azurite,
        start=datetime(2026, 11, 2, 6, tzinfo=UTC),
        behaviour=quick,
        KEEP_VERSIONS_UNBILLED="2",
        PRUNE_GRACE_HOURS="24",
        HISTORY_DAYS="15",
        BLOB_ROW_DAYS="30",
    ) as env:
        yield env


def retain(env: AppEnvironment) -> dict[str, int]:
    """The day's retention, by its timer; what it did."""
    day = env.clock.now().strftime("%Y-%m-%d")
    env.host.fire_timer("start_daily_retention")
    env.host.fire_timer("start_daily_retention")  # twice is once
    status = env.host.wait(f"retention-{day}")
    assert status["runtimeStatus"] == "Completed", status
    return dict(status["output"])


def land_days(env: AppEnvironment, days: int) -> list[dict[str, Any]]:
    """One restated version a day."""
    runs = []
    for _ in range(days):
        run = env.land("unbilled_usage")
        assert run["outcome"] == "landed"
        runs.append(run)
        env.host.advance(timedelta(days=1))
        env.simulator.restate(KEY)
    return runs


def folders(env: AppEnvironment) -> set[str]:
    return {
        path.split("/version=")[1].split("/")[0]
        for path in env.landed_files()
        if path.startswith("data/")
    }


def test_the_first_day_of_an_empty_app(env: AppEnvironment) -> None:
    done = retain(env)
    assert done == {
        "versions": 0,
        "versions_ended": 1,
        "plans": 0,
        "plans_ended": 1,
        "history": 0,
        "history_ended": 1,
    }


def test_old_versions_plans_and_history_go_and_the_rest_stays(env: AppEnvironment) -> None:
    runs = land_days(env, 4)
    assert any(path.startswith("runs/") for path in env.landed_files())
    done = retain(env)
    assert done["plans"] > 0 and not any(path.startswith("runs/") for path in env.landed_files())
    assert folders(env) == {run["version"] for run in runs[-2:]} and done["versions"] > 0
    assert (
        json.loads(
            env.landed_files()[
                "catalogue/unbilled_usage/billing_month=2026-11/currency_code=USD/attribute_set=full"
                "/latest.json"
            ]
        )["version"]
        == runs[-1]["version"]
    )
    assert retain_again(env) == {"versions": 0, "plans": 0, "history": 0}
    env.host.advance(timedelta(days=20))
    assert retain_again(env)["history"] > 0
    assert all(env.host.status(run["run_id"]) is None for run in runs)
    for run in runs:
        assert env.get(f"/api/runs/{run['run_id']}")["outcome"] == "landed"  # the ledger remembers
    versions = env.on_loop(all_versions(env))
    assert [version.state for version in versions] == ["pruned", "pruned", "complete", "complete"]


def retain_again(env: AppEnvironment) -> dict[str, int]:
    env.host.advance(timedelta(days=1))
    done = retain(env)
    return {name: done[name] for name in ("versions", "plans", "history")}


async def all_versions(env: AppEnvironment) -> list[Any]:
    found = [version async for version in env.app.ledger.versions.list_by_key(ExportKey.parse(KEY))]
    return sorted(found, key=lambda version: version.age)


def test_old_blob_rows_go_and_their_version_is_still_known_to_be_whole(env: AppEnvironment) -> None:
    invoices = env.simulator.invoices()
    settled = next(
        invoice.invoice_id for invoice in invoices if not invoice.legacy
    )  # the oldest: it changes no more
    run = env.land("billed_usage", invoice_id=settled)
    assert env.get(f"/api/runs/{run['run_id']}/blobs")["blobs"]
    env.host.advance(timedelta(days=31))
    retain(env)
    assert env.get(f"/api/runs/{run['run_id']}/blobs")["blobs"] == []
    asked = len(env.simulator.storage_requests)
    again = env.land("billed_usage", invoice_id=settled)
    assert again["outcome"] == "unchanged" and again["version"] == run["version"]
    assert len(env.simulator.storage_requests) == asked


def test_a_live_run_keeps_its_plan_and_its_instance(env: AppEnvironment) -> None:
    env.simulator.behaviour = Behaviour(
        ready_after_polls=0, ready_after_seconds=23 * 3600, retry_after_seconds=23 * 3600
    )
    run_id = env.start("unbilled_usage")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    env.host.advance(timedelta(hours=20))
    retain(env)
    assert env.finish(run_id)["outcome"] == "landed"


def test_history_goes_day_by_day_and_on_where_it_stopped(env: AppEnvironment) -> None:
    done = PurgedUntil(env.app.ledger.tables, env.app.ledger.hub)
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
            if not env.on_loop(purge(day))["more"]:
                return steps

    assert until_done("2026-11-20") == 2  # all before the edge's day, then that day
    with pytest.raises(InfrastructureError):
        until_done("2026-11-23")
    assert env.on_loop(done.get()).isoformat() == "2026-11-05"  # as far as it came
    assert until_done("2026-11-23") == 3
    assert env.on_loop(done.get()).isoformat() == "2026-11-08"
    assert all(
        after[0] - before[1] <= timedelta(milliseconds=1) for before, after in pairwise(slices)
    )
