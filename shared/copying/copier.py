"""Lands blobs: looks what is there, copies what is not, proves it. One fate each, and nothing raised for it.

- what lies at the destination with the ETag recorded as proven is left alone, without a look at the source;
- what lies there with our marks (source ETag and manifest eTag) is proven where it lies, not copied again;
- what lies there without them is foreign: neither overwritten nor deleted;
- what is not there is copied on the first rung that works, and proven.

A copy that fails its proof leaves nothing: streamed, it was never committed; fetched by storage, it is deleted again
in exactly the state that was looked at.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from shared.clock import Clock
from shared.copying.limits import BLOCK, CONCURRENCY, IN_FLIGHT, BytesInFlight, Threads
from shared.copying.proof import Proven, hold_against
from shared.copying.reading import PinnedSource, SourceReader
from shared.copying.server_side import ServerSide
from shared.copying.source import Sources
from shared.copying.stream import Streamer
from shared.copying.work import BlobFate, CopyWork
from shared.copying.writing import AlreadyThere, BlobWriter, CannotFetch, is_ours, marks, read_back, set_md5
from shared.errors import BillingExportError, Rejected, Terminal, Transient, Unavailable
from shared.landing.store import LandedBlob, LandingStore, quoted
from shared.manifest import OtherMonth
from shared.redaction import fault, where

__all__ = ["BlobFate", "Copier", "CopyWork"]

CANNOT_FETCH_SECONDS = 3600  # a firewall is not changed more often than that
logger = logging.getLogger("partner_billing.copying")


@dataclass(frozen=True)
class _Landed:
    """`etag` is the destination's."""

    etag: str
    proven: Proven
    rung: str
    transferred: bool


