"""Back-pressure and the circuit on a clock that only sleeping moves."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RequestRefusedError, ThrottledError, UnavailableError
from shared.transfer.circuit_breaker import (
    LONGEST_OPEN_SECONDS,
    OPEN_SECONDS,
    REFUSALS,
    CircuitBreakers,
    CircuitOpenError,
)
from shared.transfer.concurrency_limiter import BUSY_PAUSES, PATIENCE, ConcurrencyLimiter


class SleptClock:
    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 11, 8, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> SleptClock:
    return SleptClock()


def pressure_of(clock: SleptClock, most: int = 64) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(clock, most=most, sleep=clock.sleep)


def answers(*said: Exception | str) -> Callable[[], Awaitable[str]]:
    """One after another."""
    left = list(said)

    async def ask() -> str:
        await asyncio.sleep(0)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def busy(seconds: int | None = None) -> ThrottledError:
    return ThrottledError("storage_busy", retry_after_seconds=seconds)


async def test_a_busy_answer_halves_the_limit_and_landings_raise_it_again(
    clock: SleptClock,
) -> None:
    pressure, repeats = pressure_of(clock), list[int]()
    assert await pressure.persist(answers(busy(), "done"), lambda: repeats.append(1)) == "done"
    assert pressure.limit == 32 and len(repeats) == 1
    landings = 0
    while pressure.limit < 64:
        pressure.landed()
        landings += 1
    assert 32 / 2 * 32 < landings < 64 / 2 * 64  # two more with every round of blobs
    pressure.landed()
    assert pressure.limit == 64


async def test_what_was_under_way_together_is_one_sign(clock: SleptClock) -> None:
    pressure = pressure_of(clock)
    await asyncio.gather(
        *(pressure.persist(answers(busy(), "done"), lambda: None) for _ in range(40))
    )
    assert pressure.limit == 32
    for _ in range(20):
        await pressure.persist(answers(busy(), "done"), lambda: None)
    assert pressure.limit == 1  # and never less: something must find out that it is over


@pytest.mark.parametrize("asked", [None, 0, 5, 10])
async def test_the_wait_is_what_storage_asked_for_or_more(
    clock: SleptClock, asked: int | None
) -> None:
    await pressure_of(clock).persist(answers(busy(asked), busy(asked), "done"), lambda: None)
    assert len(clock.slept) == 2 and all(
        (asked or 0) < one <= (asked or 0) + BUSY_PAUSES[1] for one in clock.slept
    )


async def test_a_long_wait_is_not_an_activitys(clock: SleptClock) -> None:
    """It is raised at once, and whoever comes within it is told how much of it is left; then all goes on."""
    pressure = pressure_of(clock)
    with pytest.raises(ThrottledError) as said:
        await pressure.persist(answers(busy(300)), lambda: None)
    assert said.value.retry_after_seconds == 300 and clock.slept == []
    clock.seconds += 100
    with pytest.raises(ThrottledError) as said:
        async with pressure.slot():
            pytest.fail("storage was asked")
    assert said.value.retry_after_seconds == 200
    clock.seconds += 200 - PATIENCE + 1
    async with pressure.slot():
        assert clock.slept == [pytest.approx(PATIENCE - 1)]


async def test_a_storage_that_stays_busy_is_given_up(clock: SleptClock) -> None:
    with pytest.raises(ThrottledError):
        await pressure_of(clock).persist(answers(*[busy()] * (len(BUSY_PAUSES) + 1)), lambda: None)
    assert len(clock.slept) == len(BUSY_PAUSES)


async def test_what_broke_is_repeated_and_what_is_refused_is_not(clock: SleptClock) -> None:
    pressure, broken = pressure_of(clock), UnavailableError("source_unreachable")
    assert await pressure.persist(answers(broken, broken, "done"), lambda: None) == "done"
    assert pressure.limit == 64 and clock.slept == [0.2, 1.0]
    for error in (RequestRefusedError("destination_forbidden"), KeyError("ours")):
        with pytest.raises(type(error)):
            await pressure.persist(answers(error, "done"), lambda: None)
    assert len(clock.slept) == 2


async def test_a_lower_limit_lets_fewer_in_and_a_risen_one_more(clock: SleptClock) -> None:
    pressure, inside, most = pressure_of(clock, 8), 0, 0

    async def blob() -> None:
        nonlocal inside, most
        async with pressure.slot():
            inside += 1
            most = max(most, inside)
            for _ in range(3):
                await asyncio.sleep(0)
            inside -= 1

    await pressure.persist(answers(busy(), "done"), lambda: None)
    await asyncio.gather(*(blob() for _ in range(30)))
    assert most == 4 == pressure.limit
    for _ in range(100):
        pressure.landed()
    await asyncio.gather(*(blob() for _ in range(30)))
    assert most == 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20), st.integers(1, 4))
async def test_no_slot_is_lost_whoever_is_cancelled_when(
    users: list[tuple[int, bool]], most: int
) -> None:
    pressure, inside = pressure_of(SleptClock(), most), 0

    async def use(turns: int) -> None:
        nonlocal inside
        async with pressure.slot():
            inside += 1
            try:
                assert inside <= most
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                inside -= 1

    tasks = []
    for turns, cancel in users:
        tasks.append(asyncio.create_task(use(turns)))
        if cancel:
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[len(tasks) // 2].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert inside == 0 == pressure._running
    await asyncio.wait_for(asyncio.gather(*(use(1) for _ in range(most + 3))), 5)


def refuse(
    circuits: CircuitBreakers, times: int, code: str = "destination_forbidden", account: str = "a"
) -> None:
    for _ in range(times):
        circuits.failed(account, code, let_through=circuits.enter(account))


def test_an_account_that_refuses_everything_is_left_alone(clock: SleptClock) -> None:
    circuits = CircuitBreakers(clock)
    refuse(circuits, REFUSALS)
    with pytest.raises(CircuitOpenError) as said:
        circuits.enter("a")
    assert (said.value.code, said.value.retry_after_seconds) == (
        "destination_forbidden",
        OPEN_SECONDS,
    )
    assert circuits.enter("b") is False
    for _ in range(50):  # those that were under way say the same, late
        circuits.failed("a", "destination_forbidden", let_through=False)
    clock.seconds += OPEN_SECONDS
    assert circuits.enter("a") is True
    with pytest.raises(CircuitOpenError):  # one at a time
        circuits.enter("a")
    circuits.landed("a")
    assert [circuits.enter("a") for _ in range(3)] == [False] * 3


def test_each_pause_is_longer_up_to_a_limit(clock: SleptClock) -> None:
    circuits, pauses = CircuitBreakers(clock), list[float]()
    refuse(circuits, REFUSALS)
    for _ in range(7):
        with pytest.raises(CircuitOpenError) as said:
            circuits.enter("a")
        pauses.append(said.value.retry_after_seconds)
        clock.seconds += said.value.retry_after_seconds
        refuse(circuits, 1)
    assert pauses == [30, 60, 120, 240, 480, 480, LONGEST_OPEN_SECONDS]


def test_one_that_lands_begins_the_count_anew(clock: SleptClock) -> None:
    circuits = CircuitBreakers(clock)
    for _ in range(5):
        refuse(circuits, REFUSALS - 1)
        circuits.landed("a")
    assert circuits.enter("a") is False


def test_what_is_wrong_with_a_blob_says_nothing_of_the_account(clock: SleptClock) -> None:
    circuits = CircuitBreakers(clock)
    for code in (
        "proof_gzip",
        "source_missing",
        "source_changed",
        "foreign_blob",
        "copy_failed",
        "",
    ):
        refuse(circuits, 3 * REFUSALS, code)
    assert circuits.enter("a") is False
    refuse(circuits, REFUSALS)
    clock.seconds += OPEN_SECONDS
    assert circuits.enter("a") is True
    circuits.failed("a", "source_missing", let_through=True)
    assert circuits.enter("a") is True  # the next one finds out
