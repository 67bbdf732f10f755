"""Copies blobs to the landing and proves them. Every blob has a result; no error is raised.

- A blob at the destination with the ETag that was recorded after its proof is left unchanged; the
  source is not read.
- A blob at the destination whose metadata match the source is proven there, not copied again.
- A blob whose metadata name this version and another state of the source belongs to this app and is
  unproven: Microsoft rewrote the source after an interrupted copy. It is replaced if its ETag has
  not changed.
- A blob without the metadata of this app, but with a ledger row, was changed by another tool. If
  its content still has the recorded hash, the metadata are merged back.
- Any other blob at the destination is foreign. It is neither overwritten nor deleted.
- A missing blob is copied and proven.

A copy that fails its proof leaves nothing behind: a streamed blob is not committed, and a blob that
storage copied is deleted under the condition that its ETag has not changed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from shared.blob_facts import BlobFacts
from shared.clock import Clock
from shared.errors import (
    BillingExportError,
    InvalidDataError,
    TransientError,
    UnavailableError,
)
from shared.landing.storage_errors import safe_code
from shared.landing.store import LandedBlob, LandingStore, quoted
from shared.ledger.blobs import BlobRow
from shared.manifest import DifferentMonthError
from shared.redaction import format_traceback, to_infrastructure_error
from shared.transfer.blob_writer import (
    BlobExistsError,
    BlobWriter,
    has_same_origin,
    is_own_blob,
    origin_metadata,
    read_landed_range,
    restore_properties,
)
from shared.transfer.circuit_breaker import CircuitBreakers, CircuitOpenError
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.copy_source_errors import CopySourceUnreadableError
from shared.transfer.folder_listings import FolderListings
from shared.transfer.limits import (
    BLOCK_BYTES,
    MAX_BYTES_IN_FLIGHT,
    MAX_CONCURRENT_BLOBS,
    BytesInFlight,
    WorkerThreads,
)
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import BlobResult, TransferRequest
from shared.transfer.proof import Prover, create_prover, verify
from shared.transfer.server_side import ServerSideCopier
from shared.transfer.source_reader import PinnedSource, SourceReader
from shared.transfer.stream import Streamer

# A group of results is returned when it has this size, or when its first result is this old.
MAX_GROUP_RESULTS, MAX_GROUP_SECONDS = 100, 30

logger = logging.getLogger("partner_billing.copying")


class Copier:
    """The copier of one process, with the limits that all its copies share.

    At most `max_concurrency` blobs are copied at the same time, and at most `max_bytes_in_flight`
    bytes of content are in memory. A blob of more than `block_bytes` is read and written in blocks
    of this size.
    """

    def __init__(
        self,
        landing: LandingStore,
        manifests: ManifestCache,
        clock: Clock,
        *,
        max_concurrency: int = MAX_CONCURRENT_BLOBS,
        max_bytes_in_flight: int = MAX_BYTES_IN_FLIGHT,
        block_bytes: int = BLOCK_BYTES,
        reader: SourceReader | None = None,
        limiter: ConcurrencyLimiter | None = None,
        server_side: ServerSideCopier | None = None,
    ) -> None:
        self._landing, self._clock = landing, clock
        self._reader = reader or SourceReader(manifests, clock)
        self._limiter = limiter or ConcurrencyLimiter(clock, max_concurrency=max_concurrency)
        self._circuits = CircuitBreakers(clock)
        self._folders = FolderListings(self._list_names)
        self._threads = WorkerThreads()
        self._streamer = Streamer(
            BytesInFlight(max_bytes_in_flight), self._threads, block_bytes=block_bytes
        )
        self._server_side = server_side or ServerSideCopier(clock)

    async def copy_blobs(
        self, request: TransferRequest, names: Sequence[str], proven: Mapping[str, BlobRow]
    ) -> list[BlobResult]:
        """Copy blobs and return one result for each name, in the same order. Never raises.

        Args:
            request: The version that contains the blobs.
            names: The names of the blobs.
            proven: The rows of blobs that were proven before, by name.
        """
        groups = [group async for group in self.copy_in_groups(request, names, proven)]
        results = {result.name: result for group in groups for result in group}
        return [results[name] for name in names]

    async def copy_in_groups(
        self,
        request: TransferRequest,
        names: Sequence[str],
        proven: Mapping[str, BlobRow],
        *,
        max_seconds: float = MAX_GROUP_SECONDS,
    ) -> AsyncGenerator[list[BlobResult]]:
        """Copy blobs and return their results while the others are still being copied.

        The caller records each group, so that a stop of the process loses at most the results of
        `max_seconds`. The parameters are those of `copy_blobs`.
        """
        loop, deadline = asyncio.get_running_loop(), 0.0
        group: list[BlobResult] = []
        running = {
            asyncio.create_task(self._copy_blob(request, name, proven.get(name))) for name in names
        }
        try:
            while running:
                done, running = await asyncio.wait(
                    running,
                    timeout=max(0.0, deadline - loop.time()) if group else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not group:
                    deadline = loop.time() + max_seconds
                group += [task.result() for task in done]
                if not running or len(group) >= MAX_GROUP_RESULTS or loop.time() >= deadline:
                    yield group
                    group = []
        finally:
            for task in running:
                task.cancel()

    async def close(self) -> None:
        """Stop the threads and close the connections to the source, not the landing store."""
        self._threads.close()
        await self._reader.close()

    async def _copy_blob(
        self, request: TransferRequest, name: str, proven: BlobRow | None
    ) -> BlobResult:
        account, started_at = urlsplit(request.root_directory).netloc, self._clock.monotonic()
        source = PinnedSource(self._reader, self._limiter, request, name)
        is_probe = False
        try:
            async with self._limiter.slot():
                is_probe, started_at = self._circuits.enter(account), self._clock.monotonic()
                result = await self._land(request, source, proven)
        except CircuitOpenError as error:
            return BlobResult(
                name,
                False,
                error.code,
                "Not attempted: the storage account rejected all previous blobs",
                retry_after_seconds=error.retry_after_seconds,
            )
        except BillingExportError as error:
            result = self._to_failed_result(request, source, error)
        except DifferentMonthError:
            result = BlobResult(name, False, "source_changed")
        except Exception as error:
            logger.warning(
                "Copying blob %s of run %s failed: copy_failed (%s at %s)",
                name,
                request.run_id,
                to_infrastructure_error(error),
                format_traceback(error),
            )
            result = BlobResult(name, False, "copy_failed", source_etag=source.etag)
        if result.transferred:
            self._folders.add(request, name)
            self._limiter.record_success()
            self._circuits.record_success(account)
        else:
            self._circuits.record_failure(account, result.code or "", is_probe=is_probe)
        return replace(result, tries=source.tries, seconds=self._clock.monotonic() - started_at)

    def _to_failed_result(
        self, request: TransferRequest, source: PinnedSource, error: BillingExportError
    ) -> BlobResult:
        wait = error.retry_after_seconds if isinstance(error, TransientError) else None
        detail = (
            error.detail
            if isinstance(error, InvalidDataError)
            else str(to_infrastructure_error(error))
        )
        logger.warning(
            "Copying blob %s of run %s failed: %s (%s)",
            source.name,
            request.run_id,
            error.code,
            detail,
        )
        return BlobResult(
            source.name,
            False,
            error.code,
            detail,
            source_etag=source.etag,
            retry_after_seconds=wait or 0,
        )

    async def _land(
        self, request: TransferRequest, source: PinnedSource, proven: BlobRow | None
    ) -> BlobResult:
        path = f"{request.folder}/{source.name}"
        existing = None
        if proven is not None or await self._folders.may_contain(request, source.name):
            existing = await self._find_landed(path)
        if existing is None:
            return await self._copy(request, source, path)
        if proven is not None and existing.etag == quoted(proven.destination_etag):
            return BlobResult(
                source.name,
                True,
                facts=BlobFacts(existing.size, existing.md5 or ""),
                destination_etag=existing.etag,
                copy_method="in_place",
                unchanged=True,
            )
        await source.fetch_properties()
        return await self._land_existing(request, source, path, existing, proven)

    async def _land_existing(
        self,
        request: TransferRequest,
        source: PinnedSource,
        path: str,
        existing: LandedBlob,
        proven: BlobRow | None = None,
    ) -> BlobResult:
        """Prove or replace an existing blob that is not proven in its current state."""
        if has_same_origin(existing.metadata, request, source.properties.etag):
            return await self._prove_in_place(request, source, path, existing)
        if is_own_blob(existing.metadata, request):
            return await self._replace(request, source, path, existing)
        if proven is not None and proven.facts.bytes == existing.size and proven.facts.md5:
            return await self._prove_recorded(request, source, path, existing, proven)
        raise InvalidDataError("foreign_blob", describe_foreign_blob(existing))

    async def _replace(
        self, request: TransferRequest, source: PinnedSource, path: str, existing: LandedBlob
    ) -> BlobResult:
        """Replace a blob by streaming, which proves the content before it becomes visible."""
        try:
            with self._create_writer(request, source, path, replaced_etag=existing.etag) as target:
                etag, facts = await self._streamer.copy(source, target, _create_prover(request))
        except BlobExistsError:
            pass
        else:
            return replace(_to_proven_result(source, etag, facts, "stream"), transferred=True)
        # Another writer replaced it, or this one in a request whose response was lost.
        return await self._prove_in_place(request, source, path, await self._get_landed(path))

    async def _prove_recorded(
        self,
        request: TransferRequest,
        source: PinnedSource,
        path: str,
        existing: LandedBlob,
        proven: BlobRow,
    ) -> BlobResult:
        """Prove a blob without the metadata of this app by the hash in its row.

        The content is read with every proof mode, because another tool can set the MD5 property. A
        blob with other content is foreign.
        """
        try:
            facts = await self._read_landed(request, path, existing)
        except InvalidDataError:
            facts = BlobFacts()
        if facts.md5 != proven.facts.md5:
            raise InvalidDataError("foreign_blob", describe_foreign_blob(existing))
        if source.properties.etag != quoted(proven.source_etag):
            return await self._replace(request, source, path, existing)
        return await self._restore(request, source, path, existing, facts)

    async def _copy(self, request: TransferRequest, source: PinnedSource, path: str) -> BlobResult:
        """Copy a blob with the first method that works.

        If another writer creates the blob meanwhile, that blob is proven instead.
        """
        reason = ""
        try:
            if await self._uses_server_side_copy(request, source):
                try:
                    method = await self._server_side.copy(
                        request, source, lambda: self._create_writer(request, source, path)
                    )
                    result = await self._prove_in_place(
                        request, source, path, await self._get_landed(path)
                    )
                    return replace(result, copy_method=method, transferred=True)
                except CopySourceUnreadableError as error:
                    reason = error.reason
                    logger.warning(
                        "Streaming blob %s of run %s: %s", source.name, request.run_id, reason
                    )
            with self._create_writer(request, source, path) as target:
                etag, facts = await self._streamer.copy(source, target, _create_prover(request))
            return replace(
                _to_proven_result(source, etag, facts, "stream"), transferred=True, detail=reason
            )
        except BlobExistsError:
            return await self._land_existing(request, source, path, await self._get_landed(path))

    @contextmanager
    def _create_writer(
        self,
        request: TransferRequest,
        source: PinnedSource,
        path: str,
        *,
        replaced_etag: str | None = None,
    ) -> Iterator[BlobWriter]:
        writer = BlobWriter(
            self._landing,
            self._limiter,
            path,
            lambda: origin_metadata(request, source.properties.etag),
            replaced_etag=replaced_etag,
        )
        try:
            yield writer
        finally:
            source.tries += writer.retries

    async def _uses_server_side_copy(self, request: TransferRequest, source: PinnedSource) -> bool:
        """Return whether storage copies the blob.

        A content proof reads every byte anyway. Streaming reads the blob once and proves it before
        it becomes visible, so the mode `auto` uses server-side copy only with the proof "transfer".
        """
        if request.mode == "stream" or (request.mode == "auto" and request.proof == "content"):
            return False
        return (await source.fetch_properties()).size > 0

    async def _list_names(self, folder: str) -> set[str]:
        return await self._limiter.retry(lambda: self._landing.list_names(folder), _ignore_retry)

    async def _find_landed(self, path: str) -> LandedBlob | None:
        return await self._limiter.retry(
            lambda: self._landing.get_properties(path, for_transfer=True), _ignore_retry
        )

    async def _get_landed(self, path: str) -> LandedBlob:
        blob = await self._find_landed(path)
        if blob is None:  # another writer found it corrupt and deleted it
            raise UnavailableError("destination_unreachable", http_status=404)
        return blob

    async def _prove_in_place(
        self, request: TransferRequest, source: PinnedSource, path: str, blob: LandedBlob
    ) -> BlobResult:
        """Prove an existing blob; delete it if the proof fails and its ETag has not changed."""
        if not has_same_origin(blob.metadata, request, source.properties.etag):
            raise InvalidDataError("foreign_blob", describe_foreign_blob(blob))
        try:
            facts = await self._get_landed_facts(request, source, path, blob)
        except InvalidDataError as error:
            if error.code.startswith("proof_"):
                await self._landing.delete(path, blob.etag)
            raise
        return await self._restore(request, source, path, blob, facts)

    async def _restore(
        self,
        request: TransferRequest,
        source: PinnedSource,
        path: str,
        blob: LandedBlob,
        facts: BlobFacts,
    ) -> BlobResult:
        """Restore the properties and metadata of a proven blob.

        The blob remains proven if storage rejects the change.
        """
        own = origin_metadata(request, source.properties.etag)
        if has_same_origin(blob.metadata, request, source.properties.etag):
            own["runid"] = blob.metadata.get("runid", own["runid"])
        etag, rejected = await restore_properties(
            self._landing,
            self._limiter,
            blob,
            path,
            md5=facts.md5 or source.properties.md5,
            metadata=own,
        )
        return replace(_to_proven_result(source, etag, facts, "in_place"), rejected_change=rejected)

    async def _get_landed_facts(
        self, request: TransferRequest, source: PinnedSource, path: str, blob: LandedBlob
    ) -> BlobFacts:
        size, md5 = source.properties.size, source.properties.md5
        if blob.has_pending_copy:
            raise InvalidDataError("proof_size", "Storage has not completed the copy")
        has_comparable_md5 = blob.md5 is not None or md5 is None
        needs_content = request.proof == "content" or request.date_member or not has_comparable_md5
        if blob.size != size or not needs_content:
            # The properties are sufficient; the content is not read.
            facts = BlobFacts(blob.size, blob.md5 or "")
            verify(facts, size, md5)
            return facts

        facts = await self._read_landed(request, path, blob)
        verify(facts, size, md5)
        return facts

    async def _read_landed(
        self, request: TransferRequest, path: str, blob: LandedBlob
    ) -> BlobFacts:
        async def read(start: int, length: int) -> bytes:
            return await self._limiter.retry(
                lambda: read_landed_range(self._landing, blob, path, start, length), _ignore_retry
            )

        return await self._streamer.prove(blob.size, read, _create_prover(request))


def _create_prover(request: TransferRequest) -> Prover:
    return create_prover(request.proof, request.date_member)


def _to_proven_result(
    source: PinnedSource, etag: str, facts: BlobFacts, copy_method: str
) -> BlobResult:
    return BlobResult(
        source.name,
        True,
        facts=facts,
        source_etag=source.properties.etag,
        destination_etag=etag,
        copy_method=copy_method,
    )


def _ignore_retry() -> None:
    """Do nothing; these retries are not counted in `tries`."""


def describe_foreign_blob(blob: LandedBlob) -> str:
    """Return the error detail for a blob of another origin."""
    run_id = safe_code(blob.metadata.get("runid"))
    if run_id is None or "sourceetag" not in blob.metadata:
        return f"A blob of {blob.size} bytes without the metadata of this app exists"
    return f"Run {run_id} landed a blob of {blob.size} bytes from another version of the source"
