"""Who holds a key: one of many, with an epoch that only grows."""

import asyncio
from datetime import timedelta

import pytest

from shared.clock import parse_iso
from shared.ledger.ledger import Ledger
from shared.ledger.locks import LEASE, MIN_LEASE_LEFT, Lock
from tests.support.clocks import FakeClock

KEY = "billed_usage/G016907411/full"


async def never(lock: Lock) -> bool:
    return False


async def always(lock: Lock) -> bool:
    return True


async def take(ledger: Ledger, run_id: str, key: str = KEY) -> Lock:
    return await ledger.locks.acquire(key, run_id, "Tests", ledger.clock.now(), never)


async def held(ledger: Ledger) -> Lock:
    lock = await ledger.locks.get(KEY)
    assert lock is not None
    return lock


async def test_take_concurrently_succeeds_once(ledger: Ledger) -> None:
    locks = await asyncio.gather(*(take(ledger, f"run-{n}") for n in range(20)))
    assert len({lock.run_id for lock in locks}) == 1 and {lock.epoch for lock in locks} == {1}
    assert (await held(ledger)).run_id == locks[0].run_id


async def test_take_released_lock_concurrently_succeeds_once(ledger: Ledger) -> None:
    await take(ledger, "first")
    await ledger.locks.release(KEY, "first")
    locks = await asyncio.gather(*(take(ledger, f"run-{n}") for n in range(20)))
    assert len({lock.run_id for lock in locks}) == 1 and {lock.epoch for lock in locks} == {2}


async def test_take_is_idempotent(ledger: Ledger) -> None:
    first = await take(ledger, "run")
    assert await take(ledger, "run") == first == await held(ledger)


async def test_epoch_increases_with_every_holder(ledger: Ledger) -> None:
    for epoch in range(1, 5):
        assert (await take(ledger, f"run-{epoch}")).epoch == epoch
        await ledger.locks.release(KEY, f"run-{epoch}")
        lock = await held(ledger)
        assert (lock.run_id, lock.epoch) == ("", epoch)


async def test_release_by_other_run_keeps_lock(ledger: Ledger) -> None:
    await take(ledger, "run")
    await ledger.locks.release(KEY, "somebody")
    assert (await held(ledger)).run_id == "run"
    await ledger.locks.release(KEY, "run")
    await ledger.locks.release(KEY, "run")
    await ledger.locks.release("no/such/key", "run")
    assert (await held(ledger)).run_id == ""


async def test_take_replaces_holder_on_request(ledger: Ledger) -> None:
    first = await take(ledger, "marked")
    locks = await asyncio.gather(
        *(
            ledger.locks.acquire(
                KEY, f"run-{n}", "Tests", ledger.clock.now(), lambda lock: is_marked(lock)
            )
            for n in range(10)
        )
    )
    assert (
        len({lock.run_id for lock in locks}) == 1
        and locks[0].run_id != "marked"
        and locks[0].epoch == first.epoch + 1
    )


async def is_marked(lock: Lock) -> bool:
    return lock.run_id == "marked"


@pytest.mark.parametrize(
    ("quiet", "writes"), [(0, False), (29, False), (30, False), (31, True), (120, True)]
)
async def test_extend_lease_writes_only_near_expiry(
    ledger: Ledger, clock: FakeClock, quiet: int, writes: bool
) -> None:
    lock = await take(ledger, "run")
    assert parse_iso(lock.lease_until) == clock.now() + LEASE
    sign_of_life = clock.now() + timedelta(minutes=quiet)
    await ledger.locks.renew(lock, sign_of_life)
    after = await held(ledger)
    assert (after.etag != lock.etag) == writes
    assert parse_iso(after.lease_until) == (sign_of_life + LEASE if writes else clock.now() + LEASE)
    assert parse_iso(after.lease_until) >= sign_of_life + MIN_LEASE_LEFT


async def test_extend_lease_after_lost_race_keeps_row(ledger: Ledger, clock: FakeClock) -> None:
    lock = await take(ledger, "run")
    await ledger.locks.release(KEY, "run")
    await ledger.locks.renew(lock, clock.now() + timedelta(hours=5))
    assert (await held(ledger)).run_id == ""


async def test_list_held_returns_only_locks_with_run(ledger: Ledger) -> None:
    for n in range(3):
        await take(ledger, f"run-{n}", f"billed_usage/G00000000{n}/full")
    await ledger.locks.release("billed_usage/G000000001/full", "run-1")
    await ledger.throttle.pause(60)
    assert [lock.run_id async for lock in ledger.locks.list_held()] == ["run-0", "run-2"]


async def test_unknown_state_is_recorded_and_cleared_by_heartbeat(
    ledger: Ledger, clock: FakeClock
) -> None:
    await take(ledger, "run")
    await ledger.locks.set_unknown_since(await held(ledger), "2026-11-21T06:00:00Z")
    lock = await held(ledger)
    assert lock.unknown_since == "2026-11-21T06:00:00Z" and lock.run_id == "run"
    await ledger.locks.renew(lock, clock.now() + timedelta(hours=2))
    assert (await held(ledger)).unknown_since == ""
