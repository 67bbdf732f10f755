"""Copies a blob through this process, and proves it on the way: nothing is committed before all of it is proven.

Up to 8 MiB are one read, one look, one Put Blob. More go in blocks of 8 MiB: read side by side, inspected one after
another, staged side by side, and committed when the proof of the whole holds. Blocks that are staged are invisible
until then, so a blob that fails leaves nothing behind.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from shared.transfer.blob_writer import BlobWriter
from shared.transfer.limits import BLOCK, BytesInFlight, Threads, first_of, together
from shared.transfer.models import Proof
from shared.transfer.proof import ContentSummary, Prover, create_prover, verify
from shared.transfer.source_reader import PinnedSource

Read = Callable[[int, int], Awaitable[bytes]]  # start, length
Write = Callable[[int, bytes, bytes], Coroutine[Any, Any, None]]  # index, bytes, their MD5


def blocks_of(size: int, block: int) -> list[tuple[int, int]]:
    """Start and length of each.

    >>> blocks_of(20, 8), blocks_of(0, 8)
    ([(0, 8), (8, 8), (16, 4)], [])
    """
    return [(start, min(block, size - start)) for start in range(0, size, block)]


class Streamer:
    """Shared by all copies of the process."""

    def __init__(self, in_flight: BytesInFlight, threads: Threads, *, block: int = BLOCK) -> None:
        self._in_flight, self._threads, self._block_size = in_flight, threads, block

    async def copy(
        self, source: PinnedSource, target: BlobWriter, proof: Proof
    ) -> tuple[str, ContentSummary]:
        """Destination ETag and what was proven. Raises Rejected(proof_...), AlreadyThere and what reading and writing raise.

        The first request reads as much as a small blob has, and tells size and ETag of any.
        """
        taken = await self._in_flight.take(self._block_size)
        try:
            await source.begin(self._block_size)
            size = source.facts.size
            if size <= self._block_size:
                self._in_flight.give(taken - min(size, taken))
                taken = min(size, taken)
                return await self._copy_small(source, target, proof)
            begun, taken = taken, 0  # its first block's task gives it back
            proven = await self.prove(size, source.read, proof, target.stage, begun)
        finally:
            self._in_flight.give(taken)
        verify(proven, size, source.facts.md5)
        return await target.commit(len(blocks_of(size, self._block_size)), proven.md5), proven

    async def _copy_small(
        self, source: PinnedSource, target: BlobWriter, proof: Proof
    ) -> tuple[str, ContentSummary]:
        size = source.facts.size
        data = await source.read(0, size) if size else b""
        proven = await self._threads.run(_prove_whole, create_prover(proof), data)
        verify(proven, size, source.facts.md5)
        return await target.put(data, proven.md5), proven

    async def prove(
        self, size: int, read: Read, proof: Proof, write: Write | None = None, begun: int = 0
    ) -> ContentSummary:
        """Reads all blocks, feeds them to the proof in their order, and hands each to `write`, too.

        `begun`: what is taken of the bytes in flight already, for the first block.
        """
        looking, before = create_prover(proof), asyncio.Event()
        before.set()
        try:
            async with asyncio.TaskGroup() as group:
                for index, (start, length) in enumerate(blocks_of(size, self._block_size)):
                    taken = begun if begun and index == 0 else await self._in_flight.take(length)
                    after = asyncio.Event()
                    task = group.create_task(
                        self._block(index, start, length, read, write, looking, before, after)
                    )
                    # not in the task: one that is cancelled before its first step would never give anything back
                    task.add_done_callback(partial(self._give, taken))
                    before = after
        except BaseExceptionGroup as errors:
            failed = first_of(errors)
        else:
            return await self._threads.run(looking.finish)
        raise failed

    def _give(self, taken: int, _: asyncio.Task[None]) -> None:
        self._in_flight.give(taken)

    async def _block(
        self,
        index: int,
        start: int,
        length: int,
        read: Read,
        write: Write | None,
        looking: Prover,
        before: asyncio.Event,
        after: asyncio.Event,
    ) -> None:
        data = await read(start, length)

        async def look() -> None:
            await before.wait()
            await self._threads.run(looking.feed, data)
            after.set()

        async def send(write: Write) -> None:
            await write(index, data, await self._threads.run(_md5, data))

        await (together(look(), send(write)) if write is not None else look())


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _prove_whole(looking: Prover, data: bytes) -> ContentSummary:
    looking.feed(data)
    return looking.finish()
