"""Microsoft Graph's 'slow down', shared by all instances of the app: written on a 429, read before each call."""

from datetime import datetime, timedelta

from shared.clock import Clock, iso, parse_iso
from shared.errors import InfrastructureError, ThrottledError, TransientError
from shared.ledger.tables import Tables

MOST_TRIES = 50
CACHED = timedelta(seconds=30)
WITHOUT_HEADER = 60  # seconds; some services send none with a 429 (graph-partner-billing, 7)


class Throttle:
    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables, self._clock = tables, clock
        self._until: datetime | None = None
        self._read_at: datetime | None = None

    async def seconds_left(self) -> int:
        """How long Graph is to be left alone; 0 = not at all. What it knows is at most 30 s old."""
        now = self._clock.now()
        if self._read_at is None or not timedelta(0) <= now - self._read_at < CACHED:
            row = await self._tables.get("locks", "throttle", "graph")
            self._until, self._read_at = parse_iso(row.values["until"]) if row else None, now
        return max(0, -int(-(self._until - now).total_seconds() // 1)) if self._until else 0

    async def record_error(self, error: TransientError) -> int | None:
        """The seconds to wait after `error`; of a 429 the whole app is told."""
        if not isinstance(error, ThrottledError):
            return error.retry_after_seconds
        seconds = WITHOUT_HEADER if error.retry_after_seconds is None else error.retry_after_seconds
        await self.pause(seconds)
        return seconds

    async def pause(self, seconds: int) -> None:
        """Nobody asks before `seconds` have passed; a longer wait that stands already is left."""
        until = self._clock.now() + timedelta(seconds=seconds)
        self._read_at = None
        for _ in range(MOST_TRIES):
            row = await self._tables.get("locks", "throttle", "graph")
            if row is None:
                written = await self._tables.insert(
                    "locks", "throttle", "graph", {"until": iso(until)}
                )
            elif parse_iso(row.values["until"]) < until:
                written = await self._tables.merge(
                    "locks", "throttle", "graph", {"until": iso(until)}, row.etag
                )
            else:
                return
            if written is not None:
                return
        raise InfrastructureError("throttle_contended", "Throttle")
