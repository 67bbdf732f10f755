"""How requests reach Microsoft Graph: one HTTP client under msgraph-sdk, bounded in size and time, and the token.

Imported at first use only. The SDK's own middleware is left out altogether, so that there is nothing to switch off:
its retries would repeat an export inside the call (graph-partner-billing, 12, gotcha 1), its redirects leave the host,
its telemetry adds headers. What remains in the adapter is one repeat of a 401 that carries a claims challenge.
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

CONNECT_SECONDS = 10.0
MAX_RESPONSE_BYTES = (
    32 * 1024 * 1024
)  # bytes, unpacked; a manifest of 100,000 blobs has about 14 MiB

logger = logging.getLogger("partner_billing.graph")


class GraphConnection:
    """msgraph-sdk on one base URL. `credential` None sends no token; `transport` is closed with the connection.

    Every request returns the Answer, whatever its status. Raises Unavailable: no token, no connection, no answer within
    `total_seconds`, or one that is too large.
    """

    def __init__(
        self,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: httpx.AsyncBaseTransport | None,
        total_seconds: float,
    ) -> None:
        configure_library_logging()
        self._clock, self._total_seconds = clock, total_seconds
        self._http = httpx.AsyncClient(
            transport=BoundedTransport(transport or httpx.AsyncHTTPTransport()),
            follow_redirects=False,
            timeout=httpx.Timeout(total_seconds, connect=CONNECT_SECONDS),
            headers={"User-Agent": "partner-billing-export", "Accept-Encoding": "gzip"},
        )
        authentication = _authentication(
            base_url, credential, total_seconds / 2
        )  # so that a token that hangs is named as such
        adapter = GraphRequestAdapter(authentication, client=self._http)
        adapter.base_url = (
            base_url  # without a slash at its end: an httpx client would add one (12, gotcha 8)
        )
        adapter.observability_options = ObservabilityOptions(include_euii_attributes=False)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # the SDK's modules warn of classes of their own when imported
            self._billing = GraphServiceClient(request_adapter=adapter).reports.partners.billing
            requests.load(self._billing)

    async def start_export(self, key: ExportKey, period: requests.Period | None) -> GraphResponse:
        return await self._ask(
            f"export {key.dataset}",
            lambda named: requests.post_export(self._billing, key, period, named),
        )

    async def get_operation(self, operation_id: str) -> GraphResponse:
        return await self._ask(
            "operation", lambda named: requests.get_operation(self._billing, operation_id, named)
        )

    async def get_manifest(self, manifest_id: str) -> GraphResponse:
        return await self._ask(
            "manifest", lambda named: requests.get_manifest(self._billing, manifest_id, named)
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(
        self, what: str, request: Callable[[str], Awaitable[httpx.Response]]
    ) -> GraphResponse:
        client_request_id, began = (
            str(uuid4()),
            self._clock.monotonic(),
        )  # the id Microsoft can look up where no answer came
        try:
            async with asyncio.timeout(self._total_seconds):
                answer = self._answer(await request(client_request_id))
            logger.info(
                "graph %s: %d after %.1f s, request id %s, client request id %s",
                what,
                answer.status,
                self._clock.monotonic() - began,
                answer.request_id,
                client_request_id,
            )
            return answer
        except UnreadableBody:
            failure = UnavailableError("graph_malformed")
        except (httpx.HTTPError, OSError):  # OSError holds TimeoutError and what TLS raises
            failure = UnavailableError("graph_unavailable")
        logger.warning(
            "graph %s: %s after %.1f s, client request id %s",
            what,
            failure.code,
            self._clock.monotonic() - began,
            client_request_id,
        )
        raise failure  # out here, so that the library's error, which holds the request and its token, is not its context

    def _answer(self, response: httpx.Response) -> GraphResponse:
        headers = response.headers
        request_ids = (headers.get(name, "") for name in ("request-id", "x-ms-request-id"))
        return GraphResponse(
            status=response.status_code,
            media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
            location=headers.get("location"),
            body=response.content,
            request_id=next((said for said in request_ids if SAFE_TOKEN.fullmatch(said)), None),
            retry_after_seconds=retry_after_seconds(headers.get("retry-after"), self._clock.now()),
        )


class UnreadableBody(Exception):
    """An answer larger than LARGEST_ANSWER, or packed in a way that was not asked for, or badly."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Reads each answer whole, unpacks it, and gives up before it holds more than LARGEST_ANSWER: httpx itself has no bound."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        try:
            body = await _bounded(response)
        finally:
            await response.aclose()
        packed = (b"content-encoding", b"content-length")
        headers = [
            (name, value) for name, value in response.headers.raw if name.lower() not in packed
        ]
        return httpx.Response(
            response.status_code, headers=headers, content=body, extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _bounded(response: httpx.Response) -> bytes:
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip", "deflate"):
        raise UnreadableBody
    unpack = (
        zlib.decompressobj(wbits=47) if packing in ("gzip", "deflate") else None
    )  # 47: gzip or zlib, by the first bytes
    body = bytearray()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    async for chunk in response.stream:
        body += (
            chunk
            if unpack is None
            else _unpacked(unpack, chunk, MAX_RESPONSE_BYTES + 1 - len(body))
        )
        if len(body) > MAX_RESPONSE_BYTES:
            raise UnreadableBody
    if unpack is not None and body and not unpack.eof:
        raise UnreadableBody
    return bytes(body)


def _unpacked(unpack: Any, chunk: bytes, most: int) -> bytes:
    try:
        return bytes(unpack.decompress(chunk, most))
    except zlib.error:
        pass
    raise UnreadableBody


class GraphTokens(AccessTokenProvider):
    """The token for the one allowed host. The SDK's own provider would let a request to another host go without one."""

    def __init__(self, credential: "AsyncTokenCredential", host: str, seconds: float) -> None:
        self._credential, self._hosts, self._seconds = (
            credential,
            AllowedHostsValidator([host]),
            seconds,
        )

    async def get_authorization_token(
        self, uri: str, additional_authentication_context: dict[str, Any] | None = None
    ) -> str:
        if not self._hosts.is_url_host_valid(uri) or urlsplit(uri).scheme != "https":
            raise RequestRefusedError("graph_unauthorized")
        challenge = (additional_authentication_context or {}).get("claims")
        claims = _claims(challenge) if isinstance(challenge, str) else None
        return await get_access_token(
            self._credential, GRAPH_SCOPE, claims=claims, seconds=self._seconds
        )

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return self._hosts


def _authentication(
    base_url: str, credential: "AsyncTokenCredential | None", seconds: float
) -> AuthenticationProvider:
    if credential is None:
        return AnonymousAuthenticationProvider()
    return BaseBearerTokenAuthenticationProvider(
        GraphTokens(credential, urlsplit(base_url).hostname or "", seconds)
    )


def _claims(challenge: str) -> str | None:
    """The JSON of a claims challenge; None where it is none: the repeat then ends in a plain 401."""
    try:
        text = base64.b64decode(challenge.replace("-", "+").replace("_", "/") + "==").decode()
        return text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None
