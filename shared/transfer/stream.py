"""Copies a blob through this process and proves it before it is committed.

A blob of at most one block is read, proven and written with a single Put Blob request. The blocks
of a larger blob are read and staged concurrently, proven in order, and committed when the proof of
the whole blob succeeds. Staged blocks are invisible, so a failed copy leaves nothing behind.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from shared.blob_facts import BlobFacts
from shared.transfer.blob_writer import BlobWriter
from shared.transfer.limits import (
    BLOCK_BYTES,
    BytesInFlight,
    WorkerThreads,
    first_error,
    run_concurrently,
)
from shared.transfer.proof import Prover, verify
from shared.transfer.source_reader import PinnedSource

ReadRange = Callable[[int, int], Awaitable[bytes]]  # start, length
WriteBlock = Callable[[int, bytes, bytes], Coroutine[Any, Any, None]]  # index, content, its MD5


def split_blocks(size: int, block_bytes: int) -> list[tuple[int, int]]:
    """Return the start and the length of each block.

    >>> split_blocks(20, 8), split_blocks(0, 8)
    ([(0, 8), (8, 8), (16, 4)], [])
    """
    return [(start, min(block_bytes, size - start)) for start in range(0, size, block_bytes)]


class Streamer:
    """Shared by all copies of a process."""

    def __init__(
        self,
        in_flight: BytesInFlight,
        threads: WorkerThreads,
        *,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._in_flight, self._threads, self._block_bytes = in_flight, threads, block_bytes

    async def copy(
        self, source: PinnedSource, target: BlobWriter, prover: Prover
    ) -> tuple[str, BlobFacts]:
        """Copy a blob and return its destination ETag and facts.

        The first request reads up to one block and also returns the size and the ETag of the
        source.

        Raises:
            InvalidDataError: A proof failed (`proof_*`).
            BlobExistsError: The destination exists.
            BillingExportError: Reading or writing failed.
        """
        acquired = await self._in_flight.acquire(self._block_bytes)
        try:
            await source.read_start(self._block_bytes)
            size = source.properties.size
            if size <= self._block_bytes:
                self._in_flight.release(acquired - min(size, acquired))
                acquired = min(size, acquired)
                return await self._copy_small(source, target, prover)
            first_block, acquired = acquired, 0  # released by the task of the first block
            facts = await self.prove(size, source.read, prover, target.stage, first_block)
        finally:
            self._in_flight.release(acquired)
        verify(facts, size, source.properties.md5)
        blocks = len(split_blocks(size, self._block_bytes))
        return await target.commit(blocks, facts.md5), facts

    async def _copy_small(
        self, source: PinnedSource, target: BlobWriter, prover: Prover
    ) -> tuple[str, BlobFacts]:
        size = source.properties.size
        data = await source.read(0, size) if size else b""
        facts = await self._threads.run(_prove, prover, data)
        verify(facts, size, source.properties.md5)
        return await target.put(data, facts.md5), facts

    async def prove(
        self,
        size: int,
        read: ReadRange,
        prover: Prover,
        write: WriteBlock | None = None,
        acquired_bytes: int = 0,
    ) -> BlobFacts:
        """Read all blocks, prove them in order, and pass each one to `write`.

        `acquired_bytes` is the number of bytes that the caller has already acquired from the limit
        for the first block.
        """
        previous_done = asyncio.Event()
        previous_done.set()
        try:
            async with asyncio.TaskGroup() as group:
                for index, (start, length) in enumerate(split_blocks(size, self._block_bytes)):
                    acquired = (
                        acquired_bytes
                        if acquired_bytes and index == 0
                        else await self._in_flight.acquire(length)
                    )
                    done = asyncio.Event()
                    task = group.create_task(
                        self._transfer_block(
                            index, start, length, read, write, prover, previous_done, done
                        )
                    )
                    # Not within the task: if it is cancelled before its first step, none of its
                    # code runs.
                    task.add_done_callback(partial(self._release, acquired))
                    previous_done = done
        except BaseExceptionGroup as errors:
            error = first_error(errors)
        else:
            return await self._threads.run(prover.finish)
        raise error

    def _release(self, acquired: int, _: asyncio.Task[None]) -> None:
        self._in_flight.release(acquired)

    async def _transfer_block(
        self,
        index: int,
        start: int,
        length: int,
        read: ReadRange,
        write: WriteBlock | None,
        prover: Prover,
        previous_done: asyncio.Event,
        done: asyncio.Event,
    ) -> None:
        data = await read(start, length)

        async def prove() -> None:
            await previous_done.wait()
            await self._threads.run(prover.feed, data)
            done.set()

        async def send(write: WriteBlock) -> None:
            await write(index, data, await self._threads.run(_md5, data))

        await (run_concurrently(prove(), send(write)) if write is not None else prove())


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _prove(prover: Prover, data: bytes) -> BlobFacts:
    prover.feed(data)
    return prover.finish()
