"""Lists each destination folder once per run and process, instead of one HEAD request per blob.

A listing is only a hint that saves requests. If another process has written a blob since then, the
conditional write fails, and the copier examines the existing blob.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cachetools import LRUCache

from shared.transfer.models import TransferRequest

MAX_FOLDERS = 8  # the names of 100,000 blobs take about 10 MB

ListNames = Callable[[str], Awaitable[set[str]]]  # folder -> names relative to it


class FolderListings:
    """The cached listings of one process."""

    def __init__(self, list_names: ListNames) -> None:
        self._list_names = list_names
        self._names: LRUCache[tuple[str, str], set[str]] = LRUCache(MAX_FOLDERS)
        self._lock = asyncio.Lock()

    async def may_contain(self, request: TransferRequest, name: str) -> bool:
        """Return whether the folder contained the blob when it was listed.

        An error in `list_names` propagates to the caller, and the next call lists the folder again.
        """
        key = (request.run_id, request.folder)
        if key not in self._names:
            async with self._lock:
                if key not in self._names:
                    self._names[key] = await self._list_names(request.folder)
        return name in self._names[key]

    def add(self, request: TransferRequest, name: str) -> None:
        """Add a written blob, so that an activity that is repeated in this process finds it."""
        names = self._names.get((request.run_id, request.folder))
        if names is not None:
            names.add(name)
