"""HTTP clients with limits for the size of a response and for time.

This module is imported at the first request, because it imports httpx.
"""

import zlib
from typing import Any, Literal

import httpx

CONNECT_TIMEOUT_SECONDS = 10.0
ENCODING_HEADERS = (b"content-encoding", b"content-length")
GZIP_OR_ZLIB = 47  # window bits with which zlib detects the format

AcceptedEncoding = Literal["gzip", "identity"]
# A server that compresses can select zlib although the request names only gzip.
ENCODINGS: dict[AcceptedEncoding, tuple[str, ...]] = {
    "gzip": ("", "identity", "gzip", "deflate"),
    "identity": ("", "identity"),
}


class UnreadableBodyError(httpx.DecodingError):
    """The body is larger than the limit, or its encoding is unexpected or invalid."""


def create_http_client(
    transport: httpx.AsyncBaseTransport | None,
    *,
    timeout_seconds: float,
    max_response_bytes: int,
    accept_encoding: AcceptedEncoding = "identity",
) -> httpx.AsyncClient:
    """Return a client that does not follow redirects. `transport` replaces the network in tests.

    Requests raise httpx.HTTPError or OSError; UnreadableBodyError is an httpx.HTTPError.
    """
    return httpx.AsyncClient(
        transport=BoundedTransport(
            transport or httpx.AsyncHTTPTransport(), accept_encoding, max_response_bytes
        ),
        follow_redirects=False,
        timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        headers={"User-Agent": "partner-billing-export", "Accept-Encoding": accept_encoding},
    )


class BoundedTransport(httpx.AsyncBaseTransport):
    """A transport that reads and decompresses each response, up to `max_response_bytes`.

    httpx has no limit for the size of a response.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        accept_encoding: AcceptedEncoding,
        max_response_bytes: int,
    ) -> None:
        self._inner, self._encodings = inner, ENCODINGS[accept_encoding]
        self._max_response_bytes = max_response_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the complete, decompressed response."""
        response = await self._inner.handle_async_request(request)
        try:
            body = await self._read_body(response)
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.raw
            if name.lower() not in ENCODING_HEADERS
        ]
        return httpx.Response(
            response.status_code, headers=headers, content=body, extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _read_body(self, response: httpx.Response) -> bytes:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in self._encodings:
            raise UnreadableBodyError("unexpected encoding")
        is_compressed = encoding in ("gzip", "deflate")
        decompressor = zlib.decompressobj(wbits=GZIP_OR_ZLIB) if is_compressed else None
        body = bytearray()
        assert isinstance(response.stream, httpx.AsyncByteStream)
        async for chunk in response.stream:
            if decompressor is None:
                body += chunk
            else:
                body += _decompress(decompressor, chunk, self._max_response_bytes + 1 - len(body))
            if len(body) > self._max_response_bytes:
                raise UnreadableBodyError("body too large")
        if decompressor is not None and body and not decompressor.eof:
            raise UnreadableBodyError("incomplete body")
        return bytes(body)


def _decompress(decompressor: Any, chunk: bytes, max_bytes: int) -> bytes:
    try:
        return bytes(decompressor.decompress(chunk, max_bytes))
    except zlib.error:
        pass
    raise UnreadableBodyError("invalid compression")
