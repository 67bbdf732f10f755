"""A copier between two Azurite accounts: the source account and the landing account.

This module creates the manifests that Graph returns, with a signed URL for the source container.
"""

import gzip
import hashlib
import random
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.storage.blob import (
    BlobBlock,
    ContainerSasPermissions,
    ContentSettings,
    generate_container_sas,
)
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

from local.azurite import Azurite
from shared.clock import SystemClock
from shared.landing.store import LandedBlob, LandingStore
from shared.manifest import Manifest
from shared.transfer.copier import Copier
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import BlobResult, TransferRequest
from shared.transfer.server_side import ServerSideCopier
from shared.transfer.source_reader import SourceReader

FOLDER = (
    "data/billed_usage/invoice_id=G016907411/attribute_set=full/version=20261108T093700Z-3f9a1c20"
)
BLOCK_BYTES = 512 * 1024  # a "large" blob in these tests has more than one block
SERVER_SIDE_BLOCK_BYTES = 1_000_000
SOURCE_FOLDER = "PartnerTenantId=0f1c/InvoiceId=G016907411"
MANIFEST_ETAG = 'W/"ünïque-eTag"'


def json_rows(count: int, seed: int = 1) -> bytes:
    """Return JSON lines that gzip compresses to about a third of their size."""
    generator = random.Random(seed)
    return b"".join(
        b'{"InvoiceNumber": "G016907411", "Line": %d, "Id": "%s"}\n'
        % (n, generator.randbytes(16).hex().encode())
        for n in range(count)
    )


