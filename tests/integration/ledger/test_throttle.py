"""Throttling: all instances of the app wait for the time that Microsoft requests."""

import asyncio

import pytest

from shared.errors import ThrottledError, UnavailableError
from shared.ledger.ledger import Ledger
from shared.ledger.throttle import DEFAULT_WAIT_SECONDS, Throttle
from tests.support.clocks import FakeClock


@pytest.fixture
def other_throttle(ledger: Ledger, clock: FakeClock) -> Throttle:
    """Return the throttle of another instance of the app."""
    return Throttle(ledger.tables, clock)


async def test_throttle_initially_has_no_wait(ledger: Ledger) -> None:
    assert await ledger.throttle.seconds_left() == 0


async def test_throttle_applies_to_all_instances(
    ledger: Ledger, other_throttle: Throttle, clock: FakeClock
) -> None:
    await ledger.throttle.pause(100)
    assert await ledger.throttle.seconds_left() == await other_throttle.seconds_left() == 100
    clock.advance(seconds=99.5)
    assert await ledger.throttle.seconds_left() == await other_throttle.seconds_left() == 1
    clock.advance(seconds=0.5)
    assert await ledger.throttle.seconds_left() == await other_throttle.seconds_left() == 0


async def test_throttle_of_other_instance_is_read_after_30_seconds(
    ledger: Ledger, other_throttle: Throttle, clock: FakeClock
) -> None:
    assert await other_throttle.seconds_left() == 0
    await ledger.throttle.pause(100)
    clock.advance(seconds=29)
    assert await other_throttle.seconds_left() == 0  # the cached value
    clock.advance(seconds=1)
    assert await other_throttle.seconds_left() == 70


async def test_throttle_is_read_again_after_clock_moves_back(
    ledger: Ledger, other_throttle: Throttle, clock: FakeClock
) -> None:
    assert await other_throttle.seconds_left() == 0
    await ledger.throttle.pause(100)
    clock.advance(seconds=-5)
    assert await other_throttle.seconds_left() == 105


async def test_throttle_keeps_longer_wait(ledger: Ledger, other_throttle: Throttle) -> None:
    await ledger.throttle.pause(100)
    await other_throttle.pause(50)
    assert await ledger.throttle.seconds_left() == await other_throttle.seconds_left() == 100
    await other_throttle.pause(200)
    assert await other_throttle.seconds_left() == 200


async def test_throttle_concurrent_waits_keep_longest(ledger: Ledger, clock: FakeClock) -> None:
    await asyncio.gather(
        *(
            Throttle(ledger.tables, clock).pause(seconds)
            for seconds in (5, 3600, 60, 10, 1800, 1, 700)
        )
    )
    assert await Throttle(ledger.tables, clock).seconds_left() == 3600


async def test_throttle_is_shared_only_for_429(ledger: Ledger, other_throttle: Throttle) -> None:
    assert (
        await ledger.throttle.record_error(
            UnavailableError("graph_unavailable", retry_after_seconds=77)
        )
        == 77
    )
    assert await ledger.throttle.record_error(UnavailableError("graph_unavailable")) is None
    assert await other_throttle.seconds_left() == 0
    assert (
        await ledger.throttle.record_error(ThrottledError("graph_throttled", retry_after_seconds=0))
        == 0
    )
    assert (
        await ledger.throttle.record_error(
            ThrottledError("graph_throttled", retry_after_seconds=20)
        )
        == 20
    )
    assert await ledger.throttle.seconds_left() == 20
    assert (
        await ledger.throttle.record_error(ThrottledError("graph_throttled"))
        == DEFAULT_WAIT_SECONDS
        == await ledger.throttle.seconds_left()
    )
