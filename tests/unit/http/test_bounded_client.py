"""Limits on sizes, encodings, times and addresses for the HTTP clients."""

import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.http.bounded_client import UnreadableBodyError, create_http_client
from tests.support.fake_service import LOOPBACK_ORIGIN, FakeService

MAX_BYTES = 1_000
BODY = b'{"status": "running"}'


async def get(response: httpx.Response, **options: Any) -> httpx.Response:
    client = create_http_client(
        httpx.MockTransport(FakeService(response)),
        timeout_seconds=60,
        max_response_bytes=MAX_BYTES,
        **options,
    )
    async with client:
        return await client.get(LOOPBACK_ORIGIN)


def encoded_response(encoding: str, content: bytes) -> httpx.Response:
    return httpx.Response(
        200, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(content)
    )


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
async def test_response_with_accepted_encoding_is_decompressed(encoding: str, encode: Any) -> None:
    response = await get(encoded_response(encoding, encode(BODY)), accept_encoding="gzip")
    assert response.content == BODY and "content-encoding" not in response.headers


@pytest.mark.parametrize("content", [BODY, gzip.compress(BODY)[:-9], gzip.compress(BODY)[:-1]])
async def test_response_with_invalid_gzip_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        await get(encoded_response("gzip", content), accept_encoding="gzip")


@pytest.mark.parametrize(
    ("encoding", "accept_encoding"), [("br", "gzip"), ("gzip", "identity"), ("br", "identity")]
)
async def test_response_with_other_encoding_is_unreadable(
    encoding: str, accept_encoding: str
) -> None:
    with pytest.raises(UnreadableBodyError):
        await get(encoded_response(encoding, gzip.compress(BODY)), accept_encoding=accept_encoding)


@pytest.mark.parametrize(("size", "is_readable"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("identity", bytes)])
async def test_response_above_size_limit_is_unreadable(
    size: int, is_readable: bool, encoding: str, encode: Any
) -> None:
    response = encoded_response(encoding, encode(bytes(size)))
    if is_readable:
        assert len((await get(response, accept_encoding="gzip")).content) == size
    else:
        with pytest.raises(UnreadableBodyError):
            await get(response, accept_encoding="gzip")


async def test_endless_response_is_read_up_to_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 400

    with pytest.raises(UnreadableBodyError):
        await get(httpx.Response(200, content=endless()))
    assert sent == 3


async def test_redirect_is_not_followed() -> None:
    response = await get(httpx.Response(302, headers={"Location": "https://example.org/"}))
    assert response.status_code == 302


@pytest.mark.parametrize("accept_encoding", ["gzip", "identity"])
async def test_request_has_time_limits_and_one_encoding(accept_encoding: Any) -> None:
    service = FakeService(httpx.Response(200))
    client = create_http_client(
        httpx.MockTransport(service),
        timeout_seconds=60.0,
        max_response_bytes=MAX_BYTES,
        accept_encoding=accept_encoding,
    )
    async with client:
        await client.get(LOOPBACK_ORIGIN)
    [request] = service.requests
    assert request.headers["accept-encoding"] == accept_encoding
    assert request.extensions["timeout"] == {
        "connect": 10.0,
        "read": 60.0,
        "write": 60.0,
        "pool": 60.0,
    }
