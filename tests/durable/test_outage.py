"""The tables are away in the middle of a run: a short outage is bridged by retries; a longer one ends the run and loses nothing.

Nothing of the app is replaced: requests to the table service end at the transport, as without a network, for a span of
virtual time. Microsoft and the landing container answer all along.
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
from tests.durable.scene import BEHAVIOUR, Call, around, assert_ended, assert_landed, lock_of
from tests.support.world import TestClock, World

ACTIVITY_RETRIES = timedelta(seconds=10)  # three attempts, 5 s apart (orchestrations/policies.py)
PASSES = timedelta(minutes=10)  # two of clean_up_orphaned_runs: within these a dead run is closed


class Outage(AioHttpTransport):
    """The table service's transport. Between `since` and `until` no request gets through; `refused` counts them."""

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
def world(azurite: Azurite, outage_of: dict[str, Outage]) -> Iterator[World]:
    def services(settings: Settings, clock: TestClock, locking: bool) -> Services:
        app, where = Services(settings, clock, locking), settings.landing_storage
        assert where is not None
        outage_of["tables"] = Outage(clock)
        tables = Tables(
            settings.landing_table_prefix,
            connection_string=where.get_secret_value(),
            transport=outage_of["tables"],
            retry_backoff_factor=0,
        )  # the SDK's own repeats wait in real time
        app._parts["ledger"] = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
        return app

    with World(
        azurite, services=services, behaviour=BEHAVIOUR, storage_proxy=True, timers=True
    ) as world:
        yield world


@pytest.fixture
def outage(world: World, outage_of: dict[str, Outage]) -> Outage:
    return outage_of["tables"]


def waiting(world: World) -> str:
    run_id = world.start("billed_usage")
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    return run_id


def reads_of(world: World, name: str) -> int:
    return sum(
        name in request.path and request.method == "GET"
        for request in world.simulator.storage_requests
    )


@pytest.mark.parametrize(
    "early", [timedelta(0), timedelta(seconds=3)], ids=["at the look", "before the look"]
)
def test_an_outage_that_the_retries_bridge_is_not_seen(
    world: World, outage: Outage, early: timedelta
) -> None:
    """It begins while the run waits, and its next look finds no tables twice."""
    run_id = waiting(world)
    look = parse_iso(world.run_row(run_id).next_check_at)
    outage.lasts(look - early, ACTIVITY_RETRIES - timedelta(seconds=1) + early)
    run = world.finish(run_id)
    assert outage.refused >= 2 and world.clock.now() > outage.until
    assert_ended(world, run, "landed")
    assert (run["posts"], run["operations"]) == (1, 1)
    assert_landed(world, run["key"], world.simulator.expected(run["key"]))


def test_while_they_are_away_the_api_says_so(world: World, outage: Outage) -> None:
    run_id = waiting(world)
    outage.lasts(world.clock.now(), timedelta(seconds=1))
    answer = world.host.request("GET", f"/api/runs/{run_id}")
    assert (
        answer.status == 503
        and answer.json()["code"] == "ledger_unavailable"
        and answer.header("Retry-After")
    )
    assert world.finish(run_id)["outcome"] == "landed"


def test_a_longer_outage_ends_the_run_and_the_next_copies_only_what_is_missing(
    world: World, outage: Outage
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
                    outage.lasts(world.clock.now(), timedelta(minutes=17))
                return result

        return called

    with around(world, "copy_blobs", one_by_one):
        run_id = world.start("billed_usage")
        ended = world.host.wait(run_id)
    assert copied == 2 and outage.refused >= 3
    assert (
        ended["runtimeStatus"] == "Failed" and world.clock.now() < outage.until
    )  # nobody could write how it ended
    asked = len(world.simulator.requests)
    world.host.advance(outage.until - world.clock.now())
    row = world.run_row(run_id)
    lock = lock_of(world, row.key)
    assert (
        row.outcome == "" and lock is not None and lock.run_id == run_id
    )  # passes in between could not close it

    world.host.advance(PASSES)
    run = world.get(f"/api/runs/{run_id}")
    assert_ended_by_the_timer(world, run)
    proven = [blob["name"] for blob in world.get(f"/api/runs/{run_id}/blobs?ok=true")["blobs"]]
    assert 2 == len(proven) == run["blobs"]["landed"] < run["blobs"]["total"]
    assert len(world.simulator.requests) == asked  # the dead run asks Microsoft for nothing more

    before = {name: reads_of(world, name) for name in proven}
    again = world.finish(world.post(f"/api/runs/{run_id}/retry")["run_id"])
    assert_ended(world, again, "landed")
    assert (
        again["version"] == run["version"]
        and {name: reads_of(world, name) for name in proven} == before
    )
    assert_landed(world, run["key"], world.simulator.expected(run["key"]))


def assert_ended_by_the_timer(world: World, run: dict[str, Any]) -> None:
    assert (run["outcome"], run["code"], run["stage"]) == (
        "failed",
        "platform_fault",
        "ended",
    ) and run["remedy"]
    lock = lock_of(world, run["key"])
    assert lock is not None and lock.run_id == ""
