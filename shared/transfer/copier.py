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
from shared.errors import (
    BillingExportError,
    InvalidDataError,
    PermanentError,
    TransientError,
    UnavailableError,
)
from shared.landing.storage_errors import word
from shared.landing.store import LandedBlob, LandingStore, quoted
from shared.manifest import DifferentMonthError
from shared.redaction import format_traceback, to_infrastructure_error
from shared.transfer.blob_writer import (
    BlobExistsError,
    BlobWriter,
    has_our_properties,
    is_ours,
    marks,
    read_back,
    set_properties,
)
from shared.transfer.circuit_breaker import CircuitBreakers, CircuitOpenError
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.copy_source_errors import CopySourceUnreadableError
from shared.transfer.folder_listings import FolderListings
from shared.transfer.limits import BLOCK, CONCURRENCY, IN_FLIGHT, BytesInFlight, Threads
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import BlobResult, TransferRequest
from shared.transfer.proof import ContentSummary, verify
from shared.transfer.server_side import ServerSideCopier
from shared.transfer.source_reader import PinnedSource, SourceReader
from shared.transfer.stream import Streamer

__all__ = ["BlobResult", "Copier", "TransferRequest"]

logger = logging.getLogger("partner_billing.copying")


@dataclass(frozen=True)
class _Landed:
    """`etag` is the destination's; `why` it was streamed where that was not the plan."""

    etag: str
    proven: ContentSummary
    copy_method: str
    transferred: bool
    why: str = ""