class Copier:
    """One per process: its limits are the process's. `concurrency` blobs at once, `bytes_in_flight` in memory.

    A blob of more than `block` bytes is read and written in blocks of that size.
    """

    def __init__(
        self, landing: LandingStore, sources: Sources, clock: Clock, *,
        concurrency: int = CONCURRENCY, bytes_in_flight: int = IN_FLIGHT, block: int = BLOCK,
        reader: SourceReader | None = None,
    ) -> None:
        self._landing, self._clock = landing, clock
        self._reader = reader or SourceReader(sources, clock)
        self._blobs = asyncio.Semaphore(concurrency)
        self._threads = Threads()
        self._streamer = Streamer(BytesInFlight(bytes_in_flight), self._threads, block=block)
        self._server_side = ServerSide(clock)
        self._cannot_fetch: dict[str, float] = {}  # host -> until when (monotonic) to stream at once

    async def land(self, work: CopyWork, names: Sequence[str], proven: Mapping[str, str]) -> list[BlobFate]:
        """The fate of each name, in their order; `proven`: name -> destination ETag recorded as proven. Raises for none."""
        return await asyncio.gather(*(self._fate(work, name, proven.get(name), may_copy=True) for name in names))

    async def prove_in_place(self, work: CopyWork, name: str) -> BlobFate:
        """A blob without a row: proven where it lies, not copied. `copy_failed` where it does not lie there at all."""
        return await self._fate(work, name, None, may_copy=False)

    async def close(self) -> None:
        """Ends its threads and connections to the source; the landing store is the caller's."""
        self._threads.close()
        await self._reader.close()

    async def _fate(self, work: CopyWork, name: str, recorded: str | None, *, may_copy: bool) -> BlobFate:
        async with self._blobs:
            began = self._clock.monotonic()
            source = PinnedSource(self._reader, work, name)
            try:
                fate = await self._land(work, source, recorded, may_copy)
            except BillingExportError as error:
                wait = error.retry_after_seconds if isinstance(error, Transient) else None
                fate = BlobFate(name, False, error.code, source_etag=source.etag, retry_after_seconds=wait or 0)
                detail = error.detail if isinstance(error, Rejected) else fault(error)
                logger.warning("blob %s of run %s: %s (%s)", name, work.run_id, error.code, detail)
            except OtherMonth:
                fate = BlobFate(name, False, "source_changed")
            except Exception as error:
                logger.warning("blob %s of run %s: copy_failed (%s at %s)", name, work.run_id, fault(error), where(error))
                fate = BlobFate(name, False, "copy_failed", source_etag=source.etag)
            return replace(fate, tries=source.tries, seconds=self._clock.monotonic() - began)

    async def _land(self, work: CopyWork, source: PinnedSource, recorded: str | None, may_copy: bool) -> BlobFate:
        path = f"{work.folder}/{source.name}"
        there = await self._landing.head(path)
        if there is not None and recorded is not None and there.etag == quoted(recorded):
            return BlobFate(
                source.name, True, bytes=there.size, md5=there.md5, destination_etag=there.etag, rung="in_place", unchanged=True)
        await source.look()
        if there is not None:
            landed = await self._in_place(work, source, path, there)
        elif may_copy:
            landed = await self._copy(work, source, path)
        else:
            raise Terminal("copy_failed", error_code="BlobNotFound")
        found = landed.proven
        return BlobFate(
            source.name, True, bytes=found.bytes, rows=found.rows, md5=found.md5 or None, sha256=found.sha256,
            source_etag=source.facts.etag, destination_etag=landed.etag, encoding=found.encoding, columns=found.columns,
            rung=landed.rung, transferred=landed.transferred)

    async def _copy(self, work: CopyWork, source: PinnedSource, path: str) -> _Landed:
        """On the first rung that works. AlreadyThere on any of them: what lies there now is proven instead."""
        try:
            if self._fetches(work, source):
                try:
                    return await self._fetch(work, source, path)
                except CannotFetch:
                    self._cannot_fetch[urlsplit(work.root_directory).netloc] = self._clock.monotonic() + CANNOT_FETCH_SECONDS
                    logger.warning("run %s: the landing account cannot read the source by itself; streaming instead", work.run_id)
            with self._target(work, source, path) as target:
                etag, proven = await self._streamer.copy(source, target, work.proof)
            return _Landed(etag, proven, "stream", True)
        except AlreadyThere:
            return await self._in_place(work, source, path, await self._landed(path))

    async def _fetch(self, work: CopyWork, source: PinnedSource, path: str) -> _Landed:
        with self._target(work, source, path) as target:
            await self._server_side.copy(source, target)
        landed = await self._in_place(work, source, path, await self._landed(path))
        return replace(landed, rung="put_block_from_url", transferred=True)

    @contextmanager
    def _target(self, work: CopyWork, source: PinnedSource, path: str) -> Iterator[BlobWriter]:
        """One for each rung: a block that storage is still fetching must not replace one of the same id staged later."""
        target = BlobWriter(self._landing, path, marks(work, source.facts.etag))
        try:
            yield target
        finally:
            source.tries += target.repeats

    def _fetches(self, work: CopyWork, source: PinnedSource) -> bool:
        """Whether storage is to fetch the blob itself. A content proof needs every byte here anyway, and streaming reads
        it once, before anything is visible; so `auto` leaves it to storage only where no byte need be looked at.
        """
        wanted = work.mode == "server" or (work.mode == "auto" and work.proof == "transfer")
        blocked = self._clock.monotonic() < self._cannot_fetch.get(urlsplit(work.root_directory).netloc, float("-inf"))
        return wanted and source.facts.size > 0 and not blocked

    async def _landed(self, path: str) -> LandedBlob:
        there = await self._landing.head(path)
        if there is None:  # written, and gone again: a rival found it damaged
            raise Unavailable("destination_unreachable", http_status=404)
        return there

    async def _in_place(self, work: CopyWork, source: PinnedSource, path: str, there: LandedBlob) -> _Landed:
        """Proves a blob of ours where it lies. One that fails is removed, in exactly the state that was looked at."""
        if not is_ours(there.metadata, work, source.facts.etag):
            raise Terminal("foreign_blob")
        try:
            proven = await self._look_at(work, source, path, there)
        except Rejected as error:
            if error.code.startswith("proof_"):
                await self._landing.delete(path, there.etag)
            raise
        if there.md5 is None and proven.md5:
            return _Landed(await set_md5(self._landing, there, path, proven.md5), proven, "in_place", False)
        return _Landed(there.etag, proven, "in_place", False)

    async def _look_at(self, work: CopyWork, source: PinnedSource, path: str, there: LandedBlob) -> Proven:
        size, md5 = source.facts.size, source.facts.md5
        if work.proof == "transfer" or there.size != size:  # by what storage says of both; nothing is read
            proven = Proven(there.size, there.md5 or "")
            hold_against(proven, size, md5 if there.md5 is not None else None)
            return proven

        async def read(start: int, length: int) -> bytes:
            return await read_back(self._landing, there, path, start, length)

        proven = await self._streamer.prove(size, read, work.proof)
        hold_against(proven, size, md5)
        return proven
