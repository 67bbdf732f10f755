"""Outages of the table service during a run.

Retries cover a short outage. A longer outage ends the run without data loss. The tests do not
replace any part of the app: for a period of virtual time, the transport rejects all requests to the
table service. The Microsoft services and the landing container remain available.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import AioHttpTransport

from local.azurite import Azurite
from shared.clock import parse_iso
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.services import Services
from shared.settings import Settings
from tests.support.app_environment import AppEnvironment, TestClock
from tests.support.hooked_environment import BEHAVIOUR, Call, wrap_function
from tests.support.run_state import assert_ended, assert_landed, get_lock

ACTIVITY_RETRIES = timedelta(seconds=10)  # three attempts, 5 s apart (orchestrations/policies.py)
CLEANUP_INTERVALS = timedelta(minutes=10)  # two intervals of clean_up_orphaned_runs


class Outage(AioHttpTransport):
    """The transport for the table service.

    It rejects each request between `since` and `until` and counts the rejected requests.
    """

    def __init__(self, clock: TestClock) -> None:
        super().__init__()
        self._clock = clock
        self.since = self.until = datetime.max.replace(tzinfo=clock.now().tzinfo)
        self.rejected = 0

    def schedule(self, since: datetime, duration: timedelta) -> None:
        self.since, self.until = since, since + duration

    async def send(self, request: Any, **config: Any) -> Any:
        if self.since <= self._clock.now() < self.until:
            self.rejected += 1
            raise ServiceRequestError("The table service is unreachable.")
        return await super().send(request, **config)


@pytest.fixture
def outages() -> dict[str, Outage]:
    return {}


@pytest.fixture
def env(azurite: Azurite, outages: dict[str, Outage]) -> Iterator[AppEnvironment]:
    def create_services(settings: Settings, clock: TestClock, locking: bool) -> Services:
        storage = settings.landing_storage
        assert storage is not None
        outages["tables"] = Outage(clock)
        tables = Tables(
            settings.landing_table_prefix,
            connection_string=storage.get_secret_value(),
            transport=outages["tables"],
            retry_backoff_factor=0,  # no backoff, because the SDK waits in real time
        )
        ledger = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
        return Services(settings, clock, locking, overrides={"ledger": lambda app: ledger})

    with AppEnvironment(
        azurite,
        services_factory=create_services,
        behaviour=BEHAVIOUR,
        storage_proxy=True,
        timers=True,
    ) as env:
        yield env


@pytest.fixture
def outage(env: AppEnvironment, outages: dict[str, Outage]) -> Outage:
    return outages["tables"]


def start_waiting_run(env: AppEnvironment) -> str:
    run_id = env.start("billed_usage")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    return run_id


def count_reads(env: AppEnvironment, name: str) -> int:
    return sum(
        name in request.path and request.method == "GET"
        for request in env.simulator.storage_requests
    )


@pytest.mark.parametrize(
    "early", [timedelta(0), timedelta(seconds=3)], ids=["at_poll", "before_poll"]
)
def test_run_with_outage_shorter_than_retries_lands(
    env: AppEnvironment, outage: Outage, early: timedelta
) -> None:
    """The outage begins while the run waits, and the next poll fails twice."""
    run_id = start_waiting_run(env)
    next_poll = parse_iso(env.run_row(run_id).next_check_at)
    outage.schedule(next_poll - early, ACTIVITY_RETRIES - timedelta(seconds=1) + early)
    run = env.finish(run_id)
    assert outage.rejected >= 2 and env.clock.now() > outage.until
    assert_ended(env, run, "landed")
    assert (run["posts"], run["operations"]) == (1, 1)
    assert_landed(env, run["key"], env.simulator.expected(run["key"]))


def test_get_run_during_outage_returns_503(env: AppEnvironment, outage: Outage) -> None:
    run_id = start_waiting_run(env)
    outage.schedule(env.clock.now(), timedelta(seconds=1))
    response = env.host.request("GET", f"/api/runs/{run_id}")
    assert (
        response.status == 503
        and response.json()["code"] == "ledger_unavailable"
        and response.header("Retry-After")
    )
    assert env.finish(run_id)["outcome"] == "landed"


def test_run_started_again_after_long_outage_copies_only_missing_blobs(
    env: AppEnvironment, outage: Outage
) -> None:
    """The outage begins during the copy and lasts for several intervals of the cleanup timer."""
    copied = 0

    def copy_one_at_a_time(call: Call) -> Call:
        copy_lock = asyncio.Lock()

        async def copy(**arguments: Any) -> Any:
            nonlocal copied
            async with copy_lock:
                result = await call(**arguments)
                copied += 1
                if copied == 2:
                    outage.schedule(env.clock.now(), timedelta(minutes=17))
                return result

        return copy

    with wrap_function(env, "copy_blobs", copy_one_at_a_time):
        run_id = env.start("billed_usage")
        ended = env.host.wait(run_id)
    assert copied == 2 and outage.rejected >= 3
    # The app could not record the outcome.
    assert ended["runtimeStatus"] == "Failed" and env.clock.now() < outage.until
    env.host.advance(outage.until - env.clock.now())
    row = env.run_row(run_id)
    lock = get_lock(env, row.key)
    # The cleanup timer could not start the run again during the outage.
    assert row.outcome == "" and lock is not None and lock.run_id == run_id
    verified_blobs = [
        blob["name"] for blob in env.get(f"/api/runs/{run_id}/blobs?ok=true")["blobs"]
    ]
    assert len(verified_blobs) == 2
    reads_before = {name: count_reads(env, name) for name in verified_blobs}

    env.host.advance(CLEANUP_INTERVALS)
    env.host.wait(f"{run_id}~restart-1")
    run = env.get(f"/api/runs/{run_id}")
    assert (run["outcome"], run["code"], run["stage"]) == ("landed", None, "ended")
    assert (run["posts"], run["operations"]) == (1, 1) and run["blobs"]["total"] > 2
    assert {name: count_reads(env, name) for name in verified_blobs} == reads_before
    assert_landed(env, run["key"], env.simulator.expected(run["key"]))
    lock = get_lock(env, run["key"])
    assert lock is not None and lock.run_id == ""
