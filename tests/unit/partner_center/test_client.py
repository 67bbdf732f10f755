"""Requests to Partner Center: pages, waits, tokens and limits."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.errors import BillingExportError, UnavailableError
from shared.identity import PARTNER_CENTER_SCOPE
from shared.partner_center.client import MAX_PAGES, PartnerCenterClient
from shared.urls import PARTNER_CENTER_URL, parse_partner_center_base_url
from tests.support.clocks import FakeClock
from tests.support.fake_service import LOOPBACK_ORIGIN, NOW, SENTINEL, FakeCredential
from tests.unit.partner_center.fake_partner_center import (
    FakePartnerCenter,
    invoice,
    page_response,
    throttled_response,
)


def get_ids(result: Any) -> list[str]:
    return [invoice.invoice_id for invoice in result.invoices]


async def test_list_invoices_with_one_page_sends_one_request() -> None:
    fake_partner_center, credential = (
        FakePartnerCenter(page_response(invoice("G016907411"), invoice("G016907412"))),
        FakeCredential(),
    )
    result = await fake_partner_center.create_client(credential=credential).list_invoices()
    assert (
        get_ids(result) == ["G016907411", "G016907412"]
        and result.complete
        and result.left_out == ()
    )
    [request] = fake_partner_center.requests
    assert (
        str(request.url) == f"{PARTNER_CENTER_URL}/v1/invoices?size=200&offset=0"
        and request.method == "GET"
    )
    assert (
        request.headers["authorization"] == f"Bearer {SENTINEL}-token"
        and request.headers["ms-correlationid"]
    )
    assert (
        [scopes for scopes, _ in credential.requests]
        == [(PARTNER_CENTER_SCOPE,)]
        == [("https://api.partnercenter.microsoft.com/.default",)]
    )


async def test_list_invoices_from_loopback_sends_no_token() -> None:
    fake_partner_center, credential = FakePartnerCenter(page_response(invoice())), FakeCredential()
    await fake_partner_center.create_client(LOOPBACK_ORIGIN, credential).list_invoices()
    assert (
        credential.requests == [] and "authorization" not in fake_partner_center.requests[0].headers
    )


async def test_list_invoices_uses_only_the_offset_of_the_next_link() -> None:
    fake_partner_center = FakePartnerCenter(
        page_response(
            invoice("G016907411"),
            total=3,
            next_link="https://evil.example.org/v1/invoices?size=1&offset=1",
        ),
        page_response(invoice("G016907412"), total=3, next_link="/invoices?offset=2&size=1"),
        page_response(invoice("G016907413"), total=3),
    )
    assert get_ids(await fake_partner_center.create_client().list_invoices()) == [
        "G016907411",
        "G016907412",
        "G016907413",
    ]
    assert {request.url.host for request in fake_partner_center.requests} == {
        "api.partnercenter.microsoft.com"
    }
    assert fake_partner_center.offsets == ["0", "1", "2"]


@pytest.mark.parametrize(
    "next_link",
    [
        "/invoices?size=1",
        "?offset=-1",
        "offset=1",
        "/invoices?offset=x",
        "/invoices?offset=1e9",
        "x" * 3000,
    ],
)
async def test_list_invoices_with_next_link_without_offset_ends(next_link: str) -> None:
    fake_partner_center = FakePartnerCenter(page_response(invoice(), next_link=next_link))
    assert get_ids(await fake_partner_center.create_client().list_invoices()) == ["G016907411"]


async def test_list_invoices_with_changing_list_reads_it_again() -> None:
    fake_partner_center = FakePartnerCenter(
        page_response(invoice("G016907412"), total=2, next_link="?offset=1"),
        page_response(invoice("G016907411"), total=3),
        page_response(invoice("G016907413"), total=3, next_link="?offset=1"),
        page_response(invoice("G016907412"), total=3, next_link="?offset=2"),
        page_response(invoice("G016907411"), total=3),
    )
    assert get_ids(await fake_partner_center.create_client().list_invoices()) == [
        "G016907413",
        "G016907412",
        "G016907411",
    ]
    assert fake_partner_center.offsets == ["0", "1", "0", "1", "2"]


async def test_list_invoices_with_duplicate_reads_list_only_once_more() -> None:
    pages = [
        page_response(invoice("G016907412"), total=2, next_link="?offset=1"),
        page_response(invoice("G016907412"), invoice(), total=2),
    ]
    fake_partner_center = FakePartnerCenter(
        *pages, *[httpx.Response(200, content=page.content) for page in pages]
    )
    assert get_ids(await fake_partner_center.create_client().list_invoices()) == [
        "G016907412",
        "G016907411",
    ]
    assert fake_partner_center.offsets == ["0", "1", "0", "1"]


async def test_list_invoices_with_loop_of_pages_ends() -> None:
    loop = [
        page_response(invoice(), next_link="?offset=1"),
        page_response(invoice(), next_link="?offset=2"),
    ]
    fake_partner_center = FakePartnerCenter(
        *loop, *[httpx.Response(200, content=page.content) for page in loop]
    )
    assert get_ids(await fake_partner_center.create_client().list_invoices()) == ["G016907411"]
    backwards = FakePartnerCenter(
        page_response(invoice(), next_link="?offset=0"),
        page_response(invoice(), next_link="?offset=0"),
    )
    assert get_ids(await backwards.create_client().list_invoices()) == ["G016907411"]


async def test_list_invoices_with_too_many_pages_raises_malformed() -> None:
    endless = FakePartnerCenter(
        *(
            page_response(invoice(f"G{number:09}"), total=1, next_link=f"?offset={number + 1}")
            for number in range(200)
        )
    )
    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await endless.create_client().list_invoices()
    assert len(endless.requests) == MAX_PAGES


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry_After": "57"}, 57), ({}, 57), ({"Retry_After": "Sun, 08 Nov 2026 09:38:30 GMT"}, 90)],
)
async def test_list_invoices_when_throttled_returns_wait_without_retry(
    headers: dict[str, str], seconds: int
) -> None:
    fake_partner_center = FakePartnerCenter(throttled_response(**headers))
    with pytest.raises(BillingExportError) as raised:
        await fake_partner_center.create_client().list_invoices()
    assert (
        raised.value.code == "partner_center_throttled"
        and getattr(raised.value, "retry_after_seconds", None) == seconds
    )
    assert len(fake_partner_center.requests) == 1


async def test_list_invoices_does_not_follow_redirect() -> None:
    fake_partner_center = FakePartnerCenter(
        httpx.Response(302, headers={"Location": "https://evil.example.org/"})
    )
    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await fake_partner_center.create_client().list_invoices()
    assert len(fake_partner_center.requests) == 1


async def test_list_invoices_with_compressed_response_raises_malformed() -> None:
    compressed = httpx.Response(
        200,
        content=gzip.compress(json.dumps({"items": []}).encode()),
        headers={"Content-Encoding": "gzip"},
    )
    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await FakePartnerCenter(compressed).create_client().list_invoices()


async def test_list_invoices_with_response_above_size_limit_raises_malformed() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1024 * 1024)

    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await (
            FakePartnerCenter(httpx.Response(200, content=endless()))
            .create_client()
            .list_invoices()
        )
    assert sent == 17


@pytest.mark.parametrize(
    "url",
    [
        "http://api.partnercenter.microsoft.com",
        "https://api.partnercenter.microsoft.com/v1",
        "https://example.org",
        "https://api.partnercenter.microsoft.com.example.org",
        "https://127.0.0.1.example.org",
        "http://127.0.0.1:4010/v1",
        "http://user@127.0.0.1",
        "http://127.0.0.1:99999",
        "nonsense",
        f"https://example.org?sig={SENTINEL}",
    ],
)
def test_parse_partner_center_base_url_with_invalid_url_raises_error_without_url(url: str) -> None:
    with pytest.raises(ValueError, match="must") as raised:
        parse_partner_center_base_url(url)
    assert url not in str(raised.value) and SENTINEL not in str(raised.value)


def test_client_for_partner_center_requires_credential() -> None:
    with pytest.raises(ValueError, match="credential"):
        PartnerCenterClient(base_url=PARTNER_CENTER_URL, credential=None, clock=FakeClock(NOW))
