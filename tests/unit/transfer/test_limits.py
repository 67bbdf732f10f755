"""The limits that all copies in a process share."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.transfer.limits import BytesInFlight, run_concurrently
from shared.transfer.stream import split_blocks


async def test_bytes_in_flight_acquire_grants_in_order() -> None:
    in_flight = BytesInFlight(10)
    order: list[str] = []

    async def use(name: str, size: int) -> None:
        acquired = await in_flight.acquire(size)
        order.append(name)
        await asyncio.sleep(0)
        in_flight.release(acquired)

    held = await in_flight.acquire(6)
    waiting = [
        asyncio.create_task(use(*arguments))
        for arguments in (("big", 9), ("small", 1), ("huge", 99))
    ]
    await asyncio.sleep(0)
    assert order == []  # the small request would fit, but must wait for its turn
    in_flight.release(held)
    await asyncio.gather(*waiting)
    assert order == ["big", "small", "huge"] and await in_flight.acquire(10) == 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3), st.booleans()), max_size=20))
async def test_bytes_in_flight_after_cancellations_releases_everything(
    users: list[tuple[int, int, bool]],
) -> None:
    in_flight = BytesInFlight(10)
    held = 0

    async def use(size: int, turns: int) -> None:
        nonlocal held
        acquired = await in_flight.acquire(size)
        held += acquired
        try:
            assert held <= 10
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            held -= acquired
            in_flight.release(acquired)

    tasks = []
    for size, turns, cancel in users:
        tasks.append(asyncio.create_task(use(size, turns)))
        if cancel:
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[len(tasks) // 2].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert held == 0 and await asyncio.wait_for(in_flight.acquire(10), 1) == 10


async def test_run_concurrently_with_an_error_raises_it_and_cancels_the_others() -> None:
    cancelled = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(True)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("k")

    with pytest.raises(KeyError):
        await run_concurrently(wait(), run_concurrently(fail(), wait()))
    assert cancelled == [True, True]


@given(st.integers(0, 1000), st.integers(1, 100))
def test_split_blocks_any_size_covers_every_byte_once(size: int, block: int) -> None:
    blocks = split_blocks(size, block)
    assert sum(length for _, length in blocks) == size and all(
        0 < length <= block for _, length in blocks
    )
    assert [start for start, _ in blocks] == list(range(0, size, block))
