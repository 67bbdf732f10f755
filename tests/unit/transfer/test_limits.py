import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.transfer.limits import BytesInFlight, together
from shared.transfer.stream import blocks_of


async def test_first_come_first_served() -> None:
    bytes_ = BytesInFlight(10)
    order: list[str] = []

    async def use(name: str, size: int) -> None:
        taken = await bytes_.take(size)
        order.append(name)
        await asyncio.sleep(0)
        bytes_.give(taken)

    held = await bytes_.take(6)
    waiting = [asyncio.create_task(use(*what)) for what in (("big", 9), ("small", 1), ("huge", 99))]
    await asyncio.sleep(0)
    assert order == []  # the small one would fit, but does not overtake
    bytes_.give(held)
    await asyncio.gather(*waiting)
    assert order == ["big", "small", "huge"] and await bytes_.take(10) == 10


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3), st.booleans()), max_size=20))
async def test_nothing_leaks_whoever_is_cancelled_when(users: list[tuple[int, int, bool]]) -> None:
    bytes_ = BytesInFlight(10)
    held = 0

    async def use(size: int, turns: int) -> None:
        nonlocal held
        taken = await bytes_.take(size)
        held += taken
        try:
            assert held <= 10
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            held -= taken
            bytes_.give(taken)

    tasks = []
    for size, turns, cancel in users:
        tasks.append(asyncio.create_task(use(size, turns)))
        if cancel:
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[len(tasks) // 2].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert held == 0 and await asyncio.wait_for(bytes_.take(10), 1) == 10


async def test_the_first_error_is_raised_as_it_is_and_ends_the_others() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def wrong() -> None:
        await asyncio.sleep(0)
        raise KeyError("k")

    with pytest.raises(KeyError):
        await together(long(), together(wrong(), long()))
    assert ended == [True, True]


@given(st.integers(0, 1000), st.integers(1, 100))
def test_blocks_cover_all_and_nothing_twice(size: int, block: int) -> None:
    blocks = blocks_of(size, block)
    assert sum(length for _, length in blocks) == size and all(
        0 < length <= block for _, length in blocks
    )
    assert [start for start, _ in blocks] == list(range(0, size, block))
