"""What lies in the folders that are being filled: one listing for a run and process instead of a look at each blob.

Only a hint, which saves requests. A blob that somebody else has landed since is met when it is written: every write is
refused where something lies (blob-copy, 4), and what lies there is looked at then.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from shared.transfer.models import TransferRequest

KEPT = 8  # runs; the names of 100,000 blobs take some 10 MB

Names = Callable[[str], Awaitable[set[str]]]  # folder -> names in it, relative to it


class FolderListings:
    """One per process. What `names_in` raises is passed on, and the next one to ask lists again."""

    def __init__(self, names_in: Names) -> None:
        self._names_in = names_in
        self._known: OrderedDict[tuple[str, str], set[str]] = OrderedDict()
        self._listing = asyncio.Lock()

    async def may_hold(self, work: TransferRequest, name: str) -> bool:
        of = (work.run_id, work.folder)
        if of not in self._known:
            async with self._listing:
                if of not in self._known:
                    self._known[of] = await self._names_in(work.folder)
                    while len(self._known) > KEPT:
                        self._known.popitem(last=False)
        self._known.move_to_end(of)
        return name in self._known[of]

    def landed(self, work: TransferRequest, name: str) -> None:
        """So that an activity that is repeated in this process looks before it copies."""
        names = self._known.get((work.run_id, work.folder))
        if names is not None:
            names.add(name)
