"""How long a dead run is taken for a live one, by the app's own timer on the virtual clock: nobody fires it by hand.

`moments`: when within the timer's five minutes the run dies, just behind a pass and just before one included.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from local.azurite import Azurite
from shared.clock import parse_iso
from shared.ledger.claims import claim, create_run
from tests.durable.scene import BEHAVIOUR, export_request, lock_of
from tests.support.world import World

KEY = "unbilled_usage/2026-11/USD/full"
SOON = timedelta(minutes=10)
moments = pytest.mark.parametrize(
    "moment",
    [timedelta(seconds=1), timedelta(minutes=2), timedelta(minutes=4, seconds=59)],
    ids=str,
)


@pytest.fixture
def world(azurite: Azurite) -> Iterator[World]:
    slow = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=3_600)
    with World(azurite, behaviour=slow, timers=True) as world:
        yield world


def dying_run(world: World, moment: timedelta) -> str:
    run_id = world.start("unbilled_usage")
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    world.host.advance(timedelta(minutes=5) + moment)  # a World begins on a full hour
    return run_id


def assert_closed(world: World, run_id: str, code: str) -> None:
    run, lock = world.get(f"/api/runs/{run_id}"), lock_of(world, KEY)
    assert (
        (run["outcome"], run["code"]) == ("failed", code) and lock is not None and lock.run_id == ""
    )


@moments
def test_terminated_in_the_portal(world: World, moment: timedelta) -> None:
    run_id = dying_run(world, moment)
    world.host.terminate(run_id)
    world.host.advance(SOON)
    assert_closed(world, run_id, "terminated")


@moments
def test_lost_from_its_own_hub(world: World, moment: timedelta) -> None:
    run_id = dying_run(world, moment)
    world.host.terminate(run_id)
    world.host.wait(run_id)
    assert (
        world.host.request("DELETE", f"/runtime/webhooks/durabletask/instances/{run_id}").status
        == 200
    )
    world.host.advance(SOON)
    assert_closed(world, run_id, "run_lost")


@moments
def test_of_another_hub_when_its_lease_has_ended(world: World, moment: timedelta) -> None:
    request, ledger = export_request(world, KEY), world.app.ledger
    mine, ledger.hub = ledger.hub, "OtherHub"
    world.host.advance(moment)
    world.on_loop(claim(ledger, create_run(request, world.clock.now())))  # type: ignore[arg-type]
    ledger.hub = mine
    lock = lock_of(world, KEY)
    assert lock is not None and lock.hub == "OtherHub"
    lease = parse_iso(lock.lease_until)
    world.host.advance(lease - world.clock.now())
    assert world.run_row(request["run_id"]).outcome == ""  # it may live as long as its lease says
    world.host.advance(SOON)
    assert_closed(world, request["run_id"], "run_lost")
