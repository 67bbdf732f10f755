"""HTTP connection to Microsoft Graph: one client below msgraph-sdk with limits for size and time.

This module is imported at the first request. It uses none of the SDK's middleware: the retries
would repeat an export request, the redirects can leave the host, and the telemetry adds headers.
The SDK's adapter only repeats a request after a 401 response with a claims challenge.
"""

import asyncio
import base64
import json
import logging
import warnings
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    AnonymousAuthenticationProvider,
    AuthenticationProvider,
    BaseBearerTokenAuthenticationProvider,
)
from kiota_http.observability_options import ObservabilityOptions
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph.graph_service_client import GraphServiceClient

from shared.clock import Clock
from shared.errors import RequestRefusedError, UnavailableError
from shared.exports import ExportKey
from shared.graph import requests
from shared.graph.responses import GraphResponse
from shared.identity import GRAPH_SCOPE, get_access_token
from shared.redaction import SAFE_TOKEN, configure_library_logging
from shared.retry_after import retry_after_seconds

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

CONNECT_TIMEOUT_SECONDS = 10.0
MAX_RESPONSE_BYTES = 32 * 1024 * 1024  # decompressed; a manifest of 100,000 blobs has about 14 MiB
ENCODING_HEADERS = (b"content-encoding", b"content-length")
GZIP_OR_ZLIB = 47  # window bits with which zlib detects the format

logger = logging.getLogger("partner_billing.graph")


class GraphConnection:
    """msgraph-sdk for one base URL.

    With `credential` None, requests have no token. Closing the connection closes `transport`. The
    methods return the response for every status. They raise UnavailableError if the app obtains no
    token, no connection or no complete response within `timeout_seconds`, or if the response is too
    large.
    """

    def __init__(
        self,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None,
        timeout_seconds: float,
    ) -> None:
        configure_library_logging()
        self._clock, self._timeout_seconds = clock, timeout_seconds
        self._http = httpx.AsyncClient(
            transport=BoundedTransport(transport or httpx.AsyncHTTPTransport()),
            follow_redirects=False,
            timeout=httpx.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            headers={"User-Agent": "partner-billing-export", "Accept-Encoding": "gzip"},
        )
        # Half of the time, so that a token request that hangs is reported as such.
        authentication = _create_authentication(base_url, credential, timeout_seconds / 2)
        adapter = GraphRequestAdapter(authentication, client=self._http)
        adapter.base_url = base_url
        adapter.observability_options = ObservabilityOptions(include_euii_attributes=False)
        with warnings.catch_warnings():
            # The modules of the SDK cause deprecation warnings when they are imported.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._billing = GraphServiceClient(request_adapter=adapter).reports.partners.billing
            requests.import_builders(self._billing)

    async def start_export(self, key: ExportKey, period: requests.Period | None) -> GraphResponse:
        """Request an export."""
        return await self._send(
            f"export {key.dataset}",
            lambda request_id: requests.post_export(self._billing, key, period, request_id),
        )

    async def get_operation(self, operation_id: str) -> GraphResponse:
        """Get an operation."""
        return await self._send(
            "operation",
            lambda request_id: requests.get_operation(self._billing, operation_id, request_id),
        )

    async def get_manifest(self, manifest_id: str) -> GraphResponse:
        """Get a manifest."""
        return await self._send(
            "manifest",
            lambda request_id: requests.get_manifest(self._billing, manifest_id, request_id),
        )

    async def close(self) -> None:
        """Close the HTTP client."""
        await self._http.aclose()

    async def _send(
        self, name: str, request: Callable[[str], Awaitable[httpx.Response]]
    ) -> GraphResponse:
        # Microsoft can find the request by this ID even if the app received no response.
        client_request_id, started = str(uuid4()), self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = self._convert(await request(client_request_id))
            logger.info(
                "Graph %s request: status %d after %.1f s, request ID %s, client request ID %s",
                name,
                response.status,
                self._clock.monotonic() - started,
                response.request_id,
                client_request_id,
            )
            return response
        except UnreadableBodyError:
            failure = UnavailableError("graph_malformed")
        except (httpx.HTTPError, OSError):  # OSError includes TimeoutError and TLS errors
            failure = UnavailableError("graph_unavailable")
        logger.warning(
            "Graph %s request: %s after %.1f s, client request ID %s",
            name,
            failure.code,
            self._clock.monotonic() - started,
            client_request_id,
        )
        # Raised outside the except block, because the original error contains the token.
        raise failure

    def _convert(self, response: httpx.Response) -> GraphResponse:
        headers = response.headers
        request_ids = (headers.get(name, "") for name in ("request-id", "x-ms-request-id"))
        return GraphResponse(
            status=response.status_code,
            media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
            location=headers.get("location"),
            body=response.content,
            request_id=next(filter(SAFE_TOKEN.fullmatch, request_ids), None),
            retry_after_seconds=retry_after_seconds(headers.get("retry-after"), self._clock.now()),
        )


