"""A copier between two storage accounts in memory."""

import gzip
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shared.landing.store import LandingStore
from shared.manifest import Manifest
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.copier import Copier
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import BlobResult, TransferRequest
from shared.transfer.server_side import ServerSideCopier
from shared.transfer.source_reader import SourceReader
from tests.integration.transfer.azurite_transfer import FOLDER, json_rows
from tests.support.clocks import FakeClock
from tests.support.fake_storage_account import FakeStorageAccount, StoredBlob, base64_md5

ROOT = "exports/root"
NAME = "part-00000.json.gz"
SMALL = gzip.compress(json_rows(200), mtime=0)
BLOCK_BYTES = 64 * 1024
START = datetime(2026, 11, 8, 12, tzinfo=UTC)
SECRET = "s3cr3tSignature"


class InMemoryTransfer:
    """A source account, a landing account, and a copier between them.

    Args:
        max_wait_seconds: The maximum wait for the storage service.
        concurrency: The maximum number of blobs that are copied at the same time.
        server_side_block_bytes: The block size for server-side copies.
        max_concurrent_blocks: The maximum number of blocks that are transferred at the same time.

    Attributes:
        signatures: The signatures in the manifests that Graph returns, in order. The last signature
            is repeated.
        manifest_fetches: The number of manifests that were fetched.
    """

    def __init__(
        self,
        *,
        max_wait_seconds: float = 15,
        concurrency: int = 8,
        server_side_block_bytes: int = BLOCK_BYTES,
        max_concurrent_blocks: int = 4,
    ) -> None:
        self.source, self.landing, self.clock = (
            FakeStorageAccount("billing"),
            FakeStorageAccount("landing"),
            FakeClock(START),
        )
        self.landing.copy_source = self.source
        self.signatures, self.manifest_fetches = [SECRET], 0
        self.manifest_etag = "etag"
        self._max_wait_seconds, self._concurrency = max_wait_seconds, concurrency
        self._server_side_block_bytes = server_side_block_bytes
        self._max_concurrent_blocks = max_concurrent_blocks
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> "InMemoryTransfer":
        for account in (self.source, self.landing):
            await self._exits.enter_async_context(account)
        self.store = LandingStore(
            container="lake", connection_string=self.landing.connection_string, clock=self.clock
        )
        self._exits.push_async_callback(self.store.close)
        self.copier = self._create_copier()
        root = f"{self.source.origin}/billing/{ROOT}"
        self.request = TransferRequest("run-1", "operation-1", FOLDER, "etag", root)
        return self

    def restart(self) -> None:
        """Replace the copier with one that has no cached state, as in a new process."""
        self.copier = self._create_copier()

    def _create_copier(self) -> Copier:
        sources = ManifestCache(self._fetch_manifest, self.clock, min_fetch_interval_seconds=0)
        self.limiter = ConcurrencyLimiter(
            self.clock,
            max_concurrency=self._concurrency,
            max_wait_seconds=self._max_wait_seconds,
            sleep=self.clock.sleep,
        )
        copier = Copier(
            self.store,
            sources,
            self.clock,
            limiter=self.limiter,
            block_bytes=BLOCK_BYTES,
            max_bytes_in_flight=self._max_concurrent_blocks * BLOCK_BYTES,
            reader=SourceReader(sources, self.clock, idle_seconds=0.3),
            server_side=ServerSideCopier(
                self.clock,
                block_bytes=self._server_side_block_bytes,
                max_concurrent_blocks=self._max_concurrent_blocks,
            ),
        )
        self._exits.push_async_callback(copier.close)
        return copier

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def _fetch_manifest(self, operation_id: str) -> Manifest:
        self.manifest_fetches += 1
        signature = self.signatures.pop(0) if len(self.signatures) > 1 else self.signatures[0]
        return Manifest(
            "1",
            self.manifest_etag,
            self.clock.now(),
            "2",
            "t",
            self.request.root_directory,
            (),
            0,
            f"se=2099-01-01T00%3A00%3A00Z&sig={signature}",
        )

    def put_source(
        self, name: str = NAME, content: bytes = SMALL, *, md5: bool = True, **properties: str
    ) -> StoredBlob:
        """Store a blob in the source account. Property names use underscores instead of hyphens."""
        return self.source.put(
            f"{ROOT}/{name}",
            content,
            **({"Content_MD5": base64_md5(content)} if md5 else {}),
            **properties,
        )

    async def copy(self, names: Iterable[str] = (NAME,), **changes: Any) -> list[BlobResult]:
        """Copy blobs and return the results.

        Args:
            names: The names of the blobs.
            changes: Fields of the request, and `proven`: the recorded rows by name.
        """
        proven = changes.pop("proven", {})
        return await self.copier.copy_blobs(replace(self.request, **changes), list(names), proven)

    def get_landed(self, name: str = NAME) -> StoredBlob | None:
        """Return a landed blob, or None."""
        return self.landing.blobs.get(f"lake/{FOLDER}/{name}")
