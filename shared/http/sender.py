"""Requests to one service of Microsoft: token, time limit, log lines and errors.

Importing this module does not import httpx, which the first request imports.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.http.response import HttpResponse
from shared.identity import RenewableCredential, get_access_token
from shared.redaction import SAFE_TOKEN, configure_library_logging
from shared.retry_after import parse_retry_after
from shared.urls import get_host, is_loopback_host

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials_async import AsyncTokenCredential

    from shared.http.bounded_client import AcceptedEncoding

REQUEST_TIMEOUT_SECONDS = 60.0  # of one request, including its token and the whole response
REQUEST_ID_HEADERS = ("ms-requestid", "request-id", "x-ms-request-id")


@dataclass(frozen=True)
class HttpService:
    """How a service is called.

    Attributes:
        name: The name in log lines and errors.
        logger: The logger for the requests.
        scope: The scope of the access tokens.
        unavailable_code: The error code if the app obtains no connection or no complete response.
        malformed_code: The error code if the body is too large, or its encoding is invalid.
        accept_encoding: The encoding that the app requests.
        max_response_bytes: The limit for a decompressed body.
    """

    name: str
    logger: logging.Logger
    scope: str
    unavailable_code: str
    malformed_code: str
    accept_encoding: "AcceptedEncoding"
    max_response_bytes: int


class HttpSender:
    """Sends requests to one base URL; any number of tasks of one event loop can share it.

    `credential` is required unless `base_url` is a loopback address, which never receives a token;
    the caller closes it. `transport` replaces the network in tests.
    """

    def __init__(
        self,
        service: HttpService,
        *,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: "httpx.AsyncBaseTransport | None",
        timeout_seconds: float,
    ) -> None:
        self.base_url, self.is_authenticated = base_url, not is_loopback_host(get_host(base_url))
        if credential is None and self.is_authenticated:
            raise ValueError(f"{service.name} requires a credential")
        self._service, self._credential, self._clock = service, credential, clock
        self._transport, self._timeout_seconds = transport, timeout_seconds
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> "httpx.AsyncClient":
        """The HTTP client, which the first access opens."""
        if self._http is None:
            from shared.http.bounded_client import create_http_client

            configure_library_logging()
            self._http = create_http_client(
                self._transport,
                timeout_seconds=self._timeout_seconds,
                accept_encoding=self._service.accept_encoding,
                max_response_bytes=self._service.max_response_bytes,
            )
        return self._http

    async def get_token(self, claims: str | None = None) -> str:
        """Return an access token. `claims` is the JSON of a claims challenge.

        Raises UnavailableError(identity_unavailable).
        """
        assert self.is_authenticated and self._credential is not None
        # Half of the time, so that a token request that hangs is reported as such.
        return await get_access_token(
            self._credential,
            self._service.scope,
            claims=claims,
            timeout_seconds=self._timeout_seconds / 2,
        )

    async def send(
        self, name: str, request: Callable[[str], Awaitable["httpx.Response"]]
    ) -> HttpResponse:
        """Return the response to `request`, for every status. `name` identifies it in log lines.

        The argument of `request` is a new ID that it must send to the service: Microsoft can find
        the request by this ID even if the app received no response. Raises UnavailableError if the
        app obtains no token, no connection or no complete response within the time limit, or if
        the response is too large.

        After a 401 or 403 response, the next request uses a new token.
        """
        import httpx

        from shared.http.bounded_client import UnreadableBodyError

        service = self._service
        client_request_id, started = str(uuid4()), self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = self._convert(await request(client_request_id))
            service.logger.info(
                "%s %s: status %d after %.1f s, request ID %s, client request ID %s",
                service.name,
                name,
                response.status,
                self._clock.monotonic() - started,
                response.request_id,
                client_request_id,
            )
            if response.status in (401, 403) and isinstance(self._credential, RenewableCredential):
                await self._credential.discard_tokens()
            return response
        except UnreadableBodyError:
            failure = UnavailableError(service.malformed_code)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            failure = UnavailableError(service.unavailable_code, was_sent=False)
        except (httpx.HTTPError, OSError):  # OSError includes TimeoutError and TLS errors
            failure = UnavailableError(service.unavailable_code)
        service.logger.warning(
            "%s %s: %s after %.1f s, client request ID %s",
            service.name,
            name,
            failure.code,
            self._clock.monotonic() - started,
            client_request_id,
        )
        # Raised outside the except block, because the original error contains the token.
        raise failure

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    def _convert(self, response: "httpx.Response") -> HttpResponse:
        headers = response.headers
        request_ids = (headers.get(name, "") for name in REQUEST_ID_HEADERS)
        return HttpResponse(
            status=response.status_code,
            media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
            location=headers.get("location"),
            body=response.content,
            request_id=next(filter(SAFE_TOKEN.fullmatch, request_ids), None),
            retry_after_seconds=parse_retry_after(headers, self._clock.now()),
        )