class UnreadableBodyError(Exception):
    """The body is larger than MAX_RESPONSE_BYTES, or its encoding is unexpected or invalid."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """A transport that reads and decompresses each response, up to MAX_RESPONSE_BYTES.

    httpx has no limit for the size of a response.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return the complete, decompressed response."""
        response = await self._inner.handle_async_request(request)
        try:
            body = await _read_body(response)
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


async def _read_body(response: httpx.Response) -> bytes:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "deflate"):
        raise UnreadableBodyError
    is_compressed = encoding in ("gzip", "deflate")
    decompressor = zlib.decompressobj(wbits=GZIP_OR_ZLIB) if is_compressed else None
    body = bytearray()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for chunk in response.stream:
        if decompressor is None:
            body += chunk
        else:
            body += _decompress(decompressor, chunk, MAX_RESPONSE_BYTES + 1 - len(body))
        if len(body) > MAX_RESPONSE_BYTES:
            raise UnreadableBodyError
    if decompressor is not None and body and not decompressor.eof:
        raise UnreadableBodyError
    return bytes(body)


def _decompress(decompressor: Any, chunk: bytes, max_bytes: int) -> bytes:
    try:
        return bytes(decompressor.decompress(chunk, max_bytes))
    except zlib.error:
        pass
    raise UnreadableBodyError


class GraphTokenProvider(AccessTokenProvider):
    """Provides tokens for one allowed host.

    The SDK's own provider would send a request to another host without a token.
    """

    def __init__(
        self, credential: "AsyncTokenCredential", host: str, timeout_seconds: float
    ) -> None:
        self._credential = credential
        self._hosts = AllowedHostsValidator([host])
        self._timeout_seconds = timeout_seconds

    async def get_authorization_token(
        self, uri: str, additional_authentication_context: dict[str, Any] | None = None
    ) -> str:
        """Return a token for a request to `uri`, which must be HTTPS and on the allowed host."""
        if not self._hosts.is_url_host_valid(uri) or urlsplit(uri).scheme != "https":
            raise RequestRefusedError("graph_unauthorized")
        challenge = (additional_authentication_context or {}).get("claims")
        return await get_access_token(
            self._credential,
            GRAPH_SCOPE,
            claims=_decode_claims(challenge) if isinstance(challenge, str) else None,
            timeout_seconds=self._timeout_seconds,
        )

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        """Return the validator of the allowed host."""
        return self._hosts


def _create_authentication(
    base_url: str, credential: "AsyncTokenCredential | None", timeout_seconds: float
) -> AuthenticationProvider:
    if credential is None:
        return AnonymousAuthenticationProvider()
    host = urlsplit(base_url).hostname or ""
    return BaseBearerTokenAuthenticationProvider(
        GraphTokenProvider(credential, host, timeout_seconds)
    )


def _decode_claims(challenge: str) -> str | None:
    """Return the JSON of a claims challenge; None if it is invalid.

    In that case, the caller does not retry after the 401 response.
    """
    try:
        text = base64.b64decode(challenge.replace("-", "+").replace("_", "/") + "==").decode()
        return text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None
