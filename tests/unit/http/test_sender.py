"""Requests to a service: token, time limit, request IDs, errors and log lines."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from shared.errors import UnavailableError
from shared.graph.client import GRAPH_SERVICE
from shared.http.response import HttpResponse
from shared.http.sender import HttpSender, HttpService
from shared.identity import RenewableCredential
from shared.partner_center.client import PARTNER_CENTER_SERVICE
from shared.urls import GRAPH_URL, PARTNER_CENTER_URL
from tests.support.fake_service import (
    LOOPBACK_ORIGIN,
    SENTINEL,
    FakeCredential,
    FakeService,
    json_response,
)

SERVICES = [
    pytest.param(GRAPH_SERVICE, GRAPH_URL, "graph", id="graph"),
    pytest.param(PARTNER_CENTER_SERVICE, PARTNER_CENTER_URL, "partner_center", id="partner_center"),
]


def create_sender(
    fake_service: FakeService,
    service: HttpService = GRAPH_SERVICE,
    base_url: str = GRAPH_URL,
    **options: Any,
) -> HttpSender:
    arguments = {
        "base_url": base_url,
        "credential": FakeCredential(),
        "timeout_seconds": 60.0,
        **fake_service.client_options,
        **options,
    }
    return HttpSender(service, **arguments)


async def send(sender: HttpSender) -> HttpResponse:
    async def get(client_request_id: str) -> httpx.Response:
        headers = {"client-request-id": client_request_id}
        if sender.is_authenticated:
            headers["Authorization"] = f"Bearer {await sender.get_token()}"
        return await sender.http.get(f"{sender.base_url}/x?{SENTINEL}", headers=headers)

    return await sender.send("test request", get)


@pytest.mark.parametrize("status", [200, 302, 401, 404, 429, 503])
async def test_send_returns_response_for_every_status(status: int) -> None:
    response = json_response(
        {}, status, location="/y", Retry_After="Sun, 08 Nov 2026 09:38:30 GMT", request_id="r-1"
    )
    assert await send(create_sender(FakeService(response))) == HttpResponse(
        status, "application/json", "/y", 90, "r-1", b"{}"
    )


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ({}, None),
        ({"x-ms-request-id": "x-1"}, "x-1"),
        ({"x-ms-request-id": "x-1", "request-id": "r-1"}, "r-1"),
        ({"request-id": "r-1", "MS-RequestId": "m-1"}, "m-1"),
        ({"request-id": "https://example.org?sig=1", "x-ms-request-id": "x-1"}, "x-1"),
        ({"request-id": "r" * 81}, None),
    ],
)
async def test_send_returns_first_safe_request_id(
    headers: dict[str, str], request_id: str | None
) -> None:
    response = await send(create_sender(FakeService(httpx.Response(200, headers=headers))))
    assert response.request_id == request_id


@pytest.mark.parametrize(("service", "base_url", "name"), SERVICES)
async def test_send_authenticates_with_scope_of_service(
    service: HttpService, base_url: str, name: str
) -> None:
    fake_service, credential = FakeService(httpx.Response(200)), FakeCredential()
    await send(create_sender(fake_service, service, base_url, credential=credential))
    [request] = fake_service.requests
    assert request.headers["authorization"] == f"Bearer {SENTINEL}-token"
    assert credential.scopes == [service.scope]


@pytest.mark.parametrize(("service", "base_url", "name"), SERVICES)
@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError(f"no route sig={SENTINEL}"),
        httpx.ReadTimeout(SENTINEL),
        OSError(SENTINEL),
        httpx.RemoteProtocolError(SENTINEL),
    ],
)
async def test_send_without_connection_raises_unavailable(
    service: HttpService, base_url: str, name: str, failure: Exception
) -> None:
    with pytest.raises(UnavailableError) as raised:
        await send(create_sender(FakeService(failure), service, base_url))
    assert raised.value.code == f"{name}_unavailable" and SENTINEL not in repr(raised.value)
    assert raised.value.__context__ is None and raised.value.__cause__ is None


@pytest.mark.parametrize(("service", "base_url", "name"), SERVICES)
async def test_send_with_unreadable_body_raises_malformed(
    service: HttpService, base_url: str, name: str
) -> None:
    response = httpx.Response(
        200, headers={"Content-Encoding": "br"}, stream=httpx.ByteStream(SENTINEL.encode())
    )
    with pytest.raises(UnavailableError) as raised:
        await send(create_sender(FakeService(response), service, base_url))
    assert raised.value.code == f"{name}_malformed" and raised.value.__context__ is None


async def test_send_without_response_in_time_raises_unavailable() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    sender = create_sender(
        FakeService(), transport=httpx.MockTransport(never), timeout_seconds=0.02
    )
    with pytest.raises(UnavailableError) as raised:
        await send(sender)
    assert raised.value.code == "graph_unavailable" and raised.value.__context__ is None


async def test_send_without_token_in_time_raises_identity_unavailable() -> None:
    class HangingCredential(FakeCredential):
        async def get_token(self, *scopes: str, **options: Any) -> Any:
            await asyncio.Event().wait()

    sender = create_sender(FakeService(), credential=HangingCredential(), timeout_seconds=1.0)
    with pytest.raises(UnavailableError) as raised:
        await send(sender)
    assert raised.value.code == "identity_unavailable" and raised.value.__context__ is None


async def test_send_without_token_sends_no_request() -> None:
    fake_service = FakeService()
    credential = FakeCredential(error=RuntimeError(SENTINEL))
    with pytest.raises(UnavailableError, match="identity_unavailable"):
        await send(create_sender(fake_service, credential=credential))
    assert fake_service.requests == []


async def test_sender_can_be_used_after_close() -> None:
    class CountingTransport(httpx.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    transport = CountingTransport(FakeService(httpx.Response(200), httpx.Response(200)))
    sender = create_sender(FakeService(), transport=transport)
    await sender.close()
    assert transport.closed == 0  # there was no connection yet
    for closed in (1, 2):
        await send(sender)
        await sender.close()
        await sender.close()
        assert transport.closed == closed


@pytest.mark.parametrize(("service", "base_url", "name"), SERVICES)
async def test_log_contains_ids_and_status_but_no_url_and_no_token(
    service: HttpService, base_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake_service = FakeService(
        httpx.Response(200, headers={"request-id": "r-1"}), httpx.ConnectError(SENTINEL)
    )
    sender = create_sender(fake_service, service, base_url)
    with caplog.at_level(logging.DEBUG):
        await send(sender)
        with pytest.raises(UnavailableError):
            await send(sender)
    first, second = (request.headers["client-request-id"] for request in fake_service.requests)
    assert [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == f"partner_billing.{name}"
    ] == [
        (
            "INFO",
            f"{service.name} test request: status 200 after 0.0 s, request ID r-1, "
            f"client request ID {first}",
        ),
        (
            "WARNING",
            f"{service.name} test request: {name}_unavailable after 0.0 s, "
            f"client request ID {second}",
        ),
    ]
    assert SENTINEL not in caplog.text and "http" not in caplog.text


@pytest.mark.parametrize(
    "base_url", [LOOPBACK_ORIGIN, "http://[::1]:8700/v1.0", "http://localhost/beta"]
)
async def test_sender_for_loopback_uses_no_credential(base_url: str) -> None:
    fake_service, credential = FakeService(httpx.Response(200)), FakeCredential()
    await send(create_sender(fake_service, base_url=base_url, credential=credential))
    assert not credential.requests and "authorization" not in fake_service.requests[0].headers
    create_sender(fake_service, base_url=base_url, credential=None)


@pytest.mark.parametrize(("service", "base_url", "name"), SERVICES)
def test_sender_for_service_requires_credential(
    service: HttpService, base_url: str, name: str
) -> None:
    with pytest.raises(ValueError, match=f"{service.name} requires a credential"):
        create_sender(FakeService(), service, base_url, credential=None)


@pytest.mark.parametrize("status", [401, 403])
async def test_send_after_rejected_token_uses_a_new_token(status: int) -> None:
    tokens, now = iter(("first", "second")), 0.0
    credential = RenewableCredential(lambda: FakeCredential(next(tokens)), lambda: now)
    fake_service = FakeService(httpx.Response(200), httpx.Response(status), httpx.Response(200))
    sender = create_sender(fake_service, credential=credential)
    for seconds in (0, 100, 200):
        now = float(seconds)
        await send(sender)
    assert [request.headers["authorization"] for request in fake_service.requests] == [
        "Bearer first",
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize(
    ("failure", "was_sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("no route"), False),
        (httpx.ReadTimeout("no response"), True),
        (httpx.RemoteProtocolError("closed"), True),
        (TimeoutError(), True),
    ],
)
async def test_send_without_response_states_whether_request_was_sent(
    failure: Exception, was_sent: bool
) -> None:
    with pytest.raises(UnavailableError) as raised:
        await send(create_sender(FakeService(failure)))
    assert raised.value.was_sent is was_sent


async def test_send_with_dates_returns_wait_relative_to_date_of_response() -> None:
    headers = {
        "Date": "Sun, 08 Nov 2026 08:00:00 GMT",
        "Retry-After": "Sun, 08 Nov 2026 08:05:00 GMT",
    }
    response = await send(create_sender(FakeService(httpx.Response(503, headers=headers))))
    assert response.retry_after_seconds == 300
