"""Locks of export keys: one holder at a time, with an epoch that increases."""

import asyncio
from datetime import timedelta

import pytest

from shared.clock import parse_iso
from shared.ledger.ledger import Ledger
from shared.ledger.locks import LEASE, MIN_LEASE_LEFT, Lock
from tests.support.clocks import FakeClock

KEY = "billed_usage/G016907411/full"


async def never_replace(lock: Lock) -> bool:
    return False


async def acquire_lock(ledger: Ledger, run_id: str, key: str = KEY) -> Lock:
    return await ledger.locks.acquire(
        key, run_id, "Tests", run_id, ledger.clock.now(), never_replace
    )


async def get_lock(ledger: Ledger) -> Lock:
    lock = await ledger.locks.get(KEY)
    assert lock is not None
    return lock


async def test_acquire_concurrently_succeeds_once(ledger: Ledger) -> None:
    locks = await asyncio.gather(*(acquire_lock(ledger, f"run-{n}") for n in range(20)))
    assert len({lock.run_id for lock in locks}) == 1 and {lock.epoch for lock in locks} == {1}
    assert (await get_lock(ledger)).run_id == locks[0].run_id


async def test_acquire_released_lock_concurrently_succeeds_once(ledger: Ledger) -> None:
    await acquire_lock(ledger, "first")
    await ledger.locks.release(KEY, "first")
    locks = await asyncio.gather(*(acquire_lock(ledger, f"run-{n}") for n in range(20)))
    assert len({lock.run_id for lock in locks}) == 1 and {lock.epoch for lock in locks} == {2}


async def test_acquire_is_idempotent(ledger: Ledger) -> None:
    first = await acquire_lock(ledger, "run")
    assert await acquire_lock(ledger, "run") == first == await get_lock(ledger)


async def test_acquire_by_new_holder_increases_epoch(ledger: Ledger) -> None:
    for epoch in range(1, 5):
        assert (await acquire_lock(ledger, f"run-{epoch}")).epoch == epoch
        await ledger.locks.release(KEY, f"run-{epoch}")
        lock = await get_lock(ledger)
        assert (lock.run_id, lock.epoch) == ("", epoch)


async def test_release_by_other_run_keeps_lock(ledger: Ledger) -> None:
    await acquire_lock(ledger, "run")
    await ledger.locks.release(KEY, "other-run")
    assert (await get_lock(ledger)).run_id == "run"
    await ledger.locks.release(KEY, "run")
    await ledger.locks.release(KEY, "run")
    await ledger.locks.release("no/such/key", "run")
    assert (await get_lock(ledger)).run_id == ""


async def test_acquire_with_replaceable_holder_succeeds_once(ledger: Ledger) -> None:
    first = await acquire_lock(ledger, "cancelled")
    locks = await asyncio.gather(
        *(
            ledger.locks.acquire(
                KEY,
                f"run-{n}",
                "Tests",
                f"run-{n}",
                ledger.clock.now(),
                lambda lock: is_cancelled(lock),
            )
            for n in range(10)
        )
    )
    assert (
        len({lock.run_id for lock in locks}) == 1
        and locks[0].run_id != "cancelled"
        and locks[0].epoch == first.epoch + 1
    )


async def is_cancelled(lock: Lock) -> bool:
    return lock.run_id == "cancelled"


@pytest.mark.parametrize(
    ("idle_minutes", "is_written"), [(0, False), (29, False), (30, False), (31, True), (120, True)]
)
async def test_renew_writes_only_near_expiry(
    ledger: Ledger, clock: FakeClock, idle_minutes: int, is_written: bool
) -> None:
    lock = await acquire_lock(ledger, "run")
    assert parse_iso(lock.lease_until) == clock.now() + LEASE
    heartbeat = clock.now() + timedelta(minutes=idle_minutes)
    await ledger.locks.renew(lock, heartbeat)
    after = await get_lock(ledger)
    assert (after.etag != lock.etag) == is_written
    assert parse_iso(after.lease_until) == (
        heartbeat + LEASE if is_written else clock.now() + LEASE
    )
    assert parse_iso(after.lease_until) >= heartbeat + MIN_LEASE_LEFT


async def test_renew_after_lost_race_keeps_row(ledger: Ledger, clock: FakeClock) -> None:
    lock = await acquire_lock(ledger, "run")
    await ledger.locks.release(KEY, "run")
    await ledger.locks.renew(lock, clock.now() + timedelta(hours=5))
    assert (await get_lock(ledger)).run_id == ""


async def test_list_held_returns_only_locks_with_run(ledger: Ledger) -> None:
    for n in range(3):
        await acquire_lock(ledger, f"run-{n}", f"billed_usage/G00000000{n}/full")
    await ledger.locks.release("billed_usage/G000000001/full", "run-1")
    await ledger.throttle.pause(60)
    assert [lock.run_id async for lock in ledger.locks.list_held()] == ["run-0", "run-2"]


async def test_acquire_same_run_in_another_hub_or_instance_keeps_the_holder(ledger: Ledger) -> None:
    first, now = await acquire_lock(ledger, "run"), ledger.clock.now()
    for hub, instance_id in (("Other", "run"), ("Tests", "run~2")):
        lock = await ledger.locks.acquire(KEY, "run", hub, instance_id, now, never_replace)
        assert lock == first and not lock.is_held_by("run", hub, instance_id)


async def test_count_restart_starts_again_each_day(ledger: Ledger) -> None:
    for day in ("2026-11-21", "2026-11-21", "2026-11-22"):
        assert await ledger.locks.count_restart(await acquire_lock(ledger, "run"), day)
    await ledger.locks.release(KEY, "run")
    lock = await acquire_lock(ledger, "later-run")
    assert (lock.get_restarts("2026-11-22"), lock.get_restarts("2026-11-21")) == (1, 0)
