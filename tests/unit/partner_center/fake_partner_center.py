"""A fake Partner Center with prepared responses."""

from typing import Any

import httpx

from shared.partner_center.client import PartnerCenterClient
from shared.urls import PARTNER_CENTER_URL
from tests.support.fake_service import FakeCredential, FakeService, json_response


def invoice(invoice_id: str = "G016907411", **changes: Any) -> dict[str, Any]:
    """Return an invoice as in the example of the API documentation, without period dates.

    A change with the value None removes the member.
    """
    document = {
        "id": invoice_id,
        "invoiceDate": "2026-11-08T07:13:00Z",
        "totalCharges": 1234.5,
        "paidAmount": 0.0,
        "currencyCode": "USD",
        "currencySymbol": "$",
        "documentType": "invoice",
        "invoiceType": "Recurring",
        "invoiceDetails": [],
        "links": {"self": {"uri": f"/invoices/{invoice_id}", "method": "GET", "headers": []}},
        "attributes": {"objectType": "Invoice"},
    }
    return {name: value for name, value in (document | changes).items() if value is not None}


def page_response(
    *items: Any, total: int | None = None, next_link: str | None = None, **headers: str
) -> httpx.Response:
    """Return a page; `next_link` is the URL in `links.next`."""
    links = {"self": {"uri": "/invoices"}, **({"next": {"uri": next_link}} if next_link else {})}
    return httpx.Response(
        200,
        json={
            "totalCount": len(items) if total is None else total,
            "items": list(items),
            "links": links,
            "attributes": {"objectType": "Collection"},
        },
        headers=headers,
    )


def throttled_response(**headers: str) -> httpx.Response:
    body = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}
    return json_response(body, 429, **headers)


class FakePartnerCenter(FakeService):
    """The invoice list of Partner Center."""

    def create_client(
        self, base_url: str = PARTNER_CENTER_URL, credential: Any = None, **options: Any
    ) -> PartnerCenterClient:
        credential = credential or (FakeCredential() if base_url == PARTNER_CENTER_URL else None)
        return PartnerCenterClient(
            base_url=base_url,
            credential=credential,
            **self.client_options,
            **options,
        )

    @property
    def offsets(self) -> list[str]:
        return [request.url.params["offset"] for request in self.requests]
