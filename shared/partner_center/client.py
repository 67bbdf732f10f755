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
from shared.partner_center.responses import (
    InvoicePages,
    merge_pages,
    parse_access_token,
    parse_invoice_page,
)
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
        reading = await self._read_pages(until_change=True)
        if reading.has_changed:
            reading = await self._read_pages()
        return merge_pages(reading.pages, is_complete=reading.is_complete)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        await self._sender.close()

    async def _read_pages(self, *, until_change: bool = False) -> InvoicePages:
        reading, offset = InvoicePages(), 0
        while len(reading.pages) < MAX_PAGES:
            following = reading.append(offset, parse_invoice_page(await self._get_page(offset)))
            if following is None or (until_change and reading.has_changed):
                return reading
            offset = following
        raise UnavailableError("partner_center_malformed")

    async def _get_page(self, offset: int) -> HttpResponse:
        response = await self._request_page(offset)
        if response.status != 401 or not self._sender.is_authenticated:
            return response
        token = await self._exchange_token()
        return await self._request_page(offset, token) if token else response

    async def _request_page(self, offset: int, token: str | None = None) -> HttpResponse:
        async def get(correlation_id: str) -> "httpx.Response":
            return await self._sender.http.get(
                f"{self._sender.base_url}/v1/invoices",
                params={"size": PAGE_SIZE, "offset": offset},
                headers=await self._get_headers(correlation_id, token),
            )

        return await self._sender.send(f"invoices from offset {offset}", get)

    async def _exchange_token(self) -> str | None:
        """Exchange the access token for a token of Partner Center, or return None if it refuses.

        Some resources require such a token. The exchange accepts the tokens of app-only callers:
        https://learn.microsoft.com/rest/api/partner-center/authentication/generate-access-token
        """

        async def post(correlation_id: str) -> "httpx.Response":
            return await self._sender.http.post(
                f"{self._sender.base_url}/v3/generatetoken",
                data={"grant_type": "jwt_token"},
                headers=await self._get_headers(correlation_id),
            )

        return parse_access_token(await self._sender.send("token exchange", post))

    async def _get_headers(self, correlation_id: str, token: str | None = None) -> dict[str, str]:
        """Return the headers of a request, by default with the access token of the identity."""
        headers = {
            "Accept": "application/json",
            "MS-CorrelationId": correlation_id,
            "MS-RequestId": str(uuid4()),
        }
        if self._sender.is_authenticated:
            headers["Authorization"] = f"Bearer {token or await self._sender.get_token()}"
        return headers
