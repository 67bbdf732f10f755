"""Reads source blobs in ranges, pinned to one ETag, with a SAS token that can expire meanwhile.

Requests use aiohttp instead of the SDK: no decompression according to Content-Encoding, no
redirects, no built-in retries, and a check that each response is the requested range. With its
defaults, the SDK returns wrong bytes of the right length.

All methods raise exceptions of `shared.errors`: `source_changed`, `source_missing`,
`source_forbidden`, `source_sas_expired`, `source_redirected`, `source_short`, `source_unreachable`,
`storage_busy`, and the errors of fetching a manifest. No exception contains a URL.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from shared.clock import Clock
from shared.errors import (
    BillingExportError,
    InvalidDataError,
    PermanentError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.landing.storage_errors import THROTTLING_STATUSES, safe_code
from shared.retry_after import parse_retry_after
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.limits import BLOCK_BYTES
from shared.transfer.manifest_cache import ManifestCache, SourceDirectory
from shared.transfer.models import TransferRequest

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

R = TypeVar("R")

CONNECT_SECONDS = 10
IDLE_SECONDS = 60  # without a byte
RESPONSE_SECONDS = 300  # for a whole block, however slow the connection is
# Azure returns AuthenticationFailed, and Azurite AuthorizationFailure.
REJECTED_SAS = (None, "AuthenticationFailed", "AuthorizationFailure")
READ_BUFFER_BYTES = 256 * 1024
CONTENT_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")
# The maximum number of blocks of a blob is 50,000. Billing files have a few hundred MB.
MAX_BLOB_BYTES = 50_000 * BLOCK_BYTES
PERMANENT_ERRORS = {
    404: "source_missing",
    410: "source_missing",
    412: "source_changed",
    416: "source_short",
}


@dataclass(frozen=True)
class SourceProperties:
    """The state of a source blob: ETag with its quotes, size in bytes, and base64 MD5 if known."""

    etag: str
    size: int
    md5: str | None


class _SasRejectedError(Exception):
    """A 403 response that a new SAS token may resolve."""


class _ConnectionLostError(Exception):
    """The connection failed or the response was incomplete. `code` is used if no retry succeeds."""

    def __init__(self, code: str = "source_unreachable") -> None:
        super().__init__(code)
        self.code = code


class SourceReader:
    """The connections of one process to the source storage."""

    def __init__(
        self,
        manifests: ManifestCache,
        clock: Clock,
        *,
        idle_seconds: float = IDLE_SECONDS,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        self.manifests, self._clock = manifests, clock
        self._idle_seconds, self._response_seconds = idle_seconds, response_seconds
        self._session: ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        use: "Callable[[ClientResponse], Awaitable[R]]",
    ) -> R:
        """Send one request and return the result of `use` for a successful response.

        Raises:
            _SasRejectedError: The SAS token was rejected.
            _ConnectionLostError: The connection failed.
            BillingExportError: Any other error.
        """
        import aiohttp
        from yarl import URL

        session, exact_url = self._get_session(), URL(url, encoded=True)
        try:
            async with session.request(
                method, exact_url, headers=headers, allow_redirects=False
            ) as response:
                self.manifests.storage_time.update(response.headers.get("Date"))
                self._raise_for_status(response)
                return await use(response)
        except aiohttp.ClientPayloadError:
            failure = _ConnectionLostError("source_short")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            # aiohttp raises ValueError for a response that is not HTTP.
            failure = _ConnectionLostError()
        # Outside of the handler, because the library error contains the URL.
        raise failure

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _get_session(self) -> "ClientSession":
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._response_seconds,
                    sock_connect=CONNECT_SECONDS,
                    sock_read=self._idle_seconds,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER_BYTES,
                headers={"Accept-Encoding": "identity", "User-Agent": "partner-billing-export"},
            )
        return self._session

    def _raise_for_status(self, response: "ClientResponse") -> None:
        status = response.status
        code, request_id = (
            safe_code(response.headers.get(name)) for name in ("x-ms-error-code", "x-ms-request-id")
        )
        if status in (200, 206):
            return
        failure: BillingExportError
        if status == 403 and code in REJECTED_SAS:
            raise _SasRejectedError
        if status in THROTTLING_STATUSES:
            failure = ThrottledError(
                "storage_busy",
                retry_after_seconds=parse_retry_after(response.headers, self._clock.now()),
                http_status=status,
                error_code=code,
                request_id=request_id,
            )
        elif status == 408 or status > 500:
            raise _ConnectionLostError
        elif 300 <= status < 400:
            failure = RequestRefusedError(
                "source_redirected", http_status=status, error_code=code, request_id=request_id
            )
        else:
            failure = PermanentError(
                PERMANENT_ERRORS.get(status, "source_forbidden"),
                http_status=status,
                error_code=code,
                request_id=request_id,
            )
        raise failure


class _Range:
    """A range of a blob. After a lost connection, it keeps the received bytes and resumes."""

    def __init__(self, start: int, length: int) -> None:
        self._start, self.length, self._received = start, length, 0
        self._parts: list[bytes] = []

    @property
    def position(self) -> int:
        return self._start + self._received

    @property
    def remaining(self) -> int:
        return self.length - self._received

    @property
    def header(self) -> str:
        return f"bytes={self.position}-{self._start + self.length - 1}"

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)

    async def receive(self, response: "ClientResponse") -> None:
        async for part in response.content.iter_any():
            self._parts.append(part)
            self._received += len(part)

    def raise_if_incomplete(self) -> None:
        if self.remaining:
            raise _ConnectionLostError("source_short")


class PinnedSource:
    """One source blob, pinned to the ETag of the first response.

    `tries` starts at 1 and counts every repeated request.
    """

    def __init__(
        self,
        reader: SourceReader,
        limiter: ConcurrencyLimiter,
        request: TransferRequest,
        name: str,
    ) -> None:
        self._reader, self._limiter, self._request, self.name = reader, limiter, request, name
        self._properties: SourceProperties | None = None
        self._start = b""  # the first bytes of the blob, read together with its properties
        self.tries = 1

    @property
    def properties(self) -> SourceProperties:
        """The properties of the pinned state; the blob must be pinned."""
        assert self._properties is not None
        return self._properties

    @property
    def etag(self) -> str | None:
        """The pinned ETag, or None if the blob is not pinned yet."""
        return self._properties.etag if self._properties is not None else None

    async def fetch_properties(self) -> SourceProperties:
        """Send a HEAD request, and pin the blob if it is not pinned yet.

        Raises:
            PermanentError: `source_changed` if the blob has another ETag than before.
        """
        current = await self._retry(lambda: self._send("HEAD", {}, _parse_properties))
        if self._properties is not None and current.etag != self._properties.etag:
            raise PermanentError("source_changed")
        self._properties = current
        return current

    async def read_start(self, max_bytes: int) -> None:
        """Pin the blob and read its first bytes in one request, for the next call of `read`.

        Does nothing if the blob is pinned.
        """
        if self._properties is not None:
            return
        span = _Range(0, max_bytes)

        async def attempt() -> None:
            if self._properties is not None:  # the connection was lost after the headers
                await self._read_remaining(span)
                return

            async def receive(response: "ClientResponse") -> None:
                self._properties = _parse_range_properties(response, max_bytes)
                span.length = min(max_bytes, self._properties.size)
                await span.receive(response)

            await self._send("GET", {"Range": span.header}, receive)
            span.raise_if_incomplete()

        try:
            await self._retry(attempt)
        except PermanentError as error:
            if error.http_status != 416:
                raise
            await self.fetch_properties()  # an empty blob has no valid range
        else:
            self._start = span.data

    async def read(self, start: int, length: int) -> bytes:
        """Return a range of stored bytes. A lost connection is resumed a few times."""
        prefetched, self._start = self._start, b""
        if prefetched and (start, length) == (0, len(prefetched)):
            return prefetched
        span = _Range(start, length)
        await self._retry(lambda: self._read_remaining(span))
        return span.data

    async def _read_remaining(self, span: "_Range") -> None:
        async def receive(response: "ClientResponse") -> None:
            self._check_range(response, span.position, span.remaining)
            await span.receive(response)

        await self._send("GET", {"Range": span.header, "If-Match": self.properties.etag}, receive)
        span.raise_if_incomplete()

    async def get_directory(self) -> SourceDirectory:
        """Return the source directory with a valid SAS token.

        Raises:
            PermanentError: `source_changed` if the manifest contains other data than planned.
        """
        directory = await self._reader.manifests.get_directory(self._request.operation_id)
        return directory if self._is_planned(directory) else await self.renew_directory(directory)

    async def renew_directory(self, stale: SourceDirectory) -> SourceDirectory:
        """Return a directory with another SAS token than `stale`, if there is one.

        Raises:
            PermanentError: `source_changed` if the manifest contains other data than planned.
        """
        directory = await self._reader.manifests.renew_directory(self._request.operation_id, stale)
        if not self._is_planned(directory):
            raise PermanentError("source_changed")
        return directory

    def _is_planned(self, directory: SourceDirectory) -> bool:
        return directory.has_same_data(self._request.manifest_etag, self._request.root_directory)

    async def _send(
        self,
        method: str,
        headers: Mapping[str, str],
        use: "Callable[[ClientResponse], Awaitable[R]]",
    ) -> R:
        """Send a request; if its SAS token is rejected, renew the token and send it again."""
        directory = await self.get_directory()
        try:
            return await self._reader.request(method, directory.blob_url(self.name), headers, use)
        except _SasRejectedError:
            pass
        renewed = await self.renew_directory(directory)
        if renewed != directory:
            self.tries += 1
            try:
                return await self._reader.request(method, renewed.blob_url(self.name), headers, use)
            except _SasRejectedError:
                pass
        raise RequestRefusedError("source_sas_expired", http_status=403)

    async def _retry(self, operation: Callable[[], Awaitable[R]]) -> R:
        async def attempt() -> R:
            try:
                return await operation()
            except _ConnectionLostError as lost:
                code = lost.code
            raise UnavailableError(code)

        return await self._limiter.retry(attempt, self._count_retry)

    def _count_retry(self) -> None:
        self.tries += 1

    def _check_range(self, response: "ClientResponse", start: int, length: int) -> None:
        """Verify the range and the ETag, because a proxy can return something else."""
        expected = (206, f"bytes {start}-{start + length - 1}/{self.properties.size}", str(length))
        if (
            response.status,
            *(response.headers.get(name) for name in ("Content-Range", "Content-Length")),
        ) != expected:
            raise PermanentError("source_short", http_status=response.status)
        if response.headers.get("ETag", self.properties.etag) != self.properties.etag:
            raise PermanentError("source_changed", http_status=response.status)


async def _parse_properties(response: "ClientResponse") -> SourceProperties:
    length = response.headers.get("Content-Length") or ""
    if not length.isdigit():
        raise _ConnectionLostError
    return _to_properties(
        response.headers.get("ETag"), int(length), response.headers.get("Content-MD5")
    )


def _parse_range_properties(response: "ClientResponse", max_bytes: int) -> SourceProperties:
    """Parse the response to a request for the first `max_bytes` bytes of a blob."""
    content_range = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    if response.status != 206 or content_range is None:
        raise PermanentError("source_short", http_status=response.status)
    last, size = int(content_range[1]), int(content_range[2])
    if last != min(max_bytes, size) - 1 or response.headers.get("Content-Length") != str(last + 1):
        raise PermanentError("source_short", http_status=response.status)
    # Content-MD5 is the hash of the range, which is that of the blob only if the range is complete.
    md5 = response.headers.get("x-ms-blob-content-md5") or (
        response.headers.get("Content-MD5") if size <= max_bytes else None
    )
    return _to_properties(response.headers.get("ETag"), size, md5)


def _to_properties(etag: str | None, size: int, md5: str | None) -> SourceProperties:
    if not etag:
        raise _ConnectionLostError
    if size > MAX_BLOB_BYTES:
        raise InvalidDataError(
            "copy_failed", f"The source blob has {size} bytes; the maximum is {MAX_BLOB_BYTES}"
        )
    return SourceProperties(etag, size, md5 if md5 and _is_md5(md5) else None)


def _is_md5(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
