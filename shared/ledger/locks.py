"""The locks table: the run that holds each export key.

Locks avoid duplicate work. Correctness depends only on conditional writes. A released lock keeps
its row without a run, and its epoch only increases: a run holds a key if the row contains both the
run ID and the epoch of the run. Two task hubs can start a run with the same ID, and a run can have
several attempts, so the row also contains the task hub and the instance that hold the key.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.clock import iso, parse_iso
from shared.ledger.tables import Row, RowFilter, Tables
from shared.optimistic_concurrency import CONFLICT, Conflict, update

LEASE = timedelta(hours=1)  # after the next expected activity of the run
MIN_LEASE_LEFT = timedelta(minutes=30)  # renewals with more time left than this are skipped
COLUMNS = (
    "key",
    "run_id",
    "hub",
    "epoch",
    "lease_until",
    "instance_id",
    "restarts",
    "restarted_on",
)


@dataclass(frozen=True)
class Lock:
    """The lock of an export key.

    Attributes:
        key: The export key.
        run_id: The run that holds the key, or "" if the key is free.
        hub: The task hub of the run.
        epoch: The number of times that the key was acquired.
        lease_until: The end of the lease, ISO 8601 in UTC.
        instance_id: The orchestration instance of the run, which the claim determines.
        restarts: The number of times that the cleanup started a run of the key again on the day
            `restarted_on` (ISO 8601).
        restarted_on: The day of the last restart, or "".
        etag: The ETag of the row; not a column.
    """

    key: str
    run_id: str
    hub: str
    epoch: int
    lease_until: str
    instance_id: str = ""
    restarts: int = 0
    restarted_on: str = ""
    etag: str = ""

    def is_held_by(self, run_id: str, hub: str, instance_id: str) -> bool:
        """Return whether this instance of the run holds the key."""
        return (self.run_id, self.hub, self.instance_id) == (run_id, hub, instance_id)

    def get_restarts(self, day: str) -> int:
        """Return the number of restarts of runs of the key on a day."""
        return self.restarts if self.restarted_on == day else 0


class Locks:
    """Access to the rows of locks."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, key: str) -> Lock | None:
        """Return the lock of an export key, or None if the key was never acquired."""
        row = await self._tables.get("locks", "lock", _row_key(key))
        return _lock_from_row(row) if row else None

    async def acquire(
        self,
        key: str,
        run_id: str,
        hub: str,
        instance_id: str,
        now: datetime,
        can_take_over: Callable[[Lock], Awaitable[bool]],
    ) -> Lock:
        """Acquire the lock of an export key for a run, if possible. Idempotent.

        Args:
            key: The export key.
            run_id: The run that acquires the lock.
            hub: The task hub of the run.
            instance_id: The orchestration instance of the run.
            now: The start of the lease.
            can_take_over: Returns whether the run can replace the current holder, which can be
                another instance of the same run.

        Returns:
            The current lock. It contains another run, hub or instance if that holds the key; see
            `Lock.is_held_by`.
        """
        first = Lock(key, run_id, hub, 1, iso(now + LEASE), instance_id)

        async def write(lock: Lock | None) -> Lock | Conflict:
            if lock is None:
                values = _values(first)
                etag = await self._tables.insert("locks", "lock", _row_key(key), values)
                return replace(first, etag=etag) if etag else CONFLICT
            is_holder = lock.is_held_by(run_id, hub, instance_id)
            if is_holder or (lock.run_id and not await can_take_over(lock)):
                return lock
            acquired = replace(
                lock,
                run_id=run_id,
                hub=hub,
                epoch=lock.epoch + 1,
                lease_until=first.lease_until,
                instance_id=instance_id,
            )
            return await self._replace(acquired, lock.etag) or CONFLICT

        return await update(
            lambda: self.get(key), write, contended_code="lock_contended", component="Locks"
        )

    async def is_held(self, key: str) -> bool:
        """Return whether a run holds the lock."""
        lock = await self.get(key)
        return lock is not None and lock.run_id != ""

    async def renew(self, lock: Lock, next_activity: datetime) -> bool:
        """Extend the lease to an hour after `next_activity`, if less than 30 minutes are left.

        Returns:
            False if the row was changed since it was read.
        """
        if parse_iso(lock.lease_until) >= next_activity + MIN_LEASE_LEFT:
            return True
        renewed = replace(lock, lease_until=iso(next_activity + LEASE))
        return await self._replace(renewed, lock.etag) is not None

    async def count_restart(self, lock: Lock, day: str) -> bool:
        """Count a restart of a run of the key, and return False if the row was changed."""
        counted = replace(lock, restarts=lock.get_restarts(day) + 1, restarted_on=day)
        return await self._replace(counted, lock.etag) is not None

    async def release(self, key: str, run_id: str, lock: Lock | None = None) -> None:
        """Release the lock if the run holds it. Idempotent.

        Args:
            key: The export key.
            run_id: The run that releases the lock.
            lock: The lock, if the caller has just read it; saves the first request.
        """
        last_read = lock

        async def read() -> Lock | None:
            nonlocal last_read
            current, last_read = last_read or await self.get(key), None
            return current

        async def write(current: Lock | None) -> Conflict | None:
            if current is None or current.run_id != run_id:
                return None
            released = replace(current, run_id="", instance_id="")
            return None if await self._replace(released, current.etag) else CONFLICT

        await update(read, write, contended_code="lock_contended", component="Locks")

    async def list_held(self) -> AsyncIterator[Lock]:
        """List the locks that a run holds."""
        row_filter = RowFilter(non_empty=("run_id",))
        async for row in self._tables.list("locks", "lock", where=row_filter):
            # Azurite can return a row that was released after the filter was applied.
            if row.values.get("run_id"):
                yield _lock_from_row(row)

    async def _replace(self, lock: Lock, etag: str) -> Lock | None:
        written = await self._tables.replace(
            "locks", "lock", _row_key(lock.key), _values(lock), etag
        )
        return replace(lock, etag=written) if written else None


def _values(lock: Lock) -> dict[str, str | int]:
    return {name: getattr(lock, name) for name in COLUMNS}


def _lock_from_row(row: Row) -> Lock:
    return Lock(**{name: row.values[name] for name in COLUMNS if name in row.values}, etag=row.etag)


def _row_key(key: str) -> str:
    return key.replace("/", "~")
