"""Partner Center's invoice list: asked for page by page, over one bounded HTTP client with a token of its own audience.

Raises those of shared/errors.py only: Throttled, Unavailable (ask again), Refused. They carry codes, numbers and
Microsoft's request id, nothing of an answer's text. httpx is imported at the first request.
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

PAGE_SIZE = 200  # ignored for modern invoices, which come all at once; it pages legacy ones
MAX_PAGES = 50
MAX_RESPONSE_BYTES = 16 * 1024 * 1024  # bytes; an invoice has about 1 KiB
CONNECT_SECONDS, TOTAL_SECONDS = 10.0, 60.0

logger = logging.getLogger("partner_billing.partner_center")


class PartnerCenterClient:
    """`credential` is needed unless `base_url` is on loopback, where it is never used; its maker closes it.

    `transport` replaces the network in tests. May be shared by any number of tasks of one event loop.
    """

    def __init__(
        self,
        *,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: "httpx.AsyncBaseTransport | None" = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._base_url, self._clock = parse_partner_center_base_url(base_url), clock
        if credential is None and self._base_url == PARTNER_CENTER_URL:
            raise ValueError("Partner Center needs a credential")
        self._credential = credential if self._base_url == PARTNER_CENTER_URL else None
        self._transport, self._total_seconds = transport, total_seconds
        self._http: httpx.AsyncClient | None = None

    async def list_invoices(self) -> InvoiceList:
        """All invoices. A list that changes while its pages are read is read once more; then it is taken as it came."""
        pages, changed = await self._pages()
        if changed:
            pages, _ = await self._pages()
        return merge_pages(pages)

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def _pages(self) -> tuple[list[InvoicePage], bool]:
        """Pages in their order, and whether they cannot be of one and the same list."""
        pages, offset, seen, changed = list[InvoicePage](), 0, set[str](), False
        while len(pages) < MAX_PAGES:
            page = parse_invoice_page(await self._ask(offset))
            ids = {invoice.invoice_id for invoice in page.invoices if not invoice.amends}
            changed = changed or bool(ids & seen) or bool(pages and page.total != pages[0].total)
            pages.append(page)
            nothing_new, seen = not ids - seen, seen | ids
            if page.next_offset is None:
                return pages, changed
            if page.next_offset <= offset or (nothing_new and not page.left_out):
                return pages, True  # it leads in a circle
            offset = page.next_offset
        raise UnavailableError("partner_center_malformed")

    async def _ask(self, offset: int) -> PartnerCenterResponse:
        """One page. The address is always ours: of `next` only the offset is used."""
        import httpx

        correlation_id, began = str(uuid4()), self._clock.monotonic()
        try:
            async with asyncio.timeout(self._total_seconds):
                headers = {
                    "Accept": "application/json",
                    "MS-CorrelationId": correlation_id,
                    "MS-RequestId": str(uuid4()),
                }
                if self._credential is not None:
                    token = await get_access_token(
                        self._credential, PARTNER_CENTER_SCOPE, seconds=self._total_seconds / 2
                    )
                    headers["Authorization"] = f"Bearer {token}"
                answer = await self._answer(headers, offset)
            logger.info(
                "partner center invoices from %d: %d after %.1f s, correlation id %s",
                offset,
                answer.status,
                self._clock.monotonic() - began,
                correlation_id,
            )
            return answer
        except _Unreadable:
            failure = UnavailableError("partner_center_malformed")
        except (httpx.HTTPError, OSError):  # OSError holds TimeoutError and what TLS raises
            failure = UnavailableError("partner_center_unavailable")
        logger.warning(
            "partner center invoices from %d: %s, correlation id %s",
            offset,
            failure.code,
            correlation_id,
        )
        raise failure  # out here, so that the library's error, which holds the request and its token, is not its context

    async def _answer(self, headers: dict[str, str], offset: int) -> PartnerCenterResponse:
        import httpx

        url, page = f"{self._base_url}/v1/invoices", {"size": PAGE_SIZE, "offset": offset}
        async with self._connected().stream("GET", url, params=page, headers=headers) as response:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _Unreadable
            body = bytearray()
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:  # as it comes: nothing is unpacked
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise _Unreadable
            said = (response.headers.get(name, "") for name in ("MS-RequestId", "request-id"))
            return PartnerCenterResponse(
                status=response.status_code,
                body=bytes(body),
                media_type=response.headers.get("content-type", "")
                .partition(";")[0]
                .strip()
                .lower(),
                retry_after_seconds=retry_after_seconds(
                    response.headers.get("retry-after"), self._clock.now()
                ),
                request_id=next((one for one in said if SAFE_TOKEN.fullmatch(one)), None),
            )

    def _connected(self) -> "httpx.AsyncClient":
        if self._http is None:
            import httpx

            configure_library_logging()
            self._http = httpx.AsyncClient(
                transport=self._transport,
                follow_redirects=False,
                trust_env=False,
                timeout=httpx.Timeout(self._total_seconds, connect=CONNECT_SECONDS),
                headers={"User-Agent": "partner-billing-export", "Accept-Encoding": "identity"},
            )
        return self._http


class _Unreadable(Exception):
    """An answer that is too large, or packed though that was not asked for."""
