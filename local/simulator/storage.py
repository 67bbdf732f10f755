"""Microsoft's storage account, simulated by an Azurite account: writes blobs and creates SAS."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import quote

import aiohttp
from azure.storage.blob import (
    AccountSasPermissions,
    ContainerSasPermissions,
    ResourceTypes,
    Services,
    generate_account_sas,
    generate_container_sas,
)
from yarl import URL

from local.simulator.data_files import BlobFile

MAX_CONCURRENT_WRITES = 16
API_VERSION = "2025-11-05"


class StorageWriteError(Exception):
    """The emulator rejected a blob or a container."""


class Storage(Protocol):
    """The storage to which exports are written."""

    @property
    def blob_url(self) -> str:
        """The account's URL, for example `http://127.0.0.1:40001/billing`."""
        ...

    async def write(
        self,
        container: str,
        folder: str,
        files: Iterable[BlobFile],
        *,
        encoding: str | None,
        with_md5: bool,
    ) -> None: ...

    def sas(self, container: str, lifetime_seconds: float) -> str: ...


@dataclass(frozen=True)
class BillingStorage:
    """An Azurite account."""

    connection_string: str = field(repr=False)

    def _part(self, name: str) -> str:
        for part in self.connection_string.split(";"):
            key, _, value = part.partition("=")
            if key == name:
                return value
        raise ValueError(f"The connection string does not contain {name}.")

    @property
    def account_name(self) -> str:
        return self._part("AccountName")

    @property
    def blob_url(self) -> str:
        return self._part("BlobEndpoint").rstrip("/")

    def sas(self, container: str, lifetime_seconds: float) -> str:
        """Return a container SAS for reading and listing; Azurite does not support a directory SAS.

        The start time varies within the last 15 minutes, so that consecutive SAS tokens differ.
        """
        now = datetime.now(UTC)
        return str(
            generate_container_sas(
                self.account_name,
                container,
                account_key=self._part("AccountKey"),
                permission=ContainerSasPermissions(read=True, list=True),
                start=now - timedelta(seconds=60 + next(_COUNTER) % 840),
                expiry=(now + timedelta(seconds=lifetime_seconds)).replace(microsecond=0),
            )
        )

    def _write_sas(self) -> str:
        return str(
            generate_account_sas(
                self.account_name,
                account_key=self._part("AccountKey"),
                resource_types=ResourceTypes(container=True, object=True),
                permission=AccountSasPermissions(read=True, write=True, create=True, list=True),
                services=Services(blob=True),
                expiry=datetime.now(UTC) + timedelta(hours=6),
            )
        )

    async def write(
        self,
        container: str,
        folder: str,
        files: Iterable[BlobFile],
        *,
        encoding: str | None,
        with_md5: bool,
    ) -> None:
        """Write files concurrently. Each file is generated in a thread when it is written."""
        async with self._session() as session:
            writer = _Writer(session, self.blob_url, self._write_sas(), encoding, with_md5)
            await writer.create(container)
            remaining = iter(files)

            async def write_remaining() -> None:
                for file in remaining:
                    await writer.put(
                        f"{container}/{folder}/{file.name}",
                        await asyncio.to_thread(getattr, file, "content"),
                    )

            async with asyncio.TaskGroup() as group:
                for _ in range(MAX_CONCURRENT_WRITES):
                    group.create_task(write_remaining())

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONCURRENT_WRITES),
            timeout=aiohttp.ClientTimeout(total=300),
            headers={"x-ms-version": API_VERSION},
        ) as session:
            yield session


_COUNTER = itertools.count()


@dataclass(frozen=True)
class _Writer:
    session: aiohttp.ClientSession
    blob_url: str
    sas: str
    encoding: str | None
    with_md5: bool

    async def create(self, container: str) -> None:
        await self._put(container, "restype=container", b"", {}, allowed=409)

    async def put(self, path: str, content: bytes) -> None:
        properties = {"x-ms-blob-content-type": "application/octet-stream"}
        if self.encoding:
            properties["x-ms-blob-content-encoding"] = self.encoding
        if self.with_md5:  # Put Blob always stores an MD5; Put Block List does not
            await self._put(path, "", content, {**properties, "x-ms-blob-type": "BlockBlob"})
            return
        block = base64.b64encode(b"00000000").decode()
        await self._put(path, f"comp=block&blockid={quote(block, safe='')}", content, {})
        blocks = (
            f'<?xml version="1.0" encoding="utf-8"?><BlockList><Latest>{block}</Latest></BlockList>'
        )
        await self._put(
            path,
            "comp=blocklist",
            blocks.encode(),
            {**properties, "Content-Type": "application/xml"},
        )

    async def _put(
        self, path: str, query: str, body: bytes, headers: dict[str, str], allowed: int = 201
    ) -> None:
        url = URL(f"{self.blob_url}/{path}?{query}{'&' if query else ''}{self.sas}", encoded=True)
        async with self.session.put(url, data=body, headers=headers) as response:
            if response.status not in (201, allowed):
                raise StorageWriteError(
                    f"PUT {path}: {response.status} {response.headers.get('x-ms-error-code', '')}"
                )


@dataclass(frozen=True)
class NoStorage:
    """Storage for tests that read no blobs: it writes nothing."""

    blob_url: str = "http://127.0.0.1:10000/billing"

    async def write(
        self,
        container: str,
        folder: str,
        files: Iterable[BlobFile],
        *,
        encoding: str | None,
        with_md5: bool,
    ) -> None:
        return

    def sas(self, container: str, lifetime_seconds: float) -> str:
        return f"sv=2025-11-05&sr=c&sp=rl&n={next(_COUNTER)}&sig=bm9uZQ%3D%3D"
