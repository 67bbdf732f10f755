"""Lands blobs, one fate each: looks, copies, proves. Being written."""

from collections.abc import Mapping, Sequence

from shared.clock import Clock
from shared.copying.source import Sources
from shared.copying.work import BlobFate, CopyWork
from shared.landing.store import LandingStore

__all__ = ["BlobFate", "Copier", "CopyWork"]


class Copier:
    """One per process: its limits are the process's."""

    def __init__(self, landing: LandingStore, sources: Sources, clock: Clock, *, concurrency: int = 64) -> None:
        self._landing, self._sources, self._clock = landing, sources, clock

    async def land(self, work: CopyWork, names: Sequence[str], proven: Mapping[str, str]) -> list[BlobFate]:
        """The fate of each name, in their order; `proven`: name -> destination ETag recorded as proven. Raises for none."""
        raise NotImplementedError

    async def prove_in_place(self, work: CopyWork, name: str) -> BlobFate:
        """A blob without a row: proven where it lies, not copied."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends its threads and connections to the source; the landing store is the caller's."""
