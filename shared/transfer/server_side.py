"""Copies a blob within storage: the landing account reads the source.

The content does not pass through this process.

Each method writes only if the destination does not exist, and is pinned to the ETag of the source:

    put_blob_from_url    One atomic write of up to 5,000 MiB.
    put_block_from_url   Blocks and a block list, for any size. Every block has the ETag condition;
                         otherwise, if the source is overwritten in between, the result is a mixture
                         of two versions without an error.
    copy_blob_from_url   Synchronous copy of up to 256 MiB, for services that support neither.

Asynchronous copy is not used because the service does not guarantee its completion. A method that
storage does not support is not tried again in the same run, and none is tried again if storage
cannot read the source although the app can. The caller proves the result.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cachetools import LRUCache

from shared.clock import Clock
from shared.transfer.blob_writer import BlobWriter, content_settings
from shared.transfer.copy_source_errors import (
    CopyMethodUnsupportedError,
    CopySourceUnreadableError,
    copy_source_error,
)
from shared.transfer.limits import first_error
from shared.transfer.models import TransferRequest
from shared.transfer.source_reader import PinnedSource
from shared.transfer.stream import split_blocks

MIB = 1024 * 1024
MAX_PUT_BLOB_BYTES = 5_000 * MIB
# The emulator does not enforce this limit of Copy Blob From URL.
MAX_COPY_BLOB_BYTES = 256 * MIB
BLOCK_BYTES = 64 * MIB  # at most 50,000 blocks
# Per process. Each block is a small request here, and a read and a write within storage.
MAX_CONCURRENT_BLOCKS = 32
# Storage responds when the copy is complete; the default of the SDK (60 s) is too short.
COPY_SECONDS = 900
MAX_SOURCE_URL_LENGTH = 2048  # including the SAS token; a limit of storage
MAX_RUNS = 32  # runs whose capabilities are kept

CopyMethod = Callable[[PinnedSource, BlobWriter], Awaitable[None]]
CreateWriter = Callable[[], AbstractContextManager[BlobWriter]]


@dataclass
class Capabilities:
    """The capabilities of storage in one run.

    `unreadable_reason` is empty while storage can read the source.
    """

    unsupported_methods: set[str] = field(default_factory=set)
    unreadable_reason: str = ""


class ServerSideCopier:
    """Shared by all copies of a process."""

    def __init__(
        self,
        clock: Clock,
        *,
        block_bytes: int = BLOCK_BYTES,
        max_concurrent_blocks: int = MAX_CONCURRENT_BLOCKS,
    ) -> None:
        self._clock, self._block_bytes = clock, block_bytes
        self._semaphore = asyncio.Semaphore(max_concurrent_blocks)
        self._capabilities: LRUCache[str, Capabilities] = LRUCache(MAX_RUNS)

    def get_capabilities(self, run_id: str) -> Capabilities:
        """Return the capabilities that were observed in a run."""
        return self._capabilities.setdefault(run_id, Capabilities())

    async def copy(
        self, request: TransferRequest, source: PinnedSource, create_writer: CreateWriter
    ) -> str:
        """Copy a blob and return the name of the method.

        Each method uses its own writer, because a block that storage is still copying must not
        replace a block with the same ID that was staged later.

        Raises:
            CopySourceUnreadableError: The blob must be streamed.
            BlobExistsError: The destination exists.
            BillingExportError: Reading or writing failed.
        """
        capabilities = self.get_capabilities(request.run_id)
        methods: tuple[tuple[str, int | None, CopyMethod], ...] = (
            ("put_blob_from_url", MAX_PUT_BLOB_BYTES, self._put_blob),
            ("put_block_from_url", None, self._put_blocks),
            ("copy_blob_from_url", MAX_COPY_BLOB_BYTES, self._copy_blob),
        )
        try:
            if capabilities.unreadable_reason:
                raise CopySourceUnreadableError(capabilities.unreadable_reason)
            for name, max_bytes, copy in methods:
                if name in capabilities.unsupported_methods or (
                    max_bytes is not None and source.properties.size > max_bytes
                ):
                    continue
                try:
                    with create_writer() as writer:
                        await copy(source, writer)
                except CopyMethodUnsupportedError as error:
                    if error.is_permanent:
                        capabilities.unsupported_methods.add(name)
                else:
                    return name
            raise CopySourceUnreadableError(
                "The landing account does not support any method of copying a blob from a URL"
            )
        except CopySourceUnreadableError as error:
            capabilities.unreadable_reason = error.reason
            raise

    async def _put_blob(self, source: PinnedSource, target: BlobWriter) -> None:
        from azure.core import MatchConditions

        md5 = source.properties.md5
        # Storage compares the copied content with `source_content_md5`. The property of the blob
        # needs a header, because the SDK ignores the hash in the content settings.
        options: dict[str, Any] = (
            {}
            if md5 is None
            else {
                "source_content_md5": base64.b64decode(md5),
                "headers": {"x-ms-blob-content-md5": md5},
            }
        )
        await self._send(
            source,
            target,
            lambda url: target.client.upload_blob_from_url(
                url,
                overwrite=False,
                include_source_blob_properties=False,
                content_settings=content_settings(None),
                metadata=target.metadata,
                source_etag=source.properties.etag,
                source_match_condition=MatchConditions.IfNotModified,
                read_timeout=COPY_SECONDS,
                **options,
            ),
        )

    async def _put_blocks(self, source: PinnedSource, target: BlobWriter) -> None:
        blocks = split_blocks(source.properties.size, self._block_bytes)
        try:
            async with asyncio.TaskGroup() as group:
                for index, (start, length) in enumerate(blocks):
                    await self._semaphore.acquire()
                    task = group.create_task(self._put_block(source, target, index, start, length))
                    task.add_done_callback(lambda _: self._semaphore.release())
        except BaseExceptionGroup as errors:
            error = first_error(errors)
        else:
            await target.commit(len(blocks), source.properties.md5)
            return
        raise error

    async def _put_block(
        self, source: PinnedSource, target: BlobWriter, index: int, start: int, length: int
    ) -> None:
        # The SDK method has no parameter for this condition.
        condition = {"x-ms-source-if-match": source.properties.etag}
        await self._send(
            source,
            target,
            lambda url: target.client.stage_block_from_url(
                target.block_id(index),
                url,
                start,
                length,
                headers=dict(condition),
                read_timeout=COPY_SECONDS,
            ),
        )

    async def _copy_blob(self, source: PinnedSource, target: BlobWriter) -> None:
        from azure.core import MatchConditions

        await self._send(
            source,
            target,
            lambda url: target.client.start_copy_from_url(
                url,
                requires_sync=True,
                metadata=target.metadata,
                source_etag=source.properties.etag,
                source_match_condition=MatchConditions.IfNotModified,
                match_condition=MatchConditions.IfMissing,
                read_timeout=COPY_SECONDS,
            ),
        )

    async def _send(
        self, source: PinnedSource, target: BlobWriter, copy: Callable[[str], Awaitable[Any]]
    ) -> None:
        """Send a request that contains the source URL.

        If storage cannot read the source, a direct request determines the reason: it fails, renews
        an expired SAS token, or shows that only storage has no access.
        """
        directory = await source.get_directory()
        for _ in range(2):
            url = directory.blob_url(source.name)
            if len(url) > MAX_SOURCE_URL_LENGTH:
                raise CopySourceUnreadableError(
                    f"The URL of the source exceeds {MAX_SOURCE_URL_LENGTH} characters"
                )
            try:
                await target.retry(partial(self._attempt, copy, url))
                return
            except CopySourceUnreadableError as error:
                reason = error.reason
            await source.fetch_properties()
            renewed = await source.get_directory()
            if renewed == directory:  # the app can read the source with this token, storage cannot
                break
            directory = renewed
        raise CopySourceUnreadableError(reason)

    async def _attempt(self, copy: Callable[[str], Awaitable[Any]], url: str) -> None:
        try:
            await copy(url)
        except Exception as error:
            if (failure := copy_source_error(error, self._clock.now())) is None:
                raise
        else:
            return
        raise failure
