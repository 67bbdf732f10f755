"""Client for small blobs in the partner's container: plans, completion markers, catalogue entries.

Paths are those of `shared.landing.layout`, without the container and the prefix. Writes that must
not overwrite use a condition in the request (If-None-Match, If-Match), so storage determines the
winner of a race. `shared.transfer` writes the data and obtains a client for each path from this
module.

All methods raise exceptions of `shared.errors`: `storage_busy` (ThrottledError),
`destination_unreachable` (UnavailableError), and `destination_missing`, `destination_forbidden`,
`destination_full` or `copy_failed` (PermanentError).
"""

import base64
import builtins
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from shared.clock import Clock, SystemClock
from shared.errors import BillingExportError, PermanentError
from shared.landing.storage_errors import (
    get_error_code,
    get_status,
    is_library_error,
    to_landing_error,
)
from shared.proxies import use_env_settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob import BlobProperties
    from azure.storage.blob.aio import BlobClient, ContainerClient

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_SECONDS, READ_SECONDS = 10, 60
SEND_BYTES = 256 * 1024
BLOCK_BYTES = 4 * 1024 * 1024  # the default block size of the SDK
# For a block of 8 MiB over a slow connection; server-side copies set a longer timeout.
COPY_READ_SECONDS = 120


@dataclass(frozen=True, slots=True)
class LandedBlob:
    """The properties of one blob.

    In a listing, `name` is relative to the folder; otherwise it is the path. `etag` includes its
    quotes. `md5` is the Content-MD5 property in base64, which the writer of the blob has set, or
    None.
    """

    name: str
    etag: str
    size: int
    md5: str | None
    metadata: Mapping[str, str]
    content_type: str | None = None
    content_encoding: str | None = None
    has_pending_copy: bool = False  # if true, the other properties are not final


def quoted(etag: str) -> str:
    """Return an ETag with the quotes that listings omit.

    >>> quoted("0x8DE"), quoted('"0x8DE"')
    ('"0x8DE"', '"0x8DE"')
    """
    return etag if etag.endswith('"') else f'"{etag}"'


