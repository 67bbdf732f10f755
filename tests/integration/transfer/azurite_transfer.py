"""Two accounts of the emulator as Microsoft's and the partner's, and a Graph that hands out manifests with signatures."""

import gzip
import hashlib
import random
import uuid
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
from shared.transfer.copier import Copier, TransferRequest
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.server_side import ServerSideCopier
from shared.transfer.source_reader import SourceReader

FOLDER = (
    "data/billed_usage/invoice_id=G016907411/attribute_set=full/version=20261108T093700Z-3f9a1c20"
)
BLOCK = 512 * 1024  # bytes; "large" in these tests is what takes more than one
SERVER_SIDE_BLOCK = 1_000_000
ETAG = 'W/"ünïque-eTag"'


def json_rows(count: int, seed: int = 1) -> bytes:
    """JSON lines that gzip packs about three times."""
    noise = random.Random(seed)
    return b"".join(
        b'{"InvoiceNumber": "G016907411", "Line": %d, "Id": "%s"}\n'
        % (n, noise.randbytes(16).hex().encode())
        for n in range(count)
    )


def gzip_members(size: int) -> bytes:
    """A gzip file of at least `size` bytes, of many members."""
    member = gzip.compress(json_rows(4_000), 1)
    return member * (size // len(member) + 1)


def md5_base64(data: bytes) -> str:
    return b64encode(hashlib.md5(data).digest()).decode()


class CountingReader(SourceReader):
    """`disturb(count, method)` runs before each request to the source."""

    def __init__(self, sources: ManifestCache, **settings: Any) -> None:
        super().__init__(sources, SystemClock(), **settings)
        self.requests: list[str] = []
        self.disturb: Callable[[int, str], Awaitable[None]] | None = None

    async def request(self, method: str, url: str, headers: Any, use: Any) -> Any:
        self.requests.append(method)
        if self.disturb is not None:
            await self.disturb(len(self.requests), method)
        return await super().request(method, url, headers, use)


class AzuriteTransfer:
    def __init__(self, azurite: Azurite, container: str) -> None:
        self.azurite, self.container = azurite, container
        self.source_service = BlobServiceClient.from_connection_string(
            azurite.billing.connection_string
        )
        self.root = (
            f"{azurite.billing.blob_url}/{container}/PartnerTenantId=0f1c/InvoiceId=G016907411"
        )
        self.etag, self.sas_seconds, self.fetches = ETAG, 3600.0, 0
        self.permission = ContainerSasPermissions(read=True)
        self.sources = ManifestCache(
            self.fetch_manifest, SystemClock(), min_fetch_interval_seconds=0.2
        )
        self.landing_requests: list[
            str
        ] = []  # method and comp of every request to the landing account
        self.landing = LandingStore(
            container=container,
            prefix="lake",
            connection_string=azurite.landing.connection_string,
            raw_request_hook=lambda request: self.landing_requests.append(
                f"{request.http_request.method} {request.http_request.query.get('comp', '')}".strip()
            ),
        )
        self.reader = CountingReader(self.sources)
        self.copier = Copier(
            self.landing,
            self.sources,
            SystemClock(),
            reader=self.reader,
            block_bytes=BLOCK,
            max_bytes_in_flight=4 * BLOCK,
            server_side=ServerSideCopier(SystemClock(), block_bytes=SERVER_SIDE_BLOCK),
        )
        self.second_copier = Copier(self.landing, self.sources, SystemClock(), block_bytes=BLOCK)
        self.request = TransferRequest("run-1", "operation-1", FOLDER, ETAG, self.root)

    async def __aenter__(self) -> "AzuriteTransfer":
        await self.source_service.create_container(self.container)
        await self.landing.ensure_container()
        self.landing_requests.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in (self.copier, self.second_copier, self.landing, self.source_service):
            await part.close()

    def sas(self) -> str:
        billing = self.azurite.billing
        return generate_container_sas(
            billing.name,
            self.container,
            account_key=billing.key,
            permission=self.permission,
            expiry=datetime.now(UTC) + timedelta(seconds=self.sas_seconds),
        )

    async def fetch_manifest(self, operation_id: str) -> Manifest:
        self.fetches += 1
        return Manifest(
            id="1",
            etag=self.etag,
            created=datetime(2026, 11, 8, tzinfo=UTC),
            schema_version="2",
            partner_tenant_id="0f1c",
            root_directory=self.root,
            blobs=(),
            blob_count=0,
            sas_token=self.sas(),
        )

    @property
    def source_container(self) -> ContainerClient:
        return self.source_service.get_container_client(self.container)

    async def put_source(
        self, name: str, data: bytes, *, with_md5: bool = True, encoding: str | None = None
    ) -> None:
        """Puts a blob into Microsoft's account."""
        blob = self.source_container.get_blob_client(
            f"PartnerTenantId=0f1c/InvoiceId=G016907411/{name}"
        )
        checksum = bytearray(hashlib.md5(data).digest()) if with_md5 else None
        for at in range(0, len(data), 1024 * 1024):
            await blob.stage_block(f"{at:012}", data[at : at + 1024 * 1024], validate_content="md5")
        await blob.commit_block_list(
            [BlobBlock(f"{at:012}") for at in range(0, len(data), 1024 * 1024)]
        )
        if encoding or checksum:
            await blob.set_http_headers(
                ContentSettings(content_md5=checksum, content_encoding=encoding)
            )

    async def get_landed(self, name: str) -> tuple[bytes, LandedBlob] | None:
        path = f"{FOLDER}/{name}"
        read, head = await self.landing.read(path), await self.landing.get_properties(path)
        return (read[0], head) if read and head else None

    async def copy(self, names: Iterable[str], **changes: Any) -> Any:
        """The fates by name; `proven` and fields of the work by keyword."""
        proven = changes.pop("proven", {})
        results = await self.copier.copy_blobs(
            replace(self.request, **changes), list(names), proven
        )
        return {result.name: result for result in results}


def container_name() -> str:
    return f"c{uuid.uuid4().hex[:20]}"
