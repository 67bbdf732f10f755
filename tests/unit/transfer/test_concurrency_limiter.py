"""The concurrency limiter and circuit breaker, with a clock that advances only during sleeps."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RequestRefusedError, ThrottledError, UnavailableError
from shared.transfer.circuit_breaker import (
    MAX_FAILURES,
    MAX_OPEN_SECONDS,
    MIN_OPEN_SECONDS,
    CircuitBreakers,
    CircuitOpenError,
)
from shared.transfer.concurrency_limiter import (
    MAX_WAIT_SECONDS,
    THROTTLED_RETRY_SECONDS,
    ConcurrencyLimiter,
)
from tests.support.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 8, tzinfo=UTC))


def create_limiter(clock: FakeClock, max_concurrency: int = 64) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(clock, max_concurrency=max_concurrency, sleep=clock.sleep)


def operation_with(*results: Exception | str) -> Callable[[], Awaitable[str]]:
    """Return an operation that returns or raises the results one after another."""
    remaining = list(results)

    async def operation() -> str:
        await asyncio.sleep(0)
        result = remaining.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    return operation


def throttled(seconds: int | None = None) -> ThrottledError:
    return ThrottledError("storage_busy", retry_after_seconds=seconds)


async def test_retry_throttled_halves_the_limit_and_successes_raise_it(
    clock: FakeClock,
) -> None:
    limiter, retries = create_limiter(clock), list[int]()
    assert (
        await limiter.retry(operation_with(throttled(), "done"), lambda: retries.append(1))
        == "done"
    )
    assert limiter.limit == 32 and len(retries) == 1
    successes = 0
    while limiter.limit < 64:
        limiter.record_success()
        successes += 1
    assert 32 / 2 * 32 < successes < 64 / 2 * 64  # a full set of blobs raises the limit by two
    limiter.record_success()
    assert limiter.limit == 64


async def test_retry_throttled_concurrently_halves_the_limit_once(clock: FakeClock) -> None:
    limiter = create_limiter(clock)
    await asyncio.gather(
        *(limiter.retry(operation_with(throttled(), "done"), lambda: None) for _ in range(40))
    )
    assert limiter.limit == 32
    for _ in range(20):
        await limiter.retry(operation_with(throttled(), "done"), lambda: None)
    assert limiter.limit == 1


@pytest.mark.parametrize("requested", [None, 0, 5, 10])
async def test_retry_throttled_waits_at_least_the_requested_time(
    clock: FakeClock, requested: int | None
) -> None:
    await create_limiter(clock).retry(
        operation_with(throttled(requested), throttled(requested), "done"), lambda: None
    )
    assert len(clock.slept) == 2 and all(
        (requested or 0) < seconds <= (requested or 0) + THROTTLED_RETRY_SECONDS[1]
        for seconds in clock.slept
    )


async def test_retry_with_long_requested_wait_raises(clock: FakeClock) -> None:
    """Requests for further slots fail with the remaining wait time until that time is short."""
    limiter = create_limiter(clock)
    with pytest.raises(ThrottledError) as raised:
        await limiter.retry(operation_with(throttled(300)), lambda: None)
    assert raised.value.retry_after_seconds == 300 and clock.slept == []
    clock.advance(seconds=100)
    with pytest.raises(ThrottledError) as raised:
        async with limiter.slot():
            pytest.fail("The slot must not be granted")
    assert raised.value.retry_after_seconds == 200
    clock.advance(seconds=200 - MAX_WAIT_SECONDS + 1)
    async with limiter.slot():
        assert clock.slept == [pytest.approx(MAX_WAIT_SECONDS - 1)]


async def test_retry_after_the_last_attempt_raises(clock: FakeClock) -> None:
    with pytest.raises(ThrottledError):
        await create_limiter(clock).retry(
            operation_with(*[throttled()] * (len(THROTTLED_RETRY_SECONDS) + 1)), lambda: None
        )
    assert len(clock.slept) == len(THROTTLED_RETRY_SECONDS)


async def test_retry_with_permanent_error_raises_immediately(clock: FakeClock) -> None:
    limiter, broken = create_limiter(clock), UnavailableError("source_unreachable")
    assert await limiter.retry(operation_with(broken, broken, "done"), lambda: None) == "done"
    assert limiter.limit == 64 and clock.slept == [0.2, 1.0]
    for error in (RequestRefusedError("destination_forbidden"), KeyError("key")):
        with pytest.raises(type(error)):
            await limiter.retry(operation_with(error, "done"), lambda: None)
    assert len(clock.slept) == 2


async def test_slot_with_concurrent_blobs_admits_up_to_the_limit(clock: FakeClock) -> None:
    limiter, running, maximum = create_limiter(clock, 8), 0, 0

    async def blob() -> None:
        nonlocal running, maximum
        async with limiter.slot():
            running += 1
            maximum = max(maximum, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1

    await limiter.retry(operation_with(throttled(), "done"), lambda: None)
    await asyncio.gather(*(blob() for _ in range(30)))
    assert maximum == 4 == limiter.limit
    for _ in range(100):
        limiter.record_success()
    await asyncio.gather(*(blob() for _ in range(30)))
    assert maximum == 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20), st.integers(1, 4))
async def test_slot_after_cancellations_is_released(
    users: list[tuple[int, bool]], maximum: int
) -> None:
    limiter, running = create_limiter(FakeClock(datetime(2026, 11, 8, tzinfo=UTC)), maximum), 0

    async def use(turns: int) -> None:
        nonlocal running
        async with limiter.slot():
            running += 1
            try:
                assert running <= maximum
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                running -= 1

    tasks = []
    for turns, cancel in users:
        tasks.append(asyncio.create_task(use(turns)))
        if cancel:
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[len(tasks) // 2].cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert running == 0
    await asyncio.wait_for(asyncio.gather(*(use(1) for _ in range(maximum + 3))), 5)


def fail(
    circuits: CircuitBreakers, times: int, code: str = "destination_forbidden", account: str = "a"
) -> None:
    for _ in range(times):
        circuits.record_failure(account, code, is_probe=circuits.enter(account))


def test_circuit_after_consecutive_failures_opens(clock: FakeClock) -> None:
    circuits = CircuitBreakers(clock)
    fail(circuits, MAX_FAILURES)
    with pytest.raises(CircuitOpenError) as raised:
        circuits.enter("a")
    assert (raised.value.code, raised.value.retry_after_seconds) == (
        "destination_forbidden",
        MIN_OPEN_SECONDS,
    )
    assert circuits.enter("b") is False
    for _ in range(50):  # blobs that were in progress
        circuits.record_failure("a", "destination_forbidden", is_probe=False)
    clock.advance(seconds=MIN_OPEN_SECONDS)
    assert circuits.enter("a") is True
    with pytest.raises(CircuitOpenError):  # only one probe at a time
        circuits.enter("a")
    circuits.record_success("a")
    assert [circuits.enter("a") for _ in range(3)] == [False] * 3


def test_circuit_after_failed_probes_doubles_the_pause(clock: FakeClock) -> None:
    circuits, pauses = CircuitBreakers(clock), list[float]()
    fail(circuits, MAX_FAILURES)
    for _ in range(7):
        with pytest.raises(CircuitOpenError) as raised:
            circuits.enter("a")
        pauses.append(raised.value.retry_after_seconds)
        clock.advance(seconds=raised.value.retry_after_seconds)
        fail(circuits, 1)
    assert pauses == [30, 60, 120, 240, 480, 480, MAX_OPEN_SECONDS]


def test_circuit_after_success_resets_the_count(clock: FakeClock) -> None:
    circuits = CircuitBreakers(clock)
    for _ in range(5):
        fail(circuits, MAX_FAILURES - 1)
        circuits.record_success("a")
    assert circuits.enter("a") is False


def test_circuit_with_errors_of_single_blobs_stays_closed(clock: FakeClock) -> None:
    circuits = CircuitBreakers(clock)
    for code in (
        "proof_gzip",
        "source_missing",
        "source_changed",
        "foreign_blob",
        "copy_failed",
        "",
    ):
        fail(circuits, 3 * MAX_FAILURES, code)
    assert circuits.enter("a") is False
    fail(circuits, MAX_FAILURES)
    clock.advance(seconds=MIN_OPEN_SECONDS)
    assert circuits.enter("a") is True
    circuits.record_failure("a", "source_missing", is_probe=True)
    assert circuits.enter("a") is True  # the next blob is the probe
