"""Caches manifests and their SAS tokens. A SAS token exists only in the memory of this process."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, quote

from cachetools import LRUCache

from shared.clock import Clock, parse_iso
from shared.manifest import Manifest

# How long before its expiry a token is renewed; at most a quarter of its remaining lifetime.
RENEW_AHEAD = timedelta(minutes=5)
MIN_FETCH_INTERVAL_SECONDS = 2.0  # between two requests for the manifest of one operation
ROOT_SAFE_CHARACTERS = "%!$&'()*+,/:;=@~[]"  # kept unescaped, as Microsoft wrote them
MAX_OPERATIONS = 8  # a manifest of 100,000 blobs takes about 25 MB


@dataclass(frozen=True)
class SourceDirectory:
    """The root directory of a manifest and the SAS token to read it.

    Only `blob_url` contains the token; callers must not store or log its result.
    """

    manifest_etag: str
    root: str
    sas: str = field(repr=False)

    def blob_url(self, name: str) -> str:
        """Return the signed URL of a blob whose name `shared.manifest` has validated.

        `=` in the name is escaped as %3D, which storage treats as equal.
        """
        return f"{quote(self.root.rstrip('/'), safe=ROOT_SAFE_CHARACTERS)}/{quote(name)}?{self.sas}"

    def has_same_data(self, manifest_etag: str, root: str) -> bool:
        """Return whether the directory belongs to this version of the data."""
        return self.manifest_etag == manifest_etag and self.root == root


def sas_expiry(sas: str) -> datetime | None:
    """Return the expiry of a SAS token as an aware datetime, or None if it is not readable.

    >>> sas_expiry("sv=2022-11-02&se=2026-11-08T12%3A37%3A00Z&sig=x").isoformat()
    '2026-11-08T12:37:00+00:00'
    """
    value = parse_qs(sas).get("se", [""])[0].strip()
    # .NET writes seven decimal places.
    value = re.sub(r"(\.\d{6})\d+", r"\1", value).replace("Z", "+00:00")
    try:
        return parse_iso(value)
    except (ValueError, OverflowError):
        return None


class StorageTime:
    """The time of the source storage: its last `Date` header, advanced by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._observed: tuple[datetime, float] | None = None

    def update(self, date_header: str | None) -> None:
        """Record a `Date` header; ignore a missing or malformed one."""
        try:
            date = parsedate_to_datetime(date_header or "")
        except (ValueError, TypeError, IndexError, OverflowError):
            return
        if date.tzinfo is not None:
            # The header has whole seconds; assume the end of the second.
            self._observed = (date + timedelta(seconds=1), self._clock.monotonic())

    def now(self) -> datetime:
        """Return the time of the service, or the local time before the first Date header."""
        if self._observed is None:
            return self._clock.now()
        date, observed_at = self._observed
        return date.astimezone(UTC) + timedelta(seconds=self._clock.monotonic() - observed_at)


class _Entry:
    """The cached state of one operation. The lock serializes the requests to Graph."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.manifest: Manifest | None = None
        self.directory: SourceDirectory | None = None
        self.renew_at: datetime | None = None
        self.fetched_at = float("-inf")  # monotonic seconds of the last attempt
        self.failure: Exception | None = None


class ManifestCache:
    """The manifests of one process.

    `fetch_manifest` requests a manifest from Graph and validates it; its errors are raised to the
    caller. Within `min_fetch_interval_seconds`, the previous manifest or error is returned again:
    a hundred blobs whose token expires at the same time cause one request.
    """

    def __init__(
        self,
        fetch_manifest: Callable[[str], Awaitable[Manifest]],
        clock: Clock,
        *,
        min_fetch_interval_seconds: float = MIN_FETCH_INTERVAL_SECONDS,
    ) -> None:
        self._fetch_manifest, self._clock = fetch_manifest, clock
        self._min_fetch_interval_seconds = min_fetch_interval_seconds
        self._entries: LRUCache[str, _Entry] = LRUCache(MAX_OPERATIONS)
        self.storage_time = StorageTime(clock)

    async def get_manifest(self, operation_id: str, *, fresh: bool = False) -> Manifest:
        """Return the manifest of an operation.

        `fresh` requests it from Graph again, because a plan must use the current version.
        """
        entry = self._get_entry(operation_id)
        async with entry.lock:
            if entry.manifest is None or fresh:
                await self._fetch(operation_id, entry)
            assert entry.manifest is not None
            return entry.manifest

    async def get_directory(self, operation_id: str) -> SourceDirectory:
        """Return the directory with a SAS token that does not expire soon."""
        entry = self._get_entry(operation_id)
        async with entry.lock:
            is_due = entry.renew_at is not None and self.storage_time.now() >= entry.renew_at
            if entry.directory is None or is_due:
                await self._fetch(operation_id, entry)
            assert entry.directory is not None
            return entry.directory

    async def renew_directory(self, operation_id: str, stale: SourceDirectory) -> SourceDirectory:
        """Replace a directory whose token was rejected or whose data is not the planned data.

        Returns:
            A newer directory, or an equal one if Graph has no newer one.
        """
        entry = self._get_entry(operation_id)
        async with entry.lock:
            if entry.directory is None or entry.directory == stale:
                await self._fetch(operation_id, entry)
            assert entry.directory is not None
            return entry.directory

    def _get_entry(self, operation_id: str) -> _Entry:
        return self._entries.setdefault(operation_id, _Entry())

    async def _fetch(self, operation_id: str, entry: _Entry) -> None:
        if self._clock.monotonic() - entry.fetched_at < self._min_fetch_interval_seconds:
            if entry.failure is not None:
                raise entry.failure.with_traceback(None)
            if entry.directory is not None:
                return
        try:
            manifest = await self._fetch_manifest(operation_id)
        except Exception as error:
            entry.failure, entry.fetched_at = error, self._clock.monotonic()
            raise
        entry.manifest, entry.failure, entry.fetched_at = manifest, None, self._clock.monotonic()
        entry.directory = SourceDirectory(
            manifest.etag, manifest.root_directory, manifest.sas_token
        )
        expires, now = sas_expiry(manifest.sas_token), self.storage_time.now()
        entry.renew_at = (
            None
            if expires is None
            else expires - min(RENEW_AHEAD, max(expires - now, timedelta()) / 4)
        )
