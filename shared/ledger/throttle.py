"""The wait that Microsoft Graph has requested, shared by all instances of the app."""

from datetime import datetime, timedelta

from shared.clock import Clock, iso, parse_iso
from shared.errors import ThrottledError, TransientError
from shared.ledger.tables import Row, Tables
from shared.optimistic_concurrency import CONFLICT, Conflict, update

MAX_CACHE_AGE = timedelta(seconds=30)
DEFAULT_WAIT_SECONDS = 60  # some services send no Retry-After with a 429 response
KEYS = ("locks", "throttle", "graph")


class Throttle:
    """The end of the wait, stored in the locks table and cached for 30 seconds."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables, self._clock = tables, clock
        self._until: datetime | None = None
        self._read_at: datetime | None = None

    async def seconds_left(self) -> int:
        """Return the seconds until Graph accepts requests again, or 0."""
        now = self._clock.now()
        if self._read_at is None or not timedelta(0) <= now - self._read_at < MAX_CACHE_AGE:
            row = await self._tables.get(*KEYS)
            self._until, self._read_at = parse_iso(row.values["until"]) if row else None, now
        return max(0, -int(-(self._until - now).total_seconds() // 1)) if self._until else 0

    async def record_error(self, error: TransientError) -> int | None:
        """Return the seconds to wait after an error; after a 429 response, store the wait."""
        if not isinstance(error, ThrottledError):
            return error.retry_after_seconds
        seconds = error.retry_after_seconds
        seconds = DEFAULT_WAIT_SECONDS if seconds is None else seconds
        await self.pause(seconds)
        return seconds

    async def pause(self, seconds: int) -> None:
        """Store a wait for all instances, unless a longer wait is already stored."""
        until = self._clock.now() + timedelta(seconds=seconds)
        self._read_at = None

        async def write(row: Row | None) -> Conflict | None:
            columns = {"until": iso(until)}
            if row is None:
                etag = await self._tables.insert(*KEYS, columns)
            elif parse_iso(row.values["until"]) < until:
                etag = await self._tables.merge(*KEYS, columns, row.etag)
            else:
                return None
            return None if etag else CONFLICT

        await update(
            lambda: self._tables.get(*KEYS),
            write,
            contended_code="throttle_contended",
            component="Throttle",
        )