class Copier:
    """One per process: its limits are the process's. `concurrency` blobs at once, `bytes_in_flight` in memory.

    A blob of more than `block` bytes is read and written in blocks of that size.
    """

    def __init__(
        self,
        landing: LandingStore,
        sources: ManifestCache,
        clock: Clock,
        *,
        concurrency: int = CONCURRENCY,
        bytes_in_flight: int = IN_FLIGHT,
        block: int = BLOCK,
        reader: SourceReader | None = None,
        limiter: ConcurrencyLimiter | None = None,
    ) -> None:
        self._landing, self._clock = landing, clock
        self._reader = reader or SourceReader(sources, clock)
        self._pressure = limiter or ConcurrencyLimiter(clock, most=concurrency)
        self._circuits = CircuitBreakers(clock)
        self._folders = FolderListings(self._names_in)
        self._threads = Threads()
        self._streamer = Streamer(BytesInFlight(bytes_in_flight), self._threads, block=block)
        self._server_side = ServerSideCopier(clock)

    async def copy_blobs(
        self, work: TransferRequest, names: Sequence[str], proven: Mapping[str, str]
    ) -> list[BlobResult]:
        """The fate of each name, in their order; `proven`: name -> destination ETag recorded as proven. Raises for none."""
        return await asyncio.gather(
            *(self._fate(work, name, proven.get(name), may_copy=True) for name in names)
        )

    async def prove_in_place(self, work: TransferRequest, name: str) -> BlobResult:
        """A blob without a row: proven where it lies, not copied. `copy_failed` where it does not lie there at all."""
        return await self._fate(work, name, None, may_copy=False)

    async def close(self) -> None:
        """Ends its threads and connections to the source; the landing store is the caller's."""
        self._threads.close()
        await self._reader.close()

    async def _fate(
        self, work: TransferRequest, name: str, recorded: str | None, *, may_copy: bool
    ) -> BlobResult:
        account, began = urlsplit(work.root_directory).netloc, self._clock.monotonic()
        source = PinnedSource(self._reader, self._pressure, work, name)
        let_through = False
        try:
            async with self._pressure.slot():
                let_through, began = self._circuits.enter(account), self._clock.monotonic()
                result = await self._land(work, source, recorded, may_copy)
        except CircuitOpenError as closed:
            return BlobResult(
                name,
                False,
                closed.code,
                "not asked again so soon: the account refused all blobs before it",
                retry_after_seconds=closed.retry_after_seconds,
            )
        except BillingExportError as error:
            result = self._failed(work, source, error)
        except DifferentMonthError:
            result = BlobResult(name, False, "source_changed")
        except Exception as error:
            logger.warning(
                "blob %s of run %s: copy_failed (%s at %s)",
                name,
                work.run_id,
                to_infrastructure_error(error),
                format_traceback(error),
            )
            result = BlobResult(name, False, "copy_failed", source_etag=source.etag)
        if result.transferred:
            self._folders.landed(work, name)
            self._pressure.landed()
            self._circuits.landed(account)
        else:
            self._circuits.failed(account, result.code or "", let_through=let_through)
        return replace(result, tries=source.tries, seconds=self._clock.monotonic() - began)

    def _failed(
        self, work: TransferRequest, source: PinnedSource, error: BillingExportError
    ) -> BlobResult:
        wait = error.retry_after_seconds if isinstance(error, TransientError) else None
        detail = (
            error.detail
            if isinstance(error, InvalidDataError)
            else str(to_infrastructure_error(error))
        )
        logger.warning("blob %s of run %s: %s (%s)", source.name, work.run_id, error.code, detail)
        return BlobResult(
            source.name,
            False,
            error.code,
            detail,
            source_etag=source.etag,
            retry_after_seconds=wait or 0,
        )

    async def _land(
        self, work: TransferRequest, source: PinnedSource, recorded: str | None, may_copy: bool
    ) -> BlobResult:
        path = f"{work.folder}/{source.name}"
        there = None
        if recorded is not None or not may_copy or await self._folders.may_hold(work, source.name):
            there = await self._head(path)
        if there is not None and recorded is not None and there.etag == quoted(recorded):
            return BlobResult(
                source.name,
                True,
                bytes=there.size,
                md5=there.md5,
                destination_etag=there.etag,
                copy_method="in_place",
                unchanged=True,
            )
        if there is not None:
            await source.look()
            landed = await self._in_place(work, source, path, there)
        elif may_copy:
            landed = await self._copy(work, source, path)
        else:
            raise PermanentError("copy_failed", error_code="BlobNotFound")
        found = landed.proven
        return BlobResult(
            source.name,
            True,
            detail=landed.why,
            bytes=found.bytes,
            rows=found.rows,
            md5=found.md5 or None,
            sha256=found.sha256,
            source_etag=source.facts.etag,
            destination_etag=landed.etag,
            encoding=found.encoding,
            columns=found.columns,
            copy_method=landed.copy_method,
            transferred=landed.transferred,
        )

    async def _copy(self, work: TransferRequest, source: PinnedSource, path: str) -> _Landed:
        """On the first rung that works. AlreadyThere on any of them: what lies there now is proven instead."""
        why = ""
        try:
            if await self._fetches(work, source):
                try:
                    copy_method = await self._server_side.copy(
                        work, source, lambda: self._target(work, source, path)
                    )
                    landed = await self._in_place(work, source, path, await self._landed(path))
                    return replace(landed, copy_method=copy_method, transferred=True)
                except CopySourceUnreadableError as cannot:
                    why = cannot.why
                    logger.warning(
                        "blob %s of run %s is streamed: %s", source.name, work.run_id, why
                    )
            with self._target(work, source, path) as target:
                etag, proven = await self._streamer.copy(source, target, work.proof)
            return _Landed(etag, proven, "stream", True, why)
        except BlobExistsError:
            return await self._in_place(work, source, path, await self._landed(path))

    @contextmanager
    def _target(
        self, work: TransferRequest, source: PinnedSource, path: str
    ) -> Iterator[BlobWriter]:
        """One for each rung: a block that storage is still fetching must not replace one of the same id staged later."""
        target = BlobWriter(
            self._landing, self._pressure, path, lambda: marks(work, source.facts.etag)
        )
        try:
            yield target
        finally:
            source.tries += target.repeats

    async def _fetches(self, work: TransferRequest, source: PinnedSource) -> bool:
        """Whether storage is to fetch the blob itself. A content proof needs every byte here anyway, and streaming reads
        it once, before anything is visible; so `auto` leaves it to storage only where no byte need be looked at.
        """
        if work.mode == "stream" or (work.mode == "auto" and work.proof == "content"):
            return False
        return (await source.look()).size > 0

    async def _names_in(self, folder: str) -> set[str]:
        return await self._pressure.persist(lambda: self._landing.names(folder), lambda: None)

    async def _head(self, path: str) -> LandedBlob | None:
        return await self._pressure.persist(
            lambda: self._landing.head(path, for_transfer=True), lambda: None
        )

    async def _landed(self, path: str) -> LandedBlob:
        there = await self._head(path)
        if there is None:  # written, and gone again: a rival found it damaged
            raise UnavailableError("destination_unreachable", http_status=404)
        return there

    async def _in_place(
        self, work: TransferRequest, source: PinnedSource, path: str, there: LandedBlob
    ) -> _Landed:
        """Proves a blob of ours where it lies. One that fails is removed, in exactly the state that was looked at."""
        if not is_ours(there.metadata, work, source.facts.etag):
            raise InvalidDataError("foreign_blob", whose(there))
        try:
            proven = await self._look_at(work, source, path, there)
        except InvalidDataError as error:
            if error.code.startswith("proof_"):
                await self._landing.delete(path, there.etag)
            raise
        etag = there.etag
        if not has_our_properties(
            there, proven.md5
        ):  # a rung cannot set them all, or was cut off before it had
            etag = await set_properties(
                self._landing, self._pressure, there, path, proven.md5 or source.facts.md5
            )
        return _Landed(etag, proven, "in_place", False)

    async def _look_at(
        self, work: TransferRequest, source: PinnedSource, path: str, there: LandedBlob
    ) -> ContentSummary:
        size, md5 = source.facts.size, source.facts.md5
        if there.being_copied:
            raise InvalidDataError("proof_size", "storage has only begun the copy")
        if (
            work.proof == "transfer" or there.size != size
        ):  # by what storage says of both; nothing is read
            proven = ContentSummary(there.size, there.md5 or "")
            verify(proven, size, md5 if there.md5 is not None else None)
            return proven

        async def read(start: int, length: int) -> bytes:
            return await self._pressure.persist(
                lambda: read_back(self._landing, there, path, start, length), lambda: None
            )

        proven = await self._streamer.prove(size, read, work.proof)
        verify(proven, size, md5)
        return proven


def whose(blob: LandedBlob) -> str:
    """Of a blob in our way: what it says of itself."""
    run = word(blob.metadata.get("runid"))
    if run is None or "sourceetag" not in blob.metadata:
        return f"a blob of {blob.size} bytes lies there without the marks of this app"
    return f"a blob of {blob.size} bytes lies there that run {run} landed from another state of the source"
