"""Lets the partner's storage fetch a blob itself (Put Block From URL): no byte of it passes through this process.

Every block carries the source's ETag as a condition: without it, a source that is overwritten between two blocks gives
a mixture of two versions and no error (reference: blob-copy, 2). What arrived is proven by reading it back.
"""

import asyncio

from shared.clock import Clock
from shared.copying.limits import first_of
from shared.copying.reading import PinnedSource
from shared.copying.stream import blocks_of
from shared.copying.writing import BlobWriter, CannotFetch
from shared.errors import Terminal, Throttled
from shared.landing.refusals import code_of, header_of, status_of
from shared.retry_after import retry_after_seconds

FETCHED_BLOCK = 64 * 1024 * 1024  # bytes; at most 50,000 of them
FETCHES = 16  # at once in this process; each is one small request here, and a read and a write at storage
FETCH_SECONDS = 900  # storage answers when the block is copied
LONGEST_URL = 2048  # with signature: a limit of storage's
SOURCE_BUSY = ("ServerBusy", "InternalError", "OperationTimedOut")


class ServerSide:
    """Shared by all copies of the process."""

    def __init__(self, clock: Clock, *, block: int = FETCHED_BLOCK) -> None:
        self._clock, self._block = clock, block
        self._gate = asyncio.Semaphore(FETCHES)

    async def copy(self, source: PinnedSource, target: BlobWriter) -> str:
        """The destination's ETag. Raises CannotFetch, AlreadyThere and what reading and writing raise."""
        blocks = blocks_of(source.facts.size, self._block)
        try:
            async with asyncio.TaskGroup() as group:
                for index, (start, length) in enumerate(blocks):
                    await self._gate.acquire()
                    task = group.create_task(self._fetch(source, target, index, start, length))
                    task.add_done_callback(lambda _: self._gate.release())
        except BaseExceptionGroup as errors:
            failed = first_of(errors)
        else:
            return await target.commit(len(blocks), source.facts.md5)
        raise failed

    async def _fetch(self, source: PinnedSource, target: BlobWriter, index: int, start: int, length: int) -> None:
        directory = await source.directory()
        for _ in range(2):
            url = directory.blob_url(source.name)
            if len(url) > LONGEST_URL:
                raise CannotFetch

            async def fetch(url: str = url) -> None:
                try:
                    await target.client.stage_block_from_url(
                        target.block_id(index), url, start, length,
                        headers={"x-ms-source-if-match": source.facts.etag}, read_timeout=FETCH_SECONDS)
                except Exception as error:
                    if (said := self._of_source(error)) is None:
                        raise
                else:
                    return
                raise said

            try:
                await target.persistently(fetch)
                return
            except CannotFetch:
                pass
            await source.look()  # one direct look decides (blob-copy, 2, rung 4); it renews a signature that has expired
            newer = await source.directory()
            if newer == directory:  # this process may read it with this very signature, storage may not
                break
            directory = newer
        raise CannotFetch

    def _of_source(self, error: BaseException) -> Exception | None:
        """What storage says of the source; None where it speaks of the destination or got no answer."""
        status, code = status_of(error), code_of(error)
        cause_status, cause = header_of(error, "x-ms-copy-source-status-code"), header_of(error, "x-ms-copy-source-error-code")
        if cause_status in ("429", "503") or cause in SOURCE_BUSY:
            wait = retry_after_seconds(header_of(error, "Retry-After"), self._clock.now())
            return Throttled("storage_busy", retry_after_seconds=wait, http_status=status, error_code=cause)
        if status == 412 or cause_status == "412":
            return Terminal("source_changed", http_status=status, error_code=code)
        if code == "ContainerNotFound":
            return None
        if code == "CannotVerifyCopySource" or status in (401, 403, 404, 501) or (status == 500 and code is None):
            return CannotFetch()  # 500 without a code: an emulator's way to say 501
        return None
