"""Reads and writes of small things in the partner's container: plans, markers, catalogue entries, listings.

Paths are those of shared.landing.layout, without container and prefix. Every write that may not overwrite says so in
the request itself (If-None-Match, If-Match): storage decides who was first, never a look before the write. The data
themselves pass through shared.transfer, which asks here for a client of their path.

Each call raises shared.errors only: storage_busy (Throttled), destination_unreachable (Unavailable),
destination_missing, destination_forbidden, destination_full, copy_failed (Terminal).
"""

import base64
import builtins
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from shared.clock import Clock, SystemClock
from shared.errors import BillingExportError, PermanentError
from shared.landing.storage_errors import code_of, from_library, landing_error, status_of
from shared.proxies import use_env_settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob import BlobProperties
    from azure.storage.blob.aio import BlobClient, ContainerClient

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_SECONDS, READ_SECONDS = 10, 60
SENT_AT_ONCE = 256 * 1024  # bytes
COPY_READ_SECONDS = (
    120  # a block of 8 MiB on a slow day; server-side copies ask for more themselves
)


@dataclass(frozen=True)
class LandedBlob:
    """One blob as storage describes it. `name` is relative to the folder listed (head: the path), `etag` in quotes.

    `md5` is the Content-MD5 property in base64, set by whoever wrote the blob; None where there is none.
    """

    name: str
    etag: str
    size: int
    md5: str | None
    metadata: Mapping[str, str]
    content_type: str | None = None
    content_encoding: str | None = None
    being_copied: bool = False  # storage began a copy by itself and has not ended it: nothing of the rest is true yet


def quoted(etag: str) -> str:
    """An ETag as headers carry it; listings leave the quotes out.

    >>> quoted("0x8DE"), quoted('"0x8DE"')
    ('"0x8DE"', '"0x8DE"')
    """
    return etag if etag.endswith('"') else f'"{etag}"'


