"""Tests for retention in virtual time: what it deletes, what it keeps, and that it can resume."""

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


def run_retention(env: AppEnvironment) -> dict[str, int]:
    """Run the daily retention through its timer and return its counts."""
    day = env.clock.now().strftime("%Y-%m-%d")
    env.host.fire_timer("start_daily_retention")
    env.host.fire_timer("start_daily_retention")  # the second start has no effect
    status = env.host.wait(f"retention-{day}")
    assert status["runtimeStatus"] == "Completed", status
    return dict(status["output"])


def land_days(env: AppEnvironment, days: int) -> list[dict[str, Any]]:
    """Land one restated version per day."""
    runs = []
    for _ in range(days):
        run = env.land("unbilled_usage")
        assert run["outcome"] == "landed"
        runs.append(run)
        env.host.advance(timedelta(days=1))
        env.simulator.restate(KEY)
    return runs


def list_versions(env: AppEnvironment) -> set[str]:
    return {
        path.split("/version=")[1].split("/")[0]
        for path in env.landed_files()
        if path.startswith("data/")
    }


def test_retention_empty_app_deletes_nothing(env: AppEnvironment) -> None:
    counts = run_retention(env)
    assert counts == {
        "versions": 0,
        "versions_ended": 1,
        "plans": 0,
        "plans_ended": 1,
        "history": 0,
        "history_ended": 1,
        "tie_outs": 0,
        "tie_outs_ended": 1,
    }


def test_retention_old_versions_plans_and_history_deletes_only_these(env: AppEnvironment) -> None:
    runs = land_days(env, 4)
    assert any(path.startswith("runs/") for path in env.landed_files())
    counts = run_retention(env)
    assert counts["plans"] > 0 and not any(path.startswith("runs/") for path in env.landed_files())
    assert list_versions(env) == {run["version"] for run in runs[-2:]} and counts["versions"] > 0
    assert (
        json.loads(
            env.landed_files()[
                "catalogue/unbilled_usage/billing_month=2026-11/currency_code=USD/attribute_set=full"
                "/latest.json"
            ]
        )["version"]
        == runs[-1]["version"]
    )
    assert run_retention_next_day(env) == {"versions": 0, "plans": 0, "history": 0}
    env.host.advance(timedelta(days=20))
    assert run_retention_next_day(env)["history"] > 0
    assert all(env.host.status(run["run_id"]) is None for run in runs)
    for run in runs:
        # The ledger keeps the run.
        assert env.get(f"/api/runs/{run['run_id']}")["outcome"] == "landed"
    versions = env.on_loop(list_catalogued_versions(env))
    assert [version.state for version in versions] == ["pruned", "pruned", "complete", "complete"]


def run_retention_next_day(env: AppEnvironment) -> dict[str, int]:
    env.host.advance(timedelta(days=1))
    counts = run_retention(env)
    return {name: counts[name] for name in ("versions", "plans", "history")}


async def list_catalogued_versions(env: AppEnvironment) -> list[Any]:
    versions = [
        version async for version in env.app.ledger.versions.list_by_key(ExportKey.parse(KEY))
    ]
    return sorted(versions, key=lambda version: version.age)


def test_retention_old_blob_rows_keeps_the_version_complete(env: AppEnvironment) -> None:
    invoices = env.simulator.invoices()
    # The oldest invoice no longer changes.
    oldest_invoice_id = next(invoice.invoice_id for invoice in invoices if not invoice.legacy)
    run = env.land("billed_usage", invoice_id=oldest_invoice_id)
    assert env.get(f"/api/runs/{run['run_id']}/blobs")["blobs"]
    env.host.advance(timedelta(days=31))
    run_retention(env)
    assert env.get(f"/api/runs/{run['run_id']}/blobs")["blobs"] == []
    reads_before = len(env.simulator.storage_requests)
    again = env.land("billed_usage", invoice_id=oldest_invoice_id)
    assert again["outcome"] == "unchanged" and again["version"] == run["version"]
    assert len(env.simulator.storage_requests) == reads_before


def test_retention_live_run_keeps_its_plan_and_instance(env: AppEnvironment) -> None:
    env.simulator.behaviour = Behaviour(
        ready_after_polls=0, ready_after_seconds=23 * 3600, retry_after_seconds=23 * 3600
    )
    run_id = env.start("unbilled_usage")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    env.host.advance(timedelta(hours=20))
    run_retention(env)
    assert env.finish(run_id)["outcome"] == "landed"


def test_purge_history_after_failure_resumes_at_the_failed_day(env: AppEnvironment) -> None:
    purged_until = PurgedUntil(env.app.ledger.tables, env.app.ledger.hub)
    intervals: list[tuple[datetime, datetime]] = []
    purged_statuses: set[str] = set()

    class Client:
        async def purge_instance_history_by(
            self, created_time_from: datetime, created_time_to: datetime, runtime_status: list[Any]
        ) -> Any:
            intervals.append((created_time_from, created_time_to))
            purged_statuses.update(status.value for status in runtime_status)
            if len(intervals) == 3:
                raise OSError

            class Purged:
                instances_deleted = 1

            return Purged

    async def purge(day: str) -> Any:
        return await purging.purge_history._function.get_user_function().__wrapped__(
            request={"day": day}, client=Client()
        )

    def count_purges(day: str) -> int:
        steps = 0
        while True:
            steps += 1
            if not env.on_loop(purge(day))["more"]:
                return steps

    assert count_purges("2026-11-20") == 2  # all days before the cutoff, then its day
    with pytest.raises(InfrastructureError):
        count_purges("2026-11-23")
    # The failure did not change the progress.
    assert env.on_loop(purged_until.get()).isoformat() == "2026-11-05"
    assert count_purges("2026-11-23") == 3
    assert env.on_loop(purged_until.get()).isoformat() == "2026-11-08"
    assert all(
        after[0] - before[1] <= timedelta(milliseconds=1) for before, after in pairwise(intervals)
    )
    # Running, pending and suspended orchestrations are kept, regardless of their age.
    assert purged_statuses == {"Completed", "Failed", "Terminated", "Canceled"}
