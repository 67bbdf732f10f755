"""Retries of conditional writes: the backoff, the limit and the result."""

import pytest

from shared.errors import InfrastructureError
from shared.optimistic_concurrency import (
    CONFLICT,
    MAX_ATTEMPTS,
    MAX_BACKOFF_SECONDS,
    Conflict,
    backoff_seconds,
    update,
)


class Counter:
    """An item that other writers change before the first `conflicts` writes."""

    def __init__(self, conflicts: int) -> None:
        self.value, self.reads, self.conflicts = 0, 0, conflicts
        self.waits: list[float] = []

    async def read(self) -> int:
        self.reads += 1
        return self.value

    async def write(self, current: int) -> int | Conflict:
        if self.conflicts:
            self.conflicts, self.value = self.conflicts - 1, self.value + 10
            return CONFLICT
        self.value = current + 1
        return self.value

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def update(self) -> int:
        return await update(
            self.read,
            self.write,
            contended_code="run_contended",
            component="Run",
            sleep=self.sleep,
        )


async def test_update_without_conflict_writes_once_and_does_not_wait() -> None:
    counter = Counter(conflicts=0)
    assert await counter.update() == 1
    assert (counter.reads, counter.waits) == (1, [])


async def test_update_after_conflicts_reads_again_and_returns_the_result() -> None:
    counter = Counter(conflicts=3)
    assert await counter.update() == 31
    assert counter.reads == 4
    assert counter.waits[0] == 0 and all(counter.waits[1:])


async def test_update_with_lasting_conflict_raises_after_max_attempts() -> None:
    counter = Counter(conflicts=MAX_ATTEMPTS)
    with pytest.raises(InfrastructureError) as raised:
        await counter.update()
    assert raised.value.code == "run_contended"
    assert counter.reads == MAX_ATTEMPTS
    assert len(counter.waits) == MAX_ATTEMPTS - 1


async def test_update_with_falsy_result_returns_it() -> None:
    async def read() -> None:
        return None

    async def write(current: None) -> bool:
        return False

    assert await update(read, write, contended_code="run_contended", component="Run") is False


def test_backoff_seconds_grows_up_to_the_maximum() -> None:
    assert backoff_seconds(1) == 0
    assert 0.0025 <= backoff_seconds(2) <= 0.005
    assert 0.005 <= backoff_seconds(3) <= 0.01
    assert MAX_BACKOFF_SECONDS / 2 <= backoff_seconds(MAX_ATTEMPTS) <= MAX_BACKOFF_SECONDS