def gzip_members(size: int) -> bytes:
    """Return a gzip file with several members and at least `size` bytes."""
    member = gzip.compress(json_rows(4_000), 1)
    return member * (size // len(member) + 1)


def md5_base64(data: bytes) -> str:
    return b64encode(hashlib.md5(data).digest()).decode()


class CountingReader(SourceReader):
    """A source reader that records its requests.

    Attributes:
        requests: The HTTP method of each request.
        before_request: Called before each request with its number, from 1, and its method.
    """

    def __init__(self, sources: ManifestCache, **settings: Any) -> None:
        super().__init__(sources, SystemClock(), **settings)
        self.requests: list[str] = []
        self.before_request: Callable[[int, str], Awaitable[None]] | None = None

    async def request(self, method: str, url: str, headers: Any, use: Any) -> Any:
        self.requests.append(method)
        if self.before_request is not None:
            await self.before_request(len(self.requests), method)
        return await super().request(method, url, headers, use)


class AzuriteTransfer:
    """A source container, a landing container, and copiers between them.

    Attributes:
        manifest_etag: The eTag of the manifests that Graph returns.
        sas_seconds: The remaining validity of the signatures in these manifests; negative if they
            have expired.
        permission: The permission that these signatures grant.
        manifest_fetches: The number of manifests that were fetched.
        landing_requests: The method and `comp` parameter of each request to the landing account.
        before_landing_request: Called before each request to the landing account.
        after_landing_response: Called after each response from the landing account.
        copier: The copier under test.
        second_copier: A copier that simulates another process and uses the same containers.
    """

    def __init__(
        self, azurite: Azurite, container: str, *, max_bytes_in_flight: int = 4 * BLOCK_BYTES
    ) -> None:
        self.azurite, self.container = azurite, container
        self.source_service = BlobServiceClient.from_connection_string(
            azurite.billing.connection_string
        )
        self.root = f"{azurite.billing.blob_url}/{container}/{SOURCE_FOLDER}"
        self.manifest_etag, self.sas_seconds, self.manifest_fetches = MANIFEST_ETAG, 3600.0, 0
        self.permission = ContainerSasPermissions(read=True)
        self.sources = ManifestCache(
            self._fetch_manifest, SystemClock(), min_fetch_interval_seconds=0.2
        )
        self.landing_requests: list[str] = []
        self.before_landing_request: Callable[[Any], None] = lambda request: None
        self.after_landing_response: Callable[[Any], None] = lambda response: None
        self.landing = LandingStore(
            container=container,
            prefix="lake",
            connection_string=azurite.landing.connection_string,
            raw_request_hook=self._record_landing_request,
            raw_response_hook=lambda response: self.after_landing_response(response),
        )
        self.reader = CountingReader(self.sources)
        self.copier = Copier(
            self.landing,
            self.sources,
            SystemClock(),
            reader=self.reader,
            block_bytes=BLOCK_BYTES,
            max_bytes_in_flight=max_bytes_in_flight,
            server_side=ServerSideCopier(SystemClock(), block_bytes=SERVER_SIDE_BLOCK_BYTES),
        )
        self.second_copier = Copier(
            self.landing, self.sources, SystemClock(), block_bytes=BLOCK_BYTES
        )
        self.request = TransferRequest("run-1", "operation-1", FOLDER, MANIFEST_ETAG, self.root)

    async def __aenter__(self) -> "AzuriteTransfer":
        await self.source_service.create_container(self.container)
        await self.landing.ensure_container()
        self.landing_requests.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        for resource in (self.copier, self.second_copier, self.landing, self.source_service):
            await resource.close()

    def _record_landing_request(self, request: Any) -> None:
        http_request = request.http_request
        self.landing_requests.append(
            f"{http_request.method} {http_request.query.get('comp', '')}".strip()
        )
        self.before_landing_request(request)

    def _create_sas(self) -> str:
        billing = self.azurite.billing
        return generate_container_sas(
            billing.name,
            self.container,
            account_key=billing.key,
            permission=self.permission,
            expiry=datetime.now(UTC) + timedelta(seconds=self.sas_seconds),
        )

    async def _fetch_manifest(self, operation_id: str) -> Manifest:
        self.manifest_fetches += 1
        return Manifest(
            id="1",
            etag=self.manifest_etag,
            created=datetime(2026, 11, 8, tzinfo=UTC),
            schema_version="2",
            partner_tenant_id="0f1c",
            root_directory=self.root,
            blobs=(),
            blob_count=0,
            sas_token=self._create_sas(),
        )

    @property
    def source_container(self) -> ContainerClient:
        return self.source_service.get_container_client(self.container)

    async def put_source(
        self, name: str, data: bytes, *, with_md5: bool = True, encoding: str | None = None
    ) -> None:
        """Upload a blob to the source account."""
        blob = self.source_container.get_blob_client(f"{SOURCE_FOLDER}/{name}")
        checksum = bytearray(hashlib.md5(data).digest()) if with_md5 else None
        for offset in range(0, len(data), 1024 * 1024):
            await blob.stage_block(
                f"{offset:012}", data[offset : offset + 1024 * 1024], validate_content="md5"
            )
        await blob.commit_block_list(
            [BlobBlock(f"{offset:012}") for offset in range(0, len(data), 1024 * 1024)]
        )
        if encoding or checksum:
            await blob.set_http_headers(
                ContentSettings(content_md5=checksum, content_encoding=encoding)
            )

    async def get_landed(self, name: str) -> tuple[bytes, LandedBlob] | None:
        """Return the content and the properties of a landed blob, or None."""
        path = f"{FOLDER}/{name}"
        content = await self.landing.read(path)
        properties = await self.landing.get_properties(path)
        return (content[0], properties) if content and properties else None

    async def list_landed(self) -> list[str]:
        """Return the names of all blobs in the landing folder."""
        return [blob.name for blob in await self.landing.list(FOLDER)]

    def open_landing_service(self) -> BlobServiceClient:
        """Return a client for the landing account that does not use the app."""
        return BlobServiceClient.from_connection_string(self.azurite.landing.connection_string)

    async def copy(self, names: Iterable[str], **changes: Any) -> dict[str, BlobResult]:
        """Copy blobs and return the results by name.

        Args:
            names: The names of the blobs.
            changes: Fields of the request, and `proven`: the recorded rows by name.
        """
        proven = changes.pop("proven", {})
        results = await self.copier.copy_blobs(
            replace(self.request, **changes), list(names), proven
        )
        return {result.name: result for result in results}

    async def copy_blob(self, name: str, **changes: Any) -> BlobResult:
        """Copy one blob. The arguments are those of `copy`."""
        return (await self.copy([name], **changes))[name]
