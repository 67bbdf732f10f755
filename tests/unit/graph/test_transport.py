"""Limits on sizes, times and addresses for Graph connections."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.errors import RequestRefusedError, UnavailableError
from shared.graph.client import GRAPH_SERVICE, GraphBillingClient
from shared.graph.responses import OperationRunning
from shared.graph.transport import GraphTokenProvider
from shared.http.sender import HttpSender
from shared.urls import parse_graph_base_url
from tests.support.clocks import FakeClock
from tests.support.fake_service import NOW, FakeCredential, FakeService, json_response
from tests.unit.graph.fake_graph import (
    BILLED,
    GRAPH,
    LOOPBACK,
    OPERATION,
    FakeGraph,
    accepted_response,
    payload,
)

RUNNING = json.dumps(payload("running")).encode()


async def test_response_with_gzip_is_decompressed() -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    response = httpx.Response(200, content=gzip.compress(RUNNING), headers=headers)
    assert await FakeGraph(response).create_client().get_operation(OPERATION) == OperationRunning(
        None, None
    )


@pytest.mark.parametrize("content", [RUNNING, gzip.compress(RUNNING)[:-1], b"\x1f\x8b"])
async def test_response_with_invalid_gzip_is_malformed(content: bytes) -> None:
    response = httpx.Response(
        200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(content)
    )
    with pytest.raises(UnavailableError) as raised:
        await FakeGraph(response).create_client().get_operation(OPERATION)
    assert raised.value.code == "graph_malformed" and raised.value.__context__ is None


async def test_response_above_size_limit_is_malformed() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1024 * 1024)

    graph = FakeGraph(httpx.Response(200, content=endless())).create_client()
    with pytest.raises(UnavailableError) as raised:
        await graph.get_operation(OPERATION)
    assert raised.value.code == "graph_malformed" and raised.value.__context__ is None
    assert sent == 33


async def test_concurrent_requests_receive_their_own_responses() -> None:
    async def echo(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        name = request.url.path.rpartition("/")[2]
        return httpx.Response(
            200, json=payload("running"), headers={"request-id": name, "Retry-After": name[1:]}
        )

    graph = GraphBillingClient(
        base_url=GRAPH,
        credential=FakeCredential(),
        clock=FakeClock(NOW),
        transport=httpx.MockTransport(echo),
    )
    states = await asyncio.gather(
        *(asyncio.create_task(graph.get_operation(f"o{i}")) for i in range(40))
    )
    assert states == [OperationRunning(i, f"o{i}") for i in range(40)]


async def test_close_closes_the_transport_once() -> None:
    class CountingTransport(httpx.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    transport = CountingTransport(FakeGraph(accepted_response()))
    graph = GraphBillingClient(
        base_url=GRAPH, credential=FakeCredential(), clock=FakeClock(NOW), transport=transport
    )
    await graph.close()
    assert transport.closed == 0  # there was no connection yet
    await graph.start_export(BILLED, None)
    await graph.close()
    await graph.close()
    assert transport.closed == 1


async def test_log_contains_ids_and_status_but_no_url(caplog: pytest.LogCaptureFixture) -> None:
    fake_graph = FakeGraph(
        json_response(payload("linked"), request_id="r-1"),
        json_response(payload("manifest"), request_id="r-2"),
    )
    with caplog.at_level(logging.DEBUG):
        await fake_graph.create_client().get_operation(OPERATION)
    messages = [
        record.getMessage() for record in caplog.records if record.name == "partner_billing.graph"
    ]
    assert [line.partition(", client")[0] for line in messages] == [
        "Graph operation request: status 200 after 0.0 s, request ID r-1",
        "Graph manifest request: status 200 after 0.0 s, request ID r-2",
    ]
    assert {record.name for record in caplog.records} <= {"partner_billing.graph", "asyncio"}
    assert "SENTINEL" not in caplog.text and "http" not in "".join(messages)


@pytest.mark.parametrize(
    "url",
    [
        GRAPH,
        "https://graph.microsoft.com/beta",
        LOOPBACK,
        "http://127.0.0.1:1/v1.0",
        "http://[::1]:8700/beta",
        "http://localhost/v1.0",
        "https://127.0.0.2:8700/some/where/v1.0",
    ],
)
def test_parse_graph_base_url_with_valid_url_returns_it(url: str) -> None:
    assert parse_graph_base_url(url) == parse_graph_base_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "graph.microsoft.com/v1.0",
        "http://graph.microsoft.com/v1.0",
        "https://graph.microsoft.com",
        "https://graph.microsoft.com/v2.0",
        "https://graph.microsoft.com:443/v1.0",
        "https://graph.microsoft.com.example.org/v1.0",
        "https://graph.microsoft.com@example.org/v1.0",
        "https://example.org/v1.0",
        "https://graph.microsoft.us/v1.0",
        "https://graph.microsoft.com/v1.0//",
        "https://graph.microsoft.com/v1.0?x=1",
        "http://127.0.0.1.example.org/v1.0",
        "http://127.0.0.1@example.org/v1.0",
        "http://user:SENTINEL@127.0.0.1/v1.0",
        "http://127.0.0.1:x/v1.0",
        "http://127.0.0.1/",
        "http://127.0.0.1/v1.0#x",
        "http://127.0.0.1/v1.0?x",
        "http://10.0.0.1/v1.0",
        "ftp://127.0.0.1/v1.0",
        "http://[::1/v1.0",
        "http://127.0.0.1/av1.0x",
        "http://127.0.0.1:99999/v1.0",
    ],
)
def test_parse_graph_base_url_with_invalid_url_raises_error_without_url(url: str) -> None:
    with pytest.raises(ValueError, match="must be https://graph") as raised:
        parse_graph_base_url(url)
    assert "SENTINEL" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.microsoft.com/v1.0/x",
        "https://elsewhere.example/v1.0/x",
        "https://x@graph.microsoft.com/",
    ],
)
async def test_token_provider_with_other_address_refuses(url: str) -> None:
    credential = FakeCredential()
    sender = HttpSender(
        GRAPH_SERVICE,
        base_url=GRAPH,
        credential=credential,
        timeout_seconds=1,
        **FakeService().client_options,
    )
    with pytest.raises(RequestRefusedError):
        await GraphTokenProvider(sender).get_authorization_token(url)
    assert not credential.requests


def test_client_for_graph_requires_credential() -> None:
    with pytest.raises(ValueError, match="credential"):
        GraphBillingClient(base_url=GRAPH, credential=None, clock=FakeClock(NOW))
    GraphBillingClient(base_url=LOOPBACK, credential=None, clock=FakeClock(NOW))
