"""Client for the invoice list of Partner Center.

Raises ThrottledError, UnavailableError or RequestRefusedError, which contain codes, numbers and
Microsoft's request ID but no text of a response. The module imports httpx at the first request.
"""

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.identity import PARTNER_CENTER_SCOPE, get_access_token
from shared.invoices import InvoiceList
from shared.partner_center.responses import (
    InvoicePage,
    PartnerCenterResponse,
    merge_pages,
    parse_invoice_page,
)
from shared.redaction import SAFE_TOKEN, configure_library_logging
from shared.retry_after import retry_after_seconds
from shared.urls import PARTNER_CENTER_URL, parse_partner_center_base_url

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials_async import AsyncTokenCredential

PAGE_SIZE = 200  # the API ignores it for modern invoices and returns all of them in one page
MAX_PAGES = 50
MAX_RESPONSE_BYTES = 16 * 1024 * 1024  # an invoice has about 1 KiB
CONNECT_TIMEOUT_SECONDS, REQUEST_TIMEOUT_SECONDS = 10.0, 60.0

logger = logging.getLogger("partner_billing.partner_center")


class PartnerCenterClient:
    """Client for one base URL, which any number of tasks of one event loop can share.

    `credential` is required unless `base_url` is a loopback address, for which it is not used; the
    caller closes it. `transport` replaces the network in tests.
    """

    def __init__(
        self,
        *,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: "httpx.AsyncBaseTransport | None" = None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        self._base_url, self._clock = parse_partner_center_base_url(base_url), clock
        if credential is None and self._base_url == PARTNER_CENTER_URL:
            raise ValueError("Partner Center requires a credential")
        self._credential = credential if self._base_url == PARTNER_CENTER_URL else None
        self._transport, self._timeout_seconds = transport, timeout_seconds
        self._http: httpx.AsyncClient | None = None

    async def list_invoices(self) -> InvoiceList:
        """Return all invoices. A list that changes while it is read is read a second time."""
        pages, has_changed = await self._read_pages()
        if has_changed:
            pages, _ = await self._read_pages()
        return merge_pages(pages)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _read_pages(self) -> tuple[list[InvoicePage], bool]:
        """Return the pages in order, and whether they belong to different states of the list."""
        pages, offset, seen, has_changed = list[InvoicePage](), 0, set[str](), False
        while len(pages) < MAX_PAGES:
            page = parse_invoice_page(await self._get_page(offset))
            ids = {invoice.invoice_id for invoice in page.invoices if not invoice.amends}
            if ids & seen or (pages and page.total != pages[0].total):
                has_changed = True
            pages.append(page)
            has_new_invoices, seen = bool(ids - seen), seen | ids
            if page.next_offset is None:
                return pages, has_changed
            if page.next_offset <= offset or not (has_new_invoices or page.left_out):
                return pages, True  # the links form a loop
            offset = page.next_offset
        raise UnavailableError("partner_center_malformed")

    async def _get_page(self, offset: int) -> PartnerCenterResponse:
        import httpx

        correlation_id, started = str(uuid4()), self._clock.monotonic()
        headers = {
            "Accept": "application/json",
            "MS-CorrelationId": correlation_id,
            "MS-RequestId": str(uuid4()),
        }
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if self._credential is not None:
                    token = await get_access_token(
                        self._credential,
                        PARTNER_CENTER_SCOPE,
                        timeout_seconds=self._timeout_seconds / 2,
                    )
                    headers["Authorization"] = f"Bearer {token}"
                response = await self._send(headers, offset)
            logger.info(
                "Partner Center invoices from offset %d: status %d after %.1f s, correlation ID %s",
                offset,
                response.status,
                self._clock.monotonic() - started,
                correlation_id,
            )
            return response
        except UnreadableBodyError:
            failure = UnavailableError("partner_center_malformed")
        except (httpx.HTTPError, OSError):  # OSError includes TimeoutError and TLS errors
            failure = UnavailableError("partner_center_unavailable")
        logger.warning(
            "Partner Center invoices from offset %d: %s, correlation ID %s",
            offset,
            failure.code,
            correlation_id,
        )
        # Raised outside the except block, because the original error contains the token.
        raise failure

    async def _send(self, headers: dict[str, str], offset: int) -> PartnerCenterResponse:
        import httpx

        url, query = f"{self._base_url}/v1/invoices", {"size": PAGE_SIZE, "offset": offset}
        async with self._connect().stream("GET", url, params=query, headers=headers) as response:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise UnreadableBodyError
            body = bytearray()
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:  # the raw stream, which httpx does not decompress
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise UnreadableBodyError
            media_type = response.headers.get("content-type", "").partition(";")[0]
            ids = (response.headers.get(name, "") for name in ("MS-RequestId", "request-id"))
            return PartnerCenterResponse(
                status=response.status_code,
                body=bytes(body),
                media_type=media_type.strip().lower(),
                retry_after_seconds=retry_after_seconds(
                    response.headers.get("retry-after"), self._clock.now()
                ),
                request_id=next(filter(SAFE_TOKEN.fullmatch, ids), None),
            )

    def _connect(self) -> "httpx.AsyncClient":
        if self._http is None:
            import httpx

            configure_library_logging()
            self._http = httpx.AsyncClient(
                transport=self._transport,
                follow_redirects=False,
                trust_env=False,
                timeout=httpx.Timeout(self._timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
                headers={"User-Agent": "partner-billing-export", "Accept-Encoding": "identity"},
            )
        return self._http


class UnreadableBodyError(Exception):
    """The body is larger than MAX_RESPONSE_BYTES or has an encoding that was not requested."""
