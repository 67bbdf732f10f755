"""Requests to Partner Center: pages, waits, tokens and limits."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.errors import BillingExportError, ThrottledError, UnavailableError
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


async def test_list_invoices_with_page_of_amendments_reads_the_following_pages() -> None:
    amendments = [
        invoice(f"G0169074{number:02}", amendsOf="G016907400") for number in range(10, 12)
    ]
    fake_partner_center = FakePartnerCenter(
        page_response(
            invoice("G016907400", documentType="void_note", amendments=amendments),
            total=4,
            next_link="?offset=1",
        ),
        page_response(*amendments, total=4, next_link="?offset=3"),
        page_response(invoice("G016907420"), total=4),
    )
    result = await fake_partner_center.create_client().list_invoices()
    assert get_ids(result) == ["G016907400", "G016907410", "G016907411", "G016907420"]
    assert fake_partner_center.offsets == ["0", "1", "3"]
    assert result.complete and result.left_out == ()


@pytest.mark.parametrize("next_link", ["/invoices?size=2", "?offset=0", "x" * 3000, None])
async def test_list_invoices_without_valid_next_offset_continues_until_total(
    next_link: str | None,
) -> None:
    fake_partner_center = FakePartnerCenter(
        page_response(invoice("G016907411"), invoice("G016907412"), total=3, next_link=next_link),
        page_response(invoice("G016907413"), total=3),
    )
    result = await fake_partner_center.create_client().list_invoices()
    assert get_ids(result) == ["G016907411", "G016907412", "G016907413"]
    assert fake_partner_center.offsets == ["0", "2"] and result.complete


async def test_list_invoices_with_empty_page_and_next_offset_continues() -> None:
    fake_partner_center = FakePartnerCenter(
        page_response(total=1, next_link="?offset=200"), page_response(invoice(), total=1)
    )
    result = await fake_partner_center.create_client().list_invoices()
    assert get_ids(result) == ["G016907411"] and result.complete


@pytest.mark.parametrize("next_link", [None, "/invoices", "?offset=2"])
async def test_list_invoices_with_fewer_entries_than_total_is_incomplete(
    next_link: str | None,
) -> None:
    """The service ignores the offset and returns the first page again."""
    fake_partner_center = FakePartnerCenter(
        *(
            page_response(
                invoice("G016907411"), invoice("G016907412"), total=500, next_link=next_link
            )
            for _ in range(4)
        )
    )
    result = await fake_partner_center.create_client().list_invoices()
    assert get_ids(result) == ["G016907411", "G016907412"]
    assert not result.complete
    assert [item.code for item in result.left_out] == ["invoice_list_incomplete"]


async def test_list_invoices_without_total_and_with_endless_link_is_incomplete() -> None:
    page = {"items": [invoice()], "links": {"next": {"uri": "/invoices?size=1"}}}
    fake_partner_center = FakePartnerCenter(*(httpx.Response(200, json=page) for _ in range(4)))
    result = await fake_partner_center.create_client().list_invoices()
    assert get_ids(result) == ["G016907411"] and not result.complete


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


EXCHANGED = {"access_token": f"{SENTINEL}-exchanged", "token_type": "bearer", "expires_in": 3600}


async def test_list_invoices_when_unauthorized_exchanges_the_token_once() -> None:
    fake_partner_center = FakePartnerCenter(
        httpx.Response(401), httpx.Response(200, json=EXCHANGED), page_response(invoice())
    )
    result = await fake_partner_center.create_client().list_invoices()
    assert get_ids(result) == ["G016907411"]
    _, exchange, retried = fake_partner_center.requests
    assert (exchange.method, str(exchange.url), exchange.content) == (
        "POST",
        f"{PARTNER_CENTER_URL}/v3/generatetoken",
        b"grant_type=jwt_token",
    )
    assert exchange.headers["content-type"] == "application/x-www-form-urlencoded"
    assert exchange.headers["authorization"] == f"Bearer {SENTINEL}-token"
    assert retried.headers["authorization"] == f"Bearer {SENTINEL}-exchanged"


@pytest.mark.parametrize(
    "responses",
    [
        [httpx.Response(200, json=EXCHANGED), httpx.Response(401)],
        [httpx.Response(401)],
        [httpx.Response(404)],
        [httpx.Response(200, json={"access_token": "a b"})],
        [httpx.Response(200, json=[])],
        [httpx.Response(200, content=b"<html>")],
    ],
)
async def test_list_invoices_with_rejected_exchange_raises_unauthorized(
    responses: list[httpx.Response],
) -> None:
    fake_partner_center = FakePartnerCenter(httpx.Response(401), *responses)
    with pytest.raises(BillingExportError) as raised:
        await fake_partner_center.create_client().list_invoices()
    assert raised.value.code == "partner_center_unauthorized"
    assert SENTINEL not in repr(raised.value) and fake_partner_center.responses == []


async def test_list_invoices_with_throttled_exchange_raises_wait() -> None:
    fake_partner_center = FakePartnerCenter(httpx.Response(401), throttled_response())
    with pytest.raises(ThrottledError) as raised:
        await fake_partner_center.create_client().list_invoices()
    assert raised.value.retry_after_seconds == 57


@pytest.mark.parametrize(
    ("base_url", "status"), [(LOOPBACK_ORIGIN, 401), (PARTNER_CENTER_URL, 403)]
)
async def test_list_invoices_otherwise_does_not_exchange_the_token(
    base_url: str, status: int
) -> None:
    fake_partner_center = FakePartnerCenter(httpx.Response(status))
    with pytest.raises(BillingExportError):
        await fake_partner_center.create_client(base_url).list_invoices()
    assert len(fake_partner_center.requests) == 1
