"""Where the bytes come from and the signature to read them with. The signature lives in this process's memory, nowhere else."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, quote

from shared.clock import Clock, parse_iso
from shared.manifest import Manifest

RENEW_AHEAD = timedelta(
    minutes=5
)  # or a quarter of what it was good for when it came, if that is less
PAUSE_SECONDS = 2.0  # between two fetches of one operation's manifest in this process
URL_SAFE = "%!$&'()*+,/:;=@~[]"  # what stays as Microsoft wrote it in the root
KEPT = 8  # operations; a manifest of 100,000 blobs takes some 25 MB


@dataclass(frozen=True)
class SourceDirectory:
    """Root and signature of one manifest. Only `blob_url` shows the signature, and what it returns is never kept."""

    manifest_etag: str
    root: str
    sas: str = field(repr=False)

    def blob_url(self, name: str) -> str:
        """`name` has passed shared.manifest. Its `=` becomes %3D, which storage reads as the same."""
        return f"{quote(self.root.rstrip('/'), safe=URL_SAFE)}/{quote(name)}?{self.sas}"

    def same_data(self, manifest_etag: str, root: str) -> bool:
        return self.manifest_etag == manifest_etag and self.root == root


def sas_expiry(sas: str) -> datetime | None:
    """The moment in `se`, aware; None where there is none that can be read: then only a 403 tells.

    >>> sas_expiry("sv=2022-11-02&se=2026-11-08T12%3A37%3A00Z&sig=x").isoformat()
    '2026-11-08T12:37:00+00:00'
    """
    said = parse_qs(sas).get("se", [""])[0].strip()
    said = re.sub(r"(\.\d{6})\d+", r"\1", said).replace("Z", "+00:00")  # .NET writes seven digits
    try:
        return parse_iso(said)
    except (ValueError, OverflowError):
        return None


class StorageTime:
    """What the source's storage thinks the time is: its last `Date` header, carried on by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: tuple[datetime, float] | None = None

    def heard(self, date_header: str | None) -> None:
        try:
            said = parsedate_to_datetime(date_header or "")
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        if said.tzinfo is not None:
            self._heard = (
                said + timedelta(seconds=1),
                self._clock.monotonic(),
            )  # it names whole seconds: the later end

    def now(self) -> datetime:
        if self._heard is None:
            return self._clock.now()
        said, at = self._heard
        return said.astimezone(UTC) + timedelta(seconds=self._clock.monotonic() - at)


class _Known:
    """What is known of one operation. `lock` lets one fetch through at a time."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.manifest: Manifest | None = None
        self.directory: SourceDirectory | None = None
        self.renew_at: datetime | None = None
        self.fetched_at = float("-inf")  # monotonic seconds, of the last attempt
        self.failure: Exception | None = None


class ManifestCache:
    """One per process. `fetch_manifest` asks Graph and guards what it gets; what it raises is passed on.

    Within PAUSE_SECONDS of a fetch the same answer (or failure) is given again: a hundred blobs that find their
    signature refused at once ask Graph once.
    """

    def __init__(
        self,
        fetch_manifest: Callable[[str], Awaitable[Manifest]],
        clock: Clock,
        *,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._fetch_manifest, self._clock, self._pause = fetch_manifest, clock, pause
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self.storage_time = StorageTime(clock)

    async def get_manifest(self, operation_id: str, *, fresh: bool = False) -> Manifest:
        """As last fetched; `fresh` asks Graph (a plan must see the version of now). Raises what fetch_manifest raises."""
        known = self._of(operation_id)
        async with known.lock:
            if known.manifest is None or fresh:
                await self._fetch(operation_id, known)
            assert known.manifest is not None
            return known.manifest

    async def get_directory(self, operation_id: str) -> SourceDirectory:
        """Root and signature to read with now, renewed ahead of the expiry."""
        known = self._of(operation_id)
        async with known.lock:
            due = known.renew_at is not None and self.storage_time.now() >= known.renew_at
            if known.directory is None or due:
                await self._fetch(operation_id, known)
            assert known.directory is not None
            return known.directory

    async def renew_directory(self, operation_id: str, stale: SourceDirectory) -> SourceDirectory:
        """After a 403, or where `stale` is of other data than planned: another one, or an equal one if Graph has none newer."""
        known = self._of(operation_id)
        async with known.lock:
            if known.directory is None or known.directory == stale:
                await self._fetch(operation_id, known)
            assert known.directory is not None
            return known.directory

    def _of(self, operation_id: str) -> _Known:
        known = self._known.setdefault(operation_id, _Known())
        self._known.move_to_end(operation_id)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return known

    async def _fetch(self, operation_id: str, known: _Known) -> None:
        if self._clock.monotonic() - known.fetched_at < self._pause:
            if known.failure is not None:
                raise known.failure.with_traceback(None)
            if known.directory is not None:
                return
        try:
            manifest = await self._fetch_manifest(operation_id)
        except Exception as error:
            known.failure, known.fetched_at = error, self._clock.monotonic()
            raise
        known.manifest, known.failure, known.fetched_at = manifest, None, self._clock.monotonic()
        known.directory = SourceDirectory(
            manifest.etag, manifest.root_directory, manifest.sas_token
        )
        expires, now = sas_expiry(manifest.sas_token), self.storage_time.now()
        known.renew_at = (
            None
            if expires is None
            else expires - min(RENEW_AHEAD, max(expires - now, timedelta()) / 4)
        )
