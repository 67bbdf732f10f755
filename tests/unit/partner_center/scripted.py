"""A Partner Center that answers from a script, and remembers what it was asked."""

from typing import Any

import httpx

from shared.partner_center.client import PartnerCenterClient
from shared.urls import PARTNER_CENTER_URL
from tests.unit.graph.scripted import SENTINEL, Credential, FixedClock

LOOPBACK = "http://127.0.0.1:8700"


def invoice(invoice_id: str = "G016907411", **changes: Any) -> dict[str, Any]:
    """As the documents' list example has it: without period dates. A change to None takes the member out."""
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


def listed(
    *items: Any, total: int | None = None, following: str | None = None, **headers: str
) -> httpx.Response:
    """A page; `following` is the address that `links.next` names."""
    links = {"self": {"uri": "/invoices"}, **({"next": {"uri": following}} if following else {})}
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


def throttled(**headers: str) -> httpx.Response:
    body = {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."}
    return httpx.Response(
        429, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


class Script:
    """Answers in order: a response is sent, an exception is raised. One request too many fails the test."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.answers, (
            f"request {len(self.requests)} was not expected: {request.method} {request.url}"
        )
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(
        self, base_url: str = PARTNER_CENTER_URL, credential: Any = None, **options: Any
    ) -> PartnerCenterClient:
        credential = credential or (Credential() if base_url == PARTNER_CENTER_URL else None)
        return PartnerCenterClient(
            base_url=base_url,
            credential=credential,
            clock=FixedClock(),
            transport=httpx.MockTransport(self),
            **options,
        )

    @property
    def offsets(self) -> list[str]:
        return [request.url.params["offset"] for request in self.requests]


__all__ = [
    "LOOPBACK",
    "PARTNER_CENTER_URL",
    "SENTINEL",
    "Credential",
    "Script",
    "invoice",
    "listed",
    "throttled",
]