def _map_errors(
    method: "Callable[Concatenate[LandingStore, P], Coroutine[Any, Any, R]]",
) -> "Callable[Concatenate[LandingStore, P], Coroutine[Any, Any, R]]":
    @functools.wraps(method)
    async def wrapped(self: "LandingStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except BillingExportError:
            raise
        except Exception as error:
            if not is_library_error(error):
                raise
            failure = to_landing_error(error, self.now())
        # Outside of the handler, so that the library error is not attached as its context.
        raise failure

    return wrapped


class LandingStore:
    """The landing container.

    Create it with a connection string (emulator or account key) or with `account_url` and an async
    credential. `client_settings` are passed to the SDK clients; tests use them to observe requests.
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
            "Specify either a connection string or an account URL"
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
        """Return the current time of the store's clock."""
        return self._clock.now()

    @_map_errors
    async def ensure_container(self) -> None:
        """Create the container if it does not exist.

        Raises:
            PermanentError: `destination_missing` or `destination_forbidden` if the container cannot
                be read or created.
        """
        try:
            await self._client().get_container_properties()
            return
        except Exception as error:
            if get_status(error) != 404:
                raise
        try:
            await self._client().create_container()
        except Exception as error:
            if get_error_code(error) == "ContainerAlreadyExists":
                return
            if get_status(error) != 403:
                raise
            missing = PermanentError(
                "destination_missing", http_status=403, error_code=get_error_code(error)
            )
        else:
            return
        raise missing

    async def put(self, path: str, body: bytes, *, content_type: str = "application/json") -> str:
        """Write a blob, overwriting any existing one, and return its ETag.

        Suitable for plans, which only one run writes.
        """
        return await self._upload(path, body, content_type, {"overwrite": True})

    async def create(
        self, path: str, body: bytes, *, content_type: str = "application/json"
    ) -> str | None:
        """Write a blob if it does not exist, and return its ETag.

        Returns None if it exists. The existing blob can result from this call: the SDK repeats a
        write whose response was lost. Read the blob to find out.
        """
        return await self.put_if_match(path, body, None, content_type=content_type)

    async def put_if_match(
        self,
        path: str,
        body: bytes | Iterable[bytes],
        etag: str | None,
        *,
        content_type: str = "application/json",
    ) -> str | None:
        """Overwrite the blob with this ETag, or with None create it, and return the new ETag.

        A body of several parts is written in blocks of BLOCK_BYTES, which become visible together.

        Returns None if the condition is not met. As with `create`, this call itself can be the
        reason.
        """
        try:
            return await self._upload(
                path, body, content_type, {"overwrite": etag is not None, **_if_match(etag)}
            )
        except BillingExportError as error:
            is_condition_unmet = error.error_code in ("BlobAlreadyExists", "ConditionNotMet") or (
                etag is not None
                and error.http_status == 404
                and error.error_code != "ContainerNotFound"
            )  # deleted meanwhile
            if is_condition_unmet:
                return None
            raise

    @_map_errors
    async def read(self, path: str) -> tuple[bytes, str] | None:
        """Return the stored bytes and the ETag of a small blob, or None if it does not exist."""
        try:
            stream = await self.get_blob_client(path, for_transfer=False).download_blob(
                decompress=False
            )
            return await stream.readall(), quoted(stream.properties.etag)
        except Exception as error:
            if _is_missing(error):
                return None
            raise

    @_map_errors
    async def read_range(self, path: str, start: int, length: int, etag: str) -> bytes:
        """Return a range of the stored bytes.

        Raises:
            UnavailableError: `destination_unreachable` if the blob has another ETag.
        """
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

    @_map_errors
    async def get_properties(self, path: str, *, for_transfer: bool = False) -> LandedBlob | None:
        """Return the properties of a blob, or None if it does not exist.

        With `for_transfer`, the request is not retried, because the caller retries.
        """
        try:
            return _to_landed_blob(
                path,
                await self.get_blob_client(path, for_transfer=for_transfer).get_blob_properties(),
            )
        except Exception as error:
            if _is_missing(error):
                return None
            raise

    @_map_errors
    async def list(self, folder: str) -> builtins.list[LandedBlob]:
        """Return all blobs below a folder, at any depth, with their metadata.

        The directory entries of accounts with a hierarchical namespace are omitted.
        """
        start = self._path(folder).rstrip("/") + "/"
        return [
            _to_landed_blob(blob.name.removeprefix(start), blob)
            async for blob in self._client().list_blobs(
                name_starts_with=start, include=["metadata"]
            )
            if not _is_directory(blob)
        ]

    @_map_errors
    async def list_names(self, folder: str) -> set[str]:
        """Return the names below a folder, without retries, because the caller retries."""
        start = self._path(folder).rstrip("/") + "/"
        try:
            return {
                name.removeprefix(start)
                async for name in self._client(for_transfer=True).list_blob_names(
                    name_starts_with=start
                )
            }
        except Exception as error:
            if _is_missing(error):
                return set()
            raise

    @_map_errors
    async def delete(self, path: str, etag: str | None = None) -> bool:
        """Delete a blob and return whether this call deleted it.

        With an ETag, the blob is deleted only if its ETag matches. Returns False if it does not
        match or the blob does not exist.
        """
        try:
            await self.get_blob_client(path, for_transfer=False).delete_blob(**_if_match(etag))
            return True
        except Exception as error:
            if _is_missing(error) or get_error_code(error) == "ConditionNotMet":
                return False
            raise

    @_map_errors
    async def delete_empty_folders(self, folder: str, *, root: str) -> int:
        """Delete the empty directories below and above a folder, and return their number.

        Only accounts with a hierarchical namespace have directories: they remain when their last
        blob is deleted. Delete Blob without `x-ms-delete-snapshots` deletes a directory only if it
        is empty, so no request can delete a blob
        ([adlfs #454](https://github.com/fsspec/adlfs/pull/454)).

        Args:
            folder: The folder. Directories below it are deleted first, then the folder itself, then
                its parents, up to the first one that is not empty.
            root: The parent folder that is kept, with all of its parents.
        """
        start, deleted = self._path(folder) + "/", 0
        below = [
            blob.name
            async for blob in self._client().list_blobs(
                name_starts_with=start, include=["metadata"]
            )
            if _is_directory(blob)
        ]
        for path in sorted(below, key=lambda path: path.count("/"), reverse=True):
            deleted += await self._delete_empty_directory(path)
        while folder.startswith(f"{root}/"):
            if not await self._delete_empty_directory(self._path(folder)):
                break
            folder, deleted = folder.rpartition("/")[0], deleted + 1
        return deleted

    async def _delete_empty_directory(self, path: str) -> bool:
        """Delete a directory and return whether it was empty. A blob is not a directory."""
        client = self._client().get_blob_client(path)
        try:
            if not _is_directory(await client.get_blob_properties()):
                return False
            # In an account without directories, a blob of another tool can mark a folder.
            async for _ in self._client().list_blob_names(name_starts_with=f"{path}/"):
                return False
            await client.delete_blob()
        except Exception as error:
            if _is_missing(error) or get_error_code(error) == "DirectoryIsNotEmpty":
                return False
            raise
        return True

    def get_blob_client(self, path: str, *, for_transfer: bool = True) -> "BlobClient":
        """Return an SDK client for one path.

        It shares the connections of the store and need not be closed.

        With `for_transfer`, the retries of the SDK are disabled; they ignore Retry-After and take
        up to 40 s.
        """
        return self._client(for_transfer).get_blob_client(self._path(path))

    async def close(self) -> None:
        """Close all connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.close()

    def _path(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _client(self, for_transfer: bool = False) -> "ContainerClient":
        kind = "transfer" if for_transfer else "small"
        if kind not in self._clients:
            self._clients[kind] = self._connect(for_transfer)
        return self._clients[kind]

    def _connect(self, for_transfer: bool) -> "ContainerClient":
        from azure.storage.blob.aio import ContainerClient, ExponentialRetry, LinearRetry

        settings: dict[str, Any] = {
            "use_env_settings": use_env_settings(),
            # A redirect would send the content to an arbitrary host.
            "permit_redirects": False,
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
        """Send a large body in pieces, because aiohttp 3.14 would copy it as a whole."""
        body = request.http_request.data
        if isinstance(body, bytes) and len(body) > SEND_BYTES:
            request.http_request.data = _ChunkedBody(body)
        if (hook := self._client_settings.get("raw_request_hook")) is not None:
            hook(request)

    @_map_errors
    async def _upload(
        self,
        path: str,
        body: bytes | Iterable[bytes],
        content_type: str,
        conditions: Mapping[str, Any],
    ) -> str:
        from azure.storage.blob import ContentSettings

        content = body if isinstance(body, bytes) else _join_parts(body)
        response = await self.get_blob_client(path, for_transfer=False).upload_blob(
            content,
            length=len(content) if isinstance(content, bytes) else None,
            validate_content="md5",
            content_settings=ContentSettings(content_type=content_type),
            **conditions,
        )
        return quoted(response["etag"])


class _ChunkedBody:
    """A body that is sent in pieces, from the start for every attempt."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for start in range(0, len(self._data), SEND_BYTES):
            yield self._data[start : start + SEND_BYTES]


def _join_parts(parts: Iterable[bytes]) -> bytes | Iterator[bytes]:
    """Join parts to blocks; return a single block as bytes, which needs one request."""
    blocks = _split_blocks(parts)
    first, second = next(blocks, b""), next(blocks, None)
    return first if second is None else chain((first, second), blocks)


def _split_blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join parts to blocks of about BLOCK_BYTES, because the SDK joins small parts slowly."""
    block, size = list[bytes](), 0
    for part in parts:
        block.append(part)
        size += len(part)
        if size >= BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)


def _if_match(etag: str | None) -> dict[str, Any]:
    if etag is None:
        return {}
    from azure.core import MatchConditions

    return {"etag": quoted(etag), "match_condition": MatchConditions.IfNotModified}


def _is_directory(properties: "BlobProperties") -> bool:
    metadata = properties.metadata or {}
    return any(
        name.lower() == "hdi_isfolder" and value == "true" for name, value in metadata.items()
    )


def _is_missing(error: BaseException) -> bool:
    return get_status(error) == 404 and get_error_code(error) != "ContainerNotFound"


def _to_landed_blob(name: str, properties: "BlobProperties") -> LandedBlob:
    md5 = properties.content_settings.content_md5
    return LandedBlob(
        name=name,
        etag=quoted(properties.etag),
        size=properties.size,
        md5=base64.b64encode(md5).decode() if md5 else None,
        metadata={key.lower(): value for key, value in (properties.metadata or {}).items()},
        content_type=properties.content_settings.content_type,
        content_encoding=properties.content_settings.content_encoding or None,
        has_pending_copy=properties.copy is not None and properties.copy.status == "pending",
    )
