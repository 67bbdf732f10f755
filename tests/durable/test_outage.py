"""The tables are away in the middle of a run: a short outage is bridged by retries; a longer one ends the run and loses nothing.

Nothing of the app is replaced: requests to the table service end at the transport, as without a
network, for a span of virtual time. Microsoft and the landing container answer all along.
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
PASSES = timedelta(minutes=10)  # two of clean_up_orphaned_runs: within these a dead run is closed


class Outage(AioHttpTransport):
    """The table service's transport.

    Between `since` and `until` no request gets through; `refused` counts them.
    """

    def __init__(self, clock: TestClock) -> None:
        super().__init__()
        self._clock = clock
        self.since = self.until = datetime.max.replace(tzinfo=clock.now().tzinfo)
        self.refused = 0

    def lasts(self, since: datetime, how_long: timedelta) -> None:
        self.since, self.until = since, since + how_long

    async def send(self, request: Any, **config: Any) -> Any:
        if self.since <= self._clock.now() < self.until:
            self.refused += 1
            raise ServiceRequestError("no route to the tables")
        return await super().send(request, **config)


@pytest.fixture
def outage_of() -> dict[str, Outage]:
    return {}


@pytest.fixture
def env(azurite: Azurite, outage_of: dict[str, Outage]) -> Iterator[AppEnvironment]:
    def create_services(settings: Settings, clock: TestClock, locking: bool) -> Services:
        where = settings.landing_storage
        assert where is not None
        outage_of["tables"] = Outage(clock)
        tables = Tables(
            settings.landing_table_prefix,
            connection_string=where.get_secret_value(),
            transport=outage_of["tables"],
            retry_backoff_factor=0,
        )  # the SDK's own repeats wait in real time
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
def outage(env: AppEnvironment, outage_of: dict[str, Outage]) -> Outage:
    return outage_of["tables"]


def waiting(env: AppEnvironment) -> str:
    run_id = env.start("billed_usage")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    return run_id


def reads_of(env: AppEnvironment, name: str) -> int:
    return sum(
        name in request.path and request.method == "GET"
        for request in env.simulator.storage_requests
    )


@pytest.mark.parametrize(
    "early", [timedelta(0), timedelta(seconds=3)], ids=["at the look", "before the look"]
)
def test_an_outage_that_the_retries_bridge_is_not_seen(
    env: AppEnvironment, outage: Outage, early: timedelta
) -> None:
    """It begins while the run waits, and its next look finds no tables twice."""
    run_id = waiting(env)
    look = parse_iso(env.run_row(run_id).next_check_at)
    outage.lasts(look - early, ACTIVITY_RETRIES - timedelta(seconds=1) + early)
    run = env.finish(run_id)
    assert outage.refused >= 2 and env.clock.now() > outage.until
    assert_ended(env, run, "landed")
    assert (run["posts"], run["operations"]) == (1, 1)
    assert_landed(env, run["key"], env.simulator.expected(run["key"]))


def test_while_they_are_away_the_api_says_so(env: AppEnvironment, outage: Outage) -> None:
    run_id = waiting(env)
    outage.lasts(env.clock.now(), timedelta(seconds=1))
    answer = env.host.request("GET", f"/api/runs/{run_id}")
    assert (
        answer.status == 503
        and answer.json()["code"] == "ledger_unavailable"
        and answer.header("Retry-After")
    )
    assert env.finish(run_id)["outcome"] == "landed"


def test_a_longer_outage_ends_the_run_and_the_next_copies_only_what_is_missing(
    env: AppEnvironment, outage: Outage
) -> None:
    """It begins while blobs are copied, and lasts over passes of the timer that closes dead runs."""
    copied = 0

    def one_by_one(call: Call) -> Call:
        turn = asyncio.Lock()

        async def called(**arguments: Any) -> Any:
            nonlocal copied
            async with turn:
                result = await call(**arguments)
                copied += 1
                if copied == 2:
                    outage.lasts(env.clock.now(), timedelta(minutes=17))
                return result

        return called

    with wrap_function(env, "copy_blobs", one_by_one):
        run_id = env.start("billed_usage")
        ended = env.host.wait(run_id)
    assert copied == 2 and outage.refused >= 3
    assert (
        ended["runtimeStatus"] == "Failed" and env.clock.now() < outage.until
    )  # nobody could write how it ended
    asked = len(env.simulator.requests)
    env.host.advance(outage.until - env.clock.now())
    row = env.run_row(run_id)
    lock = get_lock(env, row.key)
    assert (
        row.outcome == "" and lock is not None and lock.run_id == run_id
    )  # passes in between could not close it

    env.host.advance(PASSES)
    run = env.get(f"/api/runs/{run_id}")
    assert_ended_by_the_timer(env, run)
    proven = [blob["name"] for blob in env.get(f"/api/runs/{run_id}/blobs?ok=true")["blobs"]]
    assert 2 == len(proven) == run["blobs"]["landed"] < run["blobs"]["total"]
    assert len(env.simulator.requests) == asked  # the dead run asks Microsoft for nothing more

    before = {name: reads_of(env, name) for name in proven}
    again = env.finish(env.post(f"/api/runs/{run_id}/retry")["run_id"])
    assert_ended(env, again, "landed")
    assert (
        again["version"] == run["version"]
        and {name: reads_of(env, name) for name in proven} == before
    )
    assert_landed(env, run["key"], env.simulator.expected(run["key"]))


def assert_ended_by_the_timer(env: AppEnvironment, run: dict[str, Any]) -> None:
    assert (run["outcome"], run["code"], run["stage"]) == (
        "failed",
        "platform_fault",
        "ended",
    ) and run["remedy"]
    lock = get_lock(env, run["key"])
    assert lock is not None and lock.run_id == ""
