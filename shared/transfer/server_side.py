"""Lets the partner's storage fetch a blob itself: no byte of it passes through this process.

The ladder (reference: blob-copy, 2), each rung only where nothing is and pinned to the source's ETag:

    put_blob_from_url      one atomic write, up to 5,000 MiB
    put_block_from_url     blocks and their list, any size; the condition on every block, else a source that is overwritten
                           between two of them gives a mixture of two versions and no error
    copy_blob_from_url     synchronous, up to 256 MiB, for services that have neither

Never the plain asynchronous copy: it promises no end. A rung that storage does not offer is not tried again in the same
run; nor is any, where storage cannot read the source though this process can. What arrived is proven by the caller.
"""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shared.clock import Clock
from shared.transfer.blob_writer import BlobWriter, settings
from shared.transfer.copy_source_errors import (
    CopyMethodUnsupportedError,
    CopySourceUnreadableError,
    copy_source_error,
)
from shared.transfer.limits import first_of
from shared.transfer.models import TransferRequest
from shared.transfer.source_reader import PinnedSource
from shared.transfer.stream import blocks_of

MIB = 1024 * 1024
WHOLE_MOST = 5_000 * MIB  # bytes of one Put Blob From URL
COPY_MOST = (
    256 * MIB
)  # bytes of one Copy Blob From URL; the emulator does not hold it, so it is held here
FETCHED_BLOCK = 64 * MIB  # bytes; at most 50,000 of them
FETCHES = 32  # blocks at once in this process; each is one small request here, and a read and a write at storage
FETCH_SECONDS = (
    900  # storage answers when it has copied; the SDK's usual 60 s are too short (blob-copy, 6)
)
LONGEST_URL = 2048  # with signature: a limit of storage's
KEPT = 32  # runs

Climb = Callable[[PinnedSource, BlobWriter], Awaitable[None]]
Target = Callable[[], Any]  # a context manager that gives a BlobWriter


@dataclass
class Ladder:
    """What a run has learned. `blocked` says why storage cannot fetch for it at all, "" while it can."""

    not_offered: set[str] = field(default_factory=set)
    blocked: str = ""


class ServerSideCopier:
    """Shared by all copies of the process."""

    def __init__(self, clock: Clock, *, block: int = FETCHED_BLOCK, abreast: int = FETCHES) -> None:
        self._clock, self._block = clock, block
        self._gate = asyncio.Semaphore(abreast)
        self._ladders: OrderedDict[str, Ladder] = OrderedDict()
        self._rungs: tuple[tuple[str, int | None, Climb], ...] = (
            ("put_blob_from_url", WHOLE_MOST, self._put_blob),
            ("put_block_from_url", None, self._put_blocks),
            ("copy_blob_from_url", COPY_MOST, self._copy_blob),
        )

    def ladder(self, run_id: str) -> Ladder:
        known = self._ladders.setdefault(run_id, Ladder())
        self._ladders.move_to_end(run_id)
        while len(self._ladders) > KEPT:
            self._ladders.popitem(last=False)
        return known

    async def copy(self, work: TransferRequest, source: PinnedSource, target: Target) -> str:
        """The rung that copied it. Raises CannotFetch where it has to be streamed, AlreadyThere, and what reading and
        writing raise. Each rung has a target of its own: a block that storage is still fetching must not replace one.
        """
        ladder = self.ladder(work.run_id)
        try:
            if ladder.blocked:
                raise CopySourceUnreadableError(ladder.blocked)
            for name, most, climb in self._rungs:
                if name in ladder.not_offered or (most is not None and source.facts.size > most):
                    continue
                try:
                    with target() as writer:
                        await climb(source, writer)
                except CopyMethodUnsupportedError as refused:
                    if refused.for_good:
                        ladder.not_offered.add(name)
                else:
                    return name
            raise CopySourceUnreadableError("the landing account offers no copy from a URL")
        except CopySourceUnreadableError as cannot:
            ladder.blocked = cannot.why
            raise

    async def _put_blob(self, source: PinnedSource, target: BlobWriter) -> None:
        from azure.core import MatchConditions

        md5 = source.facts.md5
        more: dict[str, Any] = (
            {}
            if md5 is None
            else {  # storage holds what it fetched against the first; the SDK drops
                "source_content_md5": base64.b64decode(
                    md5
                ),  # the second where it is part of the content settings
                "headers": {"x-ms-blob-content-md5": md5},
            }
        )
        await self._signed(
            source,
            target,
            lambda url: target.client.upload_blob_from_url(
                url,
                overwrite=False,
                include_source_blob_properties=False,
                content_settings=settings(None),
                metadata=target.metadata,
                source_etag=source.facts.etag,
                source_match_condition=MatchConditions.IfNotModified,
                read_timeout=FETCH_SECONDS,
                **more,
            ),
        )

    async def _put_blocks(self, source: PinnedSource, target: BlobWriter) -> None:
        blocks = blocks_of(source.facts.size, self._block)
        try:
            async with asyncio.TaskGroup() as group:
                for index, (start, length) in enumerate(blocks):
                    await self._gate.acquire()
                    task = group.create_task(self._put_block(source, target, index, start, length))
                    task.add_done_callback(lambda _: self._gate.release())
        except BaseExceptionGroup as errors:
            failed = first_of(errors)
        else:
            await target.commit(len(blocks), source.facts.md5)
            return
        raise failed

    async def _put_block(
        self, source: PinnedSource, target: BlobWriter, index: int, start: int, length: int
    ) -> None:
        condition = {"x-ms-source-if-match": source.facts.etag}  # the method has no keyword for it
        await self._signed(
            source,
            target,
            lambda url: target.client.stage_block_from_url(
                target.block_id(index),
                url,
                start,
                length,
                headers=dict(condition),
                read_timeout=FETCH_SECONDS,
            ),
        )

    async def _copy_blob(self, source: PinnedSource, target: BlobWriter) -> None:
        from azure.core import MatchConditions

        await self._signed(
            source,
            target,
            lambda url: target.client.start_copy_from_url(
                url,
                requires_sync=True,
                metadata=target.metadata,
                source_etag=source.facts.etag,
                source_match_condition=MatchConditions.IfNotModified,
                match_condition=MatchConditions.IfMissing,
                read_timeout=FETCH_SECONDS,
            ),
        )

    async def _signed(
        self, source: PinnedSource, target: BlobWriter, ask: Callable[[str], Awaitable[Any]]
    ) -> None:
        """One request that names the source; where storage cannot read it, one direct look decides (blob-copy, 2, rung 4)."""
        directory = await source.directory()
        for _ in range(2):
            url = directory.blob_url(source.name)
            if len(url) > LONGEST_URL:
                raise CopySourceUnreadableError("the source's address is longer than storage takes")
            try:
                await target.persistently(partial(self._ask, ask, url))
                return
            except CopySourceUnreadableError as error:
                why = error.why
            await (
                source.look()
            )  # raises what is wrong with the source; renews a signature that has expired
            newer = await source.directory()
            if (
                newer == directory
            ):  # this process may read it with this very signature, storage may not
                break
            directory = newer
        raise CopySourceUnreadableError(why)

    async def _ask(self, ask: Callable[[str], Awaitable[Any]], url: str) -> None:
        try:
            await ask(url)
        except Exception as error:
            if (said := copy_source_error(error, self._clock.now())) is None:
                raise
        else:
            return
        raise said