def _own_errors(
    method: "Callable[Concatenate[LandingStore, P], Coroutine[Any, Any, R]]",
) -> "Callable[Concatenate[LandingStore, P], Coroutine[Any, Any, R]]":
    @functools.wraps(method)
    async def wrapped(self: "LandingStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except BillingExportError:
            raise
        except Exception as error:
            if not from_library(error):
                raise
            said = landing_error(error, self.now())
        raise said  # out here, so that the library's words are not even its __context__

    return wrapped


class LandingStore:
    """Construct with a connection string (Azurite, a key) or with `account_url` and an async credential. One per process.

    `client_settings` go to the SDK's clients (tests count and disturb requests there).
    """

    def __init__(
        self,
        *,
        container: str,
        prefix: str = "",
        connection_string: str | None = None,
        account_url: str | None = None,
        credential: "AsyncTokenCredential | None" = None,
        clock: Clock | None = None,
        **client_settings: Any,
    ) -> None:
        assert (connection_string is None) != (account_url is None), (
            "either a connection string or an account URL"
        )
        self._container, self._prefix = container, prefix.strip("/")
        self._connection_string, self._account_url, self._credential = (
            connection_string,
            account_url,
            credential,
        )
        self._clock, self._client_settings = clock or SystemClock(), client_settings
        self._clients: dict[str, ContainerClient] = {}

    def __repr__(self) -> str:
        return f"LandingStore(container={self._container!r}, prefix={self._prefix!r})"

    def now(self) -> datetime:
        return self._clock.now()

    @_own_errors
    async def ensure_container(self) -> None:
        """Made if it is missing and the identity may; else raises destination_missing or destination_forbidden."""
        try:
            await self._client().get_container_properties()
            return
        except Exception as error:
            if status_of(error) != 404:
                raise
        try:
            await self._client().create_container()
        except Exception as error:
            if code_of(error) == "ContainerAlreadyExists":
                return
            if status_of(error) != 403:
                raise
            missing = PermanentError(
                "destination_missing", http_status=403, error_code=code_of(error)
            )
        else:
            return
        raise missing

    async def put(self, path: str, body: bytes, *, content_type: str = "application/json") -> str:
        """Writes, whatever is there: for plans, which only their own run writes. Returns the ETag."""
        return await self._upload(path, body, content_type, {"overwrite": True})

    async def create(
        self, path: str, body: bytes, *, content_type: str = "application/json"
    ) -> str | None:
        """Writes if nothing is there; None = something is. That may be our own write, whose answer was lost: read it."""
        return await self.put_if_match(path, body, None, content_type=content_type)

    async def put_if_match(
        self, path: str, body: bytes, etag: str | None, *, content_type: str = "application/json"
    ) -> str | None:
        """Writes over the blob of this ETag, or, with None, where there is none. Returns the new ETag; None = not first.

        As with create(), None may stand for our own write: the SDK repeats a write whose answer was lost.
        """
        try:
            return await self._upload(
                path, body, content_type, {"overwrite": etag is not None, **_if_match(etag)}
            )
        except BillingExportError as error:
            lost = error.error_code in ("BlobAlreadyExists", "ConditionNotMet") or (
                etag is not None
                and error.http_status == 404
                and error.error_code != "ContainerNotFound"
            )  # gone meanwhile
            if lost:
                return None
            raise

    @_own_errors
    async def read(self, path: str) -> tuple[bytes, str] | None:
        """The blob's bytes as stored and its ETag; None = absent. For small blobs: all of it is in memory."""
        try:
            stream = await self.get_blob_client(path, for_transfer=False).download_blob(
                decompress=False
            )
            return await stream.readall(), quoted(stream.properties.etag)
        except Exception as error:
            if _absent(error):
                return None
            raise

    @_own_errors
    async def read_range(self, path: str, start: int, length: int, etag: str) -> bytes:
        """Bytes of a blob as stored, in exactly this state of it. Raises destination_unreachable where it has changed."""
        from azure.core import MatchConditions

        stream = await self.get_blob_client(path, for_transfer=False).download_blob(
            offset=start,
            length=length,
            decompress=False,
            etag=etag,
            match_condition=MatchConditions.IfNotModified,
        )
        data: bytes = await stream.readall()
        return data

    @_own_errors
    async def head(self, path: str, *, for_transfer: bool = False) -> LandedBlob | None:
        """`copying`: asked once, by a caller that repeats by itself."""
        try:
            return _landed(
                path,
                await self.get_blob_client(path, for_transfer=for_transfer).get_blob_properties(),
            )
        except Exception as error:
            if _absent(error):
                return None
            raise

    @_own_errors
    async def list(self, folder: str) -> builtins.list[LandedBlob]:
        """All blobs below the folder, in any depth, with metadata; folder stubs of hierarchical accounts are passed over."""
        start = self._path(folder).rstrip("/") + "/"
        return [
            _landed(found.name.removeprefix(start), found)
            async for found in self._client().list_blobs(
                name_starts_with=start, include=["metadata"]
            )
            if (found.metadata or {}).get("hdi_isfolder") != "true"
        ]

    @_own_errors
    async def names(self, folder: str) -> set[str]:
        """The names below the folder; asked once, for a caller that repeats by itself."""
        start = self._path(folder).rstrip("/") + "/"
        try:
            return {
                name.removeprefix(start)
                async for name in self._client(for_transfer=True).list_blob_names(
                    name_starts_with=start
                )
            }
        except Exception as error:
            if _absent(error):
                return set()
            raise

    @_own_errors
    async def delete(self, path: str, etag: str | None = None) -> bool:
        """Whether this call deleted it. With an ETag: only that state of it; False also where it is absent or another."""
        try:
            await self.get_blob_client(path, for_transfer=False).delete_blob(**_if_match(etag))
            return True
        except Exception as error:
            if _absent(error) or code_of(error) == "ConditionNotMet":
                return False
            raise

    def get_blob_client(self, path: str, *, for_transfer: bool = True) -> "BlobClient":
        """A client of one path; it shares the store's connections, so it need not be closed.

        For copying the SDK repeats nothing: its pauses last up to 40 s and ignore Retry-After (blob-copy, 6).
        """
        return self._client(for_transfer).get_blob_client(self._path(path))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    def _path(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _client(self, for_transfer: bool = False) -> "ContainerClient":
        kind = "copying" if for_transfer else "small"
        if kind not in self._clients:
            self._clients[kind] = self._connect(for_transfer)
        return self._clients[kind]

    def _connect(self, for_transfer: bool) -> "ContainerClient":
        from azure.storage.blob.aio import ContainerClient, ExponentialRetry, LinearRetry

        settings: dict[str, Any] = {
            "use_env_settings": use_env_settings(),
            "permit_redirects": False,  # the SDK would follow one to any host, with our bytes (design, 12)
            "connection_timeout": CONNECT_SECONDS,
            "read_timeout": COPY_READ_SECONDS if for_transfer else READ_SECONDS,
            "retry_policy": (
                ExponentialRetry(retry_total=0)
                if for_transfer
                else LinearRetry(backoff=1, retry_total=2, random_jitter_range=0)
            ),
            **self._client_settings,
            "raw_request_hook": self._before_request,
        }
        if self._connection_string is not None:
            return ContainerClient.from_connection_string(
                self._connection_string, self._container, **settings
            )
        assert self._account_url is not None
        return ContainerClient(
            self._account_url, self._container, credential=self._credential, **settings
        )

    def _before_request(self, request: Any) -> None:
        """The HTTP library would copy a large body of bytes, or a file of them, as a whole (aiohttp 3.14)."""
        body = request.http_request.data
        if isinstance(body, bytes) and len(body) > SENT_AT_ONCE:
            request.http_request.data = _Body(body)
        if (hook := self._client_settings.get("raw_request_hook")) is not None:
            hook(request)

    @_own_errors
    async def _upload(
        self, path: str, body: bytes, content_type: str, conditions: Mapping[str, Any]
    ) -> str:
        from azure.storage.blob import ContentSettings

        written = await self.get_blob_client(path, for_transfer=False).upload_blob(
            body,
            length=len(body),
            validate_content="md5",
            content_settings=ContentSettings(content_type=content_type),
            **conditions,
        )
        return quoted(written["etag"])


class _Body:
    """Bytes that are sent piece by piece; begun anew by every try."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for at in range(0, len(self._data), SENT_AT_ONCE):
            yield self._data[at : at + SENT_AT_ONCE]


def _if_match(etag: str | None) -> dict[str, Any]:
    if etag is None:
        return {}
    from azure.core import MatchConditions

    return {"etag": quoted(etag), "match_condition": MatchConditions.IfNotModified}


def _absent(error: BaseException) -> bool:
    return status_of(error) == 404 and code_of(error) != "ContainerNotFound"


def _landed(name: str, found: "BlobProperties") -> LandedBlob:
    md5 = found.content_settings.content_md5
    return LandedBlob(
        name=name,
        etag=quoted(found.etag),
        size=found.size,
        md5=base64.b64encode(md5).decode() if md5 else None,
        metadata={key.lower(): value for key, value in (found.metadata or {}).items()},
        content_type=found.content_settings.content_type,
        content_encoding=found.content_settings.content_encoding or None,
        being_copied=found.copy is not None and found.copy.status == "pending",
    )
