"""Microsoft's 'slow down' is heard by all instances, for as long as it was meant."""

import asyncio

import pytest

from shared.errors import ThrottledError, UnavailableError
from shared.ledger.ledger import Ledger
from shared.ledger.throttle import DEFAULT_WAIT_SECONDS, Throttle
from tests.support.clocks import FakeClock


@pytest.fixture
def other(ledger: Ledger, clock: FakeClock) -> Throttle:
    """Another instance of the app."""
    return Throttle(ledger.tables, clock)


async def test_throttle_initially_has_no_wait(ledger: Ledger) -> None:
    assert await ledger.throttle.seconds_left() == 0


async def test_throttle_applies_to_all_instances(
    ledger: Ledger, other: Throttle, clock: FakeClock
) -> None:
    await ledger.throttle.pause(100)
    assert await ledger.throttle.seconds_left() == await other.seconds_left() == 100
    clock.advance(seconds=99.5)
    assert await ledger.throttle.seconds_left() == await other.seconds_left() == 1
    clock.advance(seconds=0.5)
    assert await ledger.throttle.seconds_left() == await other.seconds_left() == 0


async def test_throttle_of_other_instance_is_read_after_30_seconds(
    ledger: Ledger, other: Throttle, clock: FakeClock
) -> None:
    assert await other.seconds_left() == 0
    await ledger.throttle.pause(100)
    clock.advance(seconds=29)
    assert await other.seconds_left() == 0  # as read before
    clock.advance(seconds=1)
    assert await other.seconds_left() == 70


async def test_throttle_is_read_again_after_clock_moves_back(
    ledger: Ledger, other: Throttle, clock: FakeClock
) -> None:
    assert await other.seconds_left() == 0
    await ledger.throttle.pause(100)
    clock.advance(seconds=-5)
    assert await other.seconds_left() == 105


async def test_throttle_keeps_longer_wait(ledger: Ledger, other: Throttle) -> None:
    await ledger.throttle.pause(100)
    await other.pause(50)
    assert await ledger.throttle.seconds_left() == await other.seconds_left() == 100
    await other.pause(200)
    assert await other.seconds_left() == 200


async def test_throttle_concurrent_waits_keep_longest(ledger: Ledger, clock: FakeClock) -> None:
    await asyncio.gather(
        *(
            Throttle(ledger.tables, clock).pause(seconds)
            for seconds in (5, 3600, 60, 10, 1800, 1, 700)
        )
    )
    assert await Throttle(ledger.tables, clock).seconds_left() == 3600


async def test_throttle_is_shared_only_for_429(ledger: Ledger, other: Throttle) -> None:
    assert (
        await ledger.throttle.record_error(
            UnavailableError("graph_unavailable", retry_after_seconds=77)
        )
        == 77
    )
    assert await ledger.throttle.record_error(UnavailableError("graph_unavailable")) is None
    assert await other.seconds_left() == 0
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
