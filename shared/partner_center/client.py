"""Client for the invoice list of Partner Center.

Raises ThrottledError, UnavailableError or RequestRefusedError, which contain codes, numbers and
Microsoft's request ID but no text of a response. The module imports httpx at the first request.
"""

import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.http.response import HttpResponse
from shared.http.sender import REQUEST_TIMEOUT_SECONDS, HttpSender, HttpService
from shared.identity import PARTNER_CENTER_SCOPE
from shared.invoices import InvoiceList
from shared.partner_center.responses import InvoicePage, merge_pages, parse_invoice_page
from shared.urls import parse_partner_center_base_url

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials_async import AsyncTokenCredential

PAGE_SIZE = 200  # the API ignores it for modern invoices and returns all of them in one page
MAX_PAGES = 50
PARTNER_CENTER_SERVICE = HttpService(
    name="Partner Center",
    logger=logging.getLogger("partner_billing.partner_center"),
    scope=PARTNER_CENTER_SCOPE,
    unavailable_code="partner_center_unavailable",
    malformed_code="partner_center_malformed",
    accept_encoding="identity",
    max_response_bytes=16 * 1024 * 1024,  # an invoice has about 1 KiB
)


class PartnerCenterClient:
    """Client for one base URL, which any number of tasks of one event loop can share.

    HttpSender describes the arguments.
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
        self._sender = HttpSender(
            PARTNER_CENTER_SERVICE,
            base_url=parse_partner_center_base_url(base_url),
            credential=credential,
            clock=clock,
            transport=transport,
            timeout_seconds=timeout_seconds,
        )

    async def list_invoices(self) -> InvoiceList:
        """Return all invoices. A list that changes while it is read is read a second time."""
        pages, has_changed = await self._read_pages()
        if has_changed:
            pages, _ = await self._read_pages()
        return merge_pages(pages)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        await self._sender.close()

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

    async def _get_page(self, offset: int) -> HttpResponse:
        async def get(correlation_id: str) -> "httpx.Response":
            headers = {
                "Accept": "application/json",
                "MS-CorrelationId": correlation_id,
                "MS-RequestId": str(uuid4()),
            }
            if self._sender.is_authenticated:
                headers["Authorization"] = f"Bearer {await self._sender.get_token()}"
            return await self._sender.http.get(
                f"{self._sender.base_url}/v1/invoices",
                params={"size": PAGE_SIZE, "offset": offset},
                headers=headers,
            )

        return await self._sender.send(f"invoices from offset {offset}", get)
