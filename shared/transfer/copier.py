"""Copies blobs to the landing and proves them. Every blob has a result; no error is raised.

- A blob at the destination with the ETag that was recorded after its proof is left unchanged; the
  source is not read.
- A blob at the destination whose metadata match the source is proven there, not copied again.
- Any other blob at the destination is foreign. It is neither overwritten nor deleted.
- A missing blob is copied and proven.

A copy that fails its proof leaves nothing behind: a streamed blob is not committed, and a blob that
storage copied is deleted under the condition that its ETag has not changed.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
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
from shared.manifest import DifferentMonthError
from shared.redaction import format_traceback, to_infrastructure_error
from shared.transfer.blob_writer import (
    BlobExistsError,
    BlobWriter,
    has_expected_properties,
    has_same_origin,
    origin_metadata,
    read_landed_range,
    set_properties,
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
from shared.transfer.proof import verify
from shared.transfer.server_side import ServerSideCopier
from shared.transfer.source_reader import PinnedSource, SourceReader
from shared.transfer.stream import Streamer

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
        self, request: TransferRequest, names: Sequence[str], proven_etags: Mapping[str, str]
    ) -> list[BlobResult]:
        """Copy blobs and return one result for each name, in the same order. Never raises.

        Args:
            request: The version that contains the blobs.
            names: The names of the blobs.
            proven_etags: The destination ETags of blobs that were proven before, by name.
        """
        return await asyncio.gather(
            *(self._copy_blob(request, name, proven_etags.get(name)) for name in names)
        )

    async def close(self) -> None:
        """Stop the threads and close the connections to the source, not the landing store."""
        self._threads.close()
        await self._reader.close()

    async def _copy_blob(
        self, request: TransferRequest, name: str, proven_etag: str | None
    ) -> BlobResult:
        account, started_at = urlsplit(request.root_directory).netloc, self._clock.monotonic()
        source = PinnedSource(self._reader, self._limiter, request, name)
        is_probe = False
        try:
            async with self._limiter.slot():
                is_probe, started_at = self._circuits.enter(account), self._clock.monotonic()
                result = await self._land(request, source, proven_etag)
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
        self, request: TransferRequest, source: PinnedSource, proven_etag: str | None
    ) -> BlobResult:
        path = f"{request.folder}/{source.name}"
        existing = None
        if proven_etag is not None or await self._folders.may_contain(request, source.name):
            existing = await self._find_landed(path)
        if existing is None:
            return await self._copy(request, source, path)
        if proven_etag is not None and existing.etag == quoted(proven_etag):
            return BlobResult(
                source.name,
                True,
                facts=BlobFacts(existing.size, existing.md5 or ""),
                destination_etag=existing.etag,
                copy_method="in_place",
                unchanged=True,
            )
        await source.fetch_properties()
        return await self._prove_in_place(request, source, path, existing)

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
                etag, facts = await self._streamer.copy(source, target, request.proof)
            return replace(
                _to_proven_result(source, etag, facts, "stream"), transferred=True, detail=reason
            )
        except BlobExistsError:
            return await self._prove_in_place(request, source, path, await self._get_landed(path))

    @contextmanager
    def _create_writer(
        self, request: TransferRequest, source: PinnedSource, path: str
    ) -> Iterator[BlobWriter]:
        writer = BlobWriter(
            self._landing,
            self._limiter,
            path,
            lambda: origin_metadata(request, source.properties.etag),
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
        etag = blob.etag
        # A server-side copy cannot set all properties, or was interrupted before it did.
        if not has_expected_properties(blob, facts.md5):
            etag = await set_properties(
                self._landing, self._limiter, blob, path, facts.md5 or source.properties.md5
            )
        return _to_proven_result(source, etag, facts, "in_place")

    async def _get_landed_facts(
        self, request: TransferRequest, source: PinnedSource, path: str, blob: LandedBlob
    ) -> BlobFacts:
        size, md5 = source.properties.size, source.properties.md5
        if blob.has_pending_copy:
            raise InvalidDataError("proof_size", "Storage has not completed the copy")
        if request.proof == "transfer" or blob.size != size:
            # The properties are sufficient; the content is not read.
            facts = BlobFacts(blob.size, blob.md5 or "")
            verify(facts, size, md5 if blob.md5 is not None else None)
            return facts

        async def read(start: int, length: int) -> bytes:
            return await self._limiter.retry(
                lambda: read_landed_range(self._landing, blob, path, start, length), _ignore_retry
            )

        facts = await self._streamer.prove(size, read, request.proof)
        verify(facts, size, md5)
        return facts


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
