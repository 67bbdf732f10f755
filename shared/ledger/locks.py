"""Who holds a key. A lock saves work; correctness rests on conditional writes alone (design, section 6).

A freed lock stays, without a run, and its epoch only grows: to hold a key is to be named there with one's epoch.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.clock import iso, parse_iso
from shared.errors import InfrastructureError
from shared.ledger.tables import Row, RowFilter, Tables

LEASE = timedelta(hours=1)  # beyond the next expected sign of life
SPARE = timedelta(minutes=30)  # less than this left beyond that sign: write again
MOST_TRIES = 200  # each lost try means that somebody else got on


@dataclass(frozen=True)
class Lock:
    """`run_id` "" = free. Times are ISO 8601 in UTC; `unknown_since`: when the engine first did not know the run."""

    key: str
    run_id: str
    hub: str
    epoch: int
    lease_until: str
    unknown_since: str = ""
    etag: str = ""


class Locks:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, key: str) -> Lock | None:
        row = await self._tables.get("locks", "lock", _word(key))
        return _lock(row) if row else None

    async def acquire(
        self,
        key: str,
        run_id: str,
        hub: str,
        now: datetime,
        may_take_over: Callable[[Lock], Awaitable[bool]],
    ) -> Lock:
        """The lock as it stands now: this run's, or that of the one who keeps it."""
        wanted = Lock(key, run_id, hub, 1, iso(now + LEASE))
        for _ in range(MOST_TRIES):
            lock = await self.get(key)
            if lock is None:
                if etag := await self._tables.insert("locks", "lock", _word(key), _values(wanted)):
                    return replace(wanted, etag=etag)
            elif lock.run_id == run_id or (lock.run_id and not await may_take_over(lock)):
                return lock
            elif taken := await self._replace(replace(wanted, epoch=lock.epoch + 1), lock.etag):
                return taken
        raise InfrastructureError("lock_contended", "Locks")

    async def renew(self, lock: Lock, sign_of_life: datetime) -> bool:
        """Prolongs the lease where less than half an hour beyond the next sign of life is left. False: it has moved."""
        if parse_iso(lock.lease_until) >= sign_of_life + SPARE:
            return True
        renewed = replace(lock, lease_until=iso(sign_of_life + LEASE), unknown_since="")
        return await self._replace(renewed, lock.etag) is not None

    async def set_unknown_since(self, lock: Lock, since: str) -> None:
        await self._replace(replace(lock, unknown_since=since), lock.etag)

    async def release(self, key: str, run_id: str, seen: Lock | None = None) -> None:
        """Empties the lock where it names this run; harmless when repeated. `seen`: as it was a moment ago."""
        for _ in range(MOST_TRIES):
            lock, seen = seen or await self.get(key), None
            if lock is None or lock.run_id != run_id:
                return
            if await self._replace(replace(lock, run_id="", unknown_since=""), lock.etag):
                return
        raise InfrastructureError("lock_contended", "Locks")

    async def list_held(self) -> AsyncIterator[Lock]:
        """Every key that names a run: what may be dead."""
        async for row in self._tables.list("locks", "lock", where=RowFilter(non_empty=("run_id",))):
            if row.values.get(
                "run_id"
            ):  # freed between the filter and the reading: the emulator has been seen to show it
                yield _lock(row)

    async def _replace(self, lock: Lock, etag: str) -> Lock | None:
        written = await self._tables.replace("locks", "lock", _word(lock.key), _values(lock), etag)
        return replace(lock, etag=written) if written else None


def _values(lock: Lock) -> dict[str, str | int]:
    return {
        "key": lock.key,
        "run_id": lock.run_id,
        "hub": lock.hub,
        "epoch": lock.epoch,
        "lease_until": lock.lease_until,
        "unknown_since": lock.unknown_since,
    }


def _lock(row: Row) -> Lock:
    columns = ("key", "run_id", "hub", "epoch", "lease_until", "unknown_since")
    return Lock(**{name: row.values.get(name, "") for name in columns}, etag=row.etag)


def _word(key: str) -> str:
    return key.replace("/", "~")
