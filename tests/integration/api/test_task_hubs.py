"""Two deployments with different task hubs share a landing account and its locks."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from local.simulator.behaviour import Behaviour
from shared.exports import ExportKey
from shared.ledger.claims import claim, create_run
from shared.ledger.keys import random_suffix, run_id
from shared.ledger.outcomes import close_run
from shared.messages import RunRequest, RunResult
from shared.planning.due import run_limits
from shared.services import Services
from shared.settings import load_settings
from tests.support.app_environment import AppEnvironment
from tests.support.fake_engine import close_orphans

KEY = "unbilled_usage/2026-11/USD/full"
LEASE = timedelta(hours=1)
CLEANUP_INTERVAL = timedelta(minutes=5)


@pytest.fixture
def other_app(env: AppEnvironment) -> Iterator[Services]:
    """The services of a second deployment."""
    settings = load_settings({**env.environment(), "TASK_HUB_NAME": "Other"})
    app = Services(settings, env.app.clock)
    yield app
    env.on_loop(app.close())


def make_run_request(env: AppEnvironment, app: Services) -> RunRequest:
    now = env.clock.now()
    return {
        "run_id": run_id(ExportKey.parse(KEY), now, random_suffix()),
        "key": KEY,
        "force": False,
        "limits": run_limits(app.settings, now),
    }


def test_claim_concurrent_requests_of_two_hubs_one_succeeds(
    env: AppEnvironment, other_app: Services
) -> None:
    async def claim_concurrently() -> list[Any]:
        apps = [env.app] * 25 + [other_app] * 25
        runs = [create_run(make_run_request(env, app), env.clock.now()) for app in apps]
        return await asyncio.gather(
            *(
                claim(app.ledger, run, leave_trace=False)
                for app, run in zip(apps, runs, strict=True)
            )
        )

    results = env.on_loop(claim_concurrently())
    assert sorted(result["status"] for result in results) == ["claimed"] + ["superseded"] * 49
    lock = env.on_loop(env.app.ledger.locks.get(KEY))
    assert lock is not None
    assert {result.get("live_run_id", lock.run_id) for result in results} == {lock.run_id}
    cancelled: RunResult = {"outcome": "cancelled", "code": "cancelled"}
    env.on_loop(close_run(env.app.ledger, lock.run_id, cancelled))


def test_run_of_another_hub_is_live_until_its_lease_expires(
    env: AppEnvironment, other_app: Services
) -> None:
    request = make_run_request(env, other_app)
    run_id = request["run_id"]
    env.on_loop(claim(other_app.ledger, create_run(request, env.clock.now())))
    response = env.post(
        "/api/runs",
        {"dataset": "unbilled_usage", "billing_month": "current", "currency_code": "USD"},
    )
    assert (response["started"], response["run_id"]) == (False, run_id)
    live_runs = env.get("/api/status")["live_runs"]
    assert [run["task_hub"] for run in live_runs] == ["Other"]

    env.host.advance(LEASE - timedelta(minutes=1))
    assert env.on_loop(close_orphans(env.app.ledger, "unknown")) == []
    env.host.advance(CLEANUP_INTERVAL + timedelta(minutes=1))
    assert env.on_loop(close_orphans(env.app.ledger, "unknown")) == [run_id]
    run = env.get(f"/api/runs/{run_id}")
    assert (run["outcome"], run["code"]) == ("failed", "run_lost")
    assert run["remedy"]
    env.simulator.behaviour = Behaviour(ready_after_polls=0)
    assert env.land("unbilled_usage")["outcome"] == "landed"
