"""Pages, waits, tokens and bounds: what is sent, and what is never followed."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.errors import BillingExportError, UnavailableError
from shared.identity import PARTNER_CENTER_SCOPE
from shared.partner_center import client
from shared.partner_center.client import PartnerCenterClient
from shared.urls import parse_partner_center_base_url
from tests.unit.partner_center.scripted import (
    LOOPBACK,
    PARTNER_CENTER_URL,
    SENTINEL,
    Credential,
    Script,
    invoice,
    listed,
    throttled,
)


def ids(found: Any) -> list[str]:
    return [one.invoice_id for one in found.invoices]


async def test_one_page_as_for_modern_invoices() -> None:
    script, credential = Script(listed(invoice("G016907411"), invoice("G016907412"))), Credential()
    found = await script.client(credential=credential).list_invoices()
    assert ids(found) == ["G016907411", "G016907412"] and found.complete and found.left_out == ()
    [request] = script.requests
    assert (
        str(request.url) == f"{PARTNER_CENTER_URL}/v1/invoices?size=200&offset=0"
        and request.method == "GET"
    )
    assert (
        request.headers["authorization"] == f"Bearer {SENTINEL}-token"
        and request.headers["ms-correlationid"]
    )
    assert (
        [scopes for scopes, _ in credential.asked]
        == [(PARTNER_CENTER_SCOPE,)]
        == [("https://api.partnercenter.microsoft.com/.default",)]
    )


async def test_nothing_is_sent_to_loopback_but_the_request() -> None:
    script, credential = Script(listed(invoice())), Credential()
    await script.client(LOOPBACK, credential).list_invoices()
    assert credential.asked == [] and "authorization" not in script.requests[0].headers


async def test_of_next_only_the_offset_is_used() -> None:
    script = Script(
        listed(
            invoice("G016907411"),
            total=3,
            following="https://evil.example.org/v1/invoices?size=1&offset=1",
        ),
        listed(invoice("G016907412"), total=3, following="/invoices?offset=2&size=1"),
        listed(invoice("G016907413"), total=3),
    )
    assert ids(await script.client().list_invoices()) == ["G016907411", "G016907412", "G016907413"]
    assert {request.url.host for request in script.requests} == {"api.partnercenter.microsoft.com"}
    assert script.offsets == ["0", "1", "2"]


@pytest.mark.parametrize(
    "following",
    [
        "/invoices?size=1",
        "?offset=-1",
        "offset=1",
        "/invoices?offset=x",
        "/invoices?offset=1e9",
        "x" * 3000,
    ],
)
async def test_a_next_without_an_offset_is_none(following: str) -> None:
    script = Script(listed(invoice(), following=following))
    assert ids(await script.client().list_invoices()) == ["G016907411"]


async def test_a_list_that_changes_between_pages_is_read_once_more() -> None:
    script = Script(
        listed(invoice("G016907412"), total=2, following="?offset=1"),
        listed(invoice("G016907411"), total=3),
        listed(invoice("G016907413"), total=3, following="?offset=1"),
        listed(invoice("G016907412"), total=3, following="?offset=2"),
        listed(invoice("G016907411"), total=3),
    )
    assert ids(await script.client().list_invoices()) == ["G016907413", "G016907412", "G016907411"]
    assert script.offsets == ["0", "1", "0", "1", "2"]


async def test_an_invoice_on_two_pages_is_one_invoice_and_the_list_is_read_once_more_only() -> None:
    moving = [
        listed(invoice("G016907412"), total=2, following="?offset=1"),
        listed(invoice("G016907412"), invoice(), total=2),
    ]
    script = Script(*moving, *[httpx.Response(200, content=page.content) for page in moving])
    assert ids(await script.client().list_invoices()) == ["G016907412", "G016907411"]
    assert script.offsets == ["0", "1", "0", "1"]


async def test_pages_that_lead_in_a_circle_end() -> None:
    circle = [listed(invoice(), following="?offset=1"), listed(invoice(), following="?offset=2")]
    script = Script(*circle, *[httpx.Response(200, content=page.content) for page in circle])
    assert ids(await script.client().list_invoices()) == ["G016907411"]
    backwards = Script(
        listed(invoice(), following="?offset=0"), listed(invoice(), following="?offset=0")
    )
    assert ids(await backwards.client().list_invoices()) == ["G016907411"]


async def test_pages_without_end_are_malformed() -> None:
    endless = Script(
        *(
            listed(invoice(f"G{number:09}"), total=1, following=f"?offset={number + 1}")
            for number in range(200)
        )
    )
    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await endless.client().list_invoices()
    assert len(endless.requests) == client.MAX_PAGES


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry_After": "57"}, 57), ({}, 57), ({"Retry_After": "Sun, 08 Nov 2026 09:38:30 GMT"}, 90)],
)
async def test_a_429_is_told_and_not_repeated(headers: dict[str, str], seconds: int) -> None:
    script = Script(throttled(**headers))
    with pytest.raises(BillingExportError) as raised:
        await script.client().list_invoices()
    assert (
        raised.value.code == "partner_center_throttled"
        and getattr(raised.value, "retry_after_seconds", None) == seconds
    )
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError(f"no route sig={SENTINEL}"),
        httpx.ReadTimeout(SENTINEL),
        OSError(SENTINEL),
        httpx.RemoteProtocolError(SENTINEL),
    ],
)
async def test_no_answer_is_unavailable_in_our_words(answer: Exception) -> None:
    with pytest.raises(UnavailableError) as raised:
        await Script(answer).client().list_invoices()
    assert raised.value.code == "partner_center_unavailable" and SENTINEL not in repr(raised.value)
    assert raised.value.__context__ is None and raised.value.__cause__ is None


async def test_a_redirect_is_not_followed() -> None:
    script = Script(httpx.Response(302, headers={"Location": "https://evil.example.org/"}))
    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await script.client().list_invoices()
    assert len(script.requests) == 1


async def test_a_packed_answer_is_not_unpacked() -> None:
    packed = httpx.Response(
        200,
        content=gzip.compress(json.dumps({"items": []}).encode()),
        headers={"Content-Encoding": "gzip"},
    )
    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await Script(packed).client().list_invoices()


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_RESPONSE_BYTES", 1_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 400

    with pytest.raises(UnavailableError, match="partner_center_malformed"):
        await Script(httpx.Response(200, content=endless())).client().list_invoices()
    assert sent == 3


async def test_an_answer_that_never_comes_is_given_up() -> None:
    async def silent(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    from tests.unit.graph.scripted import FixedClock

    slow = PartnerCenterClient(
        base_url=LOOPBACK,
        credential=None,
        clock=FixedClock(),
        transport=httpx.MockTransport(silent),
        timeout_seconds=0.01,
    )
    with pytest.raises(UnavailableError, match="partner_center_unavailable"):
        await slow.list_invoices()


async def test_no_token_is_no_request() -> None:
    script = Script()
    with pytest.raises(UnavailableError, match="identity_unavailable"):
        await script.client(credential=Credential(error=RuntimeError(SENTINEL))).list_invoices()
    assert script.requests == []


async def test_the_client_can_be_closed_and_asked_again() -> None:
    script = Script(listed(invoice()), listed(invoice()))
    asked = script.client()
    await asked.close()
    await asked.list_invoices()
    await asked.close()
    await asked.list_invoices()
    await asked.close()


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
def test_other_hosts_are_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_partner_center_base_url(url)
    assert url not in str(refused.value) and SENTINEL not in str(refused.value)


def test_partner_center_needs_a_credential() -> None:
    from tests.unit.graph.scripted import FixedClock

    with pytest.raises(ValueError, match="credential"):
        PartnerCenterClient(base_url=PARTNER_CENTER_URL, credential=None, clock=FixedClock())
