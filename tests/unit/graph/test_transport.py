"""The bounds of an answer, in size and time, and of what may be asked (design, section 12)."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.errors import RequestRefusedError, UnavailableError
from shared.graph.client import GraphBillingClient
from shared.graph.responses import OperationRunning
from shared.graph.transport import MAX_RESPONSE_BYTES, GraphTokenProvider
from shared.urls import parse_graph_base_url
from tests.unit.graph.scripted import (
    BILLED,
    GRAPH,
    LOOPBACK,
    OPERATION,
    Credential,
    FixedClock,
    Script,
    accepted,
    answer,
    payload,
)

RUNNING = json.dumps(payload("running")).encode()


async def malformed(response: httpx.Response) -> None:
    with pytest.raises(UnavailableError) as caught:
        await Script(response).graph().get_operation(OPERATION)
    assert caught.value.code == "graph_malformed" and caught.value.__context__ is None


@pytest.mark.parametrize(
    ("packing", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_packed_answers_are_read(packing: str, pack: Any) -> None:
    headers = {"Content-Encoding": packing, "Content-Type": "application/json"}
    response = httpx.Response(200, content=pack(RUNNING), headers=headers)
    assert await Script(response).graph().get_operation(OPERATION) == OperationRunning(None, None)


@pytest.mark.parametrize(
    "content", [RUNNING, gzip.compress(RUNNING)[:-9], gzip.compress(RUNNING)[:-1], b"\x1f\x8b"]
)
async def test_badly_packed_answers_are_not(content: bytes) -> None:
    await malformed(
        httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(content))
    )


async def test_packed_as_nobody_asked() -> None:
    await malformed(
        httpx.Response(200, headers={"Content-Encoding": "br"}, stream=httpx.ByteStream(b"x"))
    )


async def test_a_large_answer_is_given_up() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield bytes(1024 * 1024)

    await malformed(httpx.Response(200, content=endless()))
    assert sent == MAX_RESPONSE_BYTES // 1024 // 1024 + 1


async def test_a_small_answer_that_unpacks_to_a_large_one_is_given_up() -> None:
    bomb = gzip.compress(bytes(MAX_RESPONSE_BYTES + 1), 1)
    assert len(bomb) < 1024 * 1024
    await malformed(
        httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(bomb))
    )


async def test_an_answer_that_does_not_come() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    graph = GraphBillingClient(
        base_url=GRAPH,
        credential=Credential(),
        clock=FixedClock(),
        transport=httpx.MockTransport(never),
        timeout_seconds=0.02,
    )
    with pytest.raises(UnavailableError) as caught:
        await graph.start_export(BILLED, None)
    assert caught.value.code == "graph_unavailable" and caught.value.__context__ is None


async def test_a_token_that_does_not_come() -> None:
    class Slow(Credential):
        async def get_token(self, *scopes: str, **options: Any) -> Any:
            await asyncio.sleep(60)

    with pytest.raises(UnavailableError) as caught:
        await Script().graph(credential=Slow(), timeout_seconds=1.0).get_operation(OPERATION)
    assert caught.value.code == "identity_unavailable" and caught.value.__context__ is None


async def test_the_bounds_are_those_of_the_design() -> None:
    script = Script(answer(payload("running")))
    await script.graph().get_operation(OPERATION)
    assert script.requests[0].extensions["timeout"] == {
        "connect": 10.0,
        "read": 60.0,
        "write": 60.0,
        "pool": 60.0,
    }


async def test_many_at_once_do_not_mix() -> None:
    async def echo(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        name = request.url.path.rpartition("/")[2]
        return httpx.Response(
            200, json=payload("running"), headers={"request-id": name, "Retry-After": name[1:]}
        )

    graph = GraphBillingClient(
        base_url=GRAPH,
        credential=Credential(),
        clock=FixedClock(),
        transport=httpx.MockTransport(echo),
    )
    states = await asyncio.gather(
        *(asyncio.create_task(graph.get_operation(f"o{i}")) for i in range(40))
    )
    assert states == [OperationRunning(i, f"o{i}") for i in range(40)]


async def test_close_closes_the_transport_once() -> None:
    class Closing(httpx.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    transport = Closing(Script(accepted()))
    graph = GraphBillingClient(
        base_url=GRAPH, credential=Credential(), clock=FixedClock(), transport=transport
    )
    await graph.close()
    assert transport.closed == 0  # nothing was opened
    await graph.start_export(BILLED, None)
    await graph.close()
    await graph.close()
    assert transport.closed == 1


async def test_the_log_names_ids_and_numbers(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(
        answer(payload("linked"), request_id="r-1"), answer(payload("manifest"), request_id="r-2")
    )
    with caplog.at_level(logging.DEBUG):
        await script.graph().get_operation(OPERATION)
    ours = [
        record.getMessage() for record in caplog.records if record.name == "partner_billing.graph"
    ]
    assert [line.partition(", client")[0] for line in ours] == [
        "Graph operation request: status 200 after 0.0 s, request ID r-1",
        "Graph manifest request: status 200 after 0.0 s, request ID r-2",
    ]
    assert {record.name for record in caplog.records} <= {"partner_billing.graph", "asyncio"}
    assert "SENTINEL" not in caplog.text and "http" not in "".join(ours)


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
def test_base_urls(url: str) -> None:
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
def test_other_urls_are_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="must be https://graph") as caught:
        parse_graph_base_url(url)
    assert "SENTINEL" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.microsoft.com/v1.0/x",
        "https://elsewhere.example/v1.0/x",
        "https://x@graph.microsoft.com/",
    ],
)
async def test_a_token_is_for_no_other_address(url: str) -> None:
    credential = Credential()
    with pytest.raises(RequestRefusedError):
        await GraphTokenProvider(credential, "graph.microsoft.com", 1).get_authorization_token(url)
    assert not credential.asked


def test_graph_needs_a_credential() -> None:
    with pytest.raises(ValueError, match="credential"):
        GraphBillingClient(base_url=GRAPH, credential=None, clock=FixedClock())
    GraphBillingClient(base_url=LOOPBACK, credential=None, clock=FixedClock())
