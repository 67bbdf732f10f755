"""Invalid and oversized requests: the host returns an error, logs one line and continues to run."""

import logging
import socket
from urllib.parse import urlsplit

import pytest

from local.host import LocalHost, request_router

from .sample_host import MANAGEMENT_PATH, HostClient

HOST_HEADER = b"Host: localhost\r\n"
POST_TO_ROUTE = b"POST /api/start/chain HTTP/1.1\r\n" + HOST_HEADER
POST_TO_MANAGEMENT = (
    f"POST {MANAGEMENT_PATH}/orchestrators/chain HTTP/1.1\r\n".encode() + HOST_HEADER
)
LIST_INSTANCES = f"GET {MANAGEMENT_PATH}/instances".encode()


def get_response_status(host: LocalHost, request: bytes) -> int:
    """Return the response status, or 0 if the host closes the connection without a response."""
    with socket.create_connection(("127.0.0.1", urlsplit(host.base_url).port), 10) as connection:
        connection.sendall(request)
        line = connection.recv(4096).partition(b"\r\n")[0]
    return int(line.split()[1]) if line else 0


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x00\x01\x02 nonsense\r\n\r\n", 400),
        (b"G\x01T / HTTP/1.1\r\n" + HOST_HEADER + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST_HEADER + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST_HEADER + b"\r\n", 400),
        (b"GET //[x/api HTTP/1.1\r\n" + HOST_HEADER + b"\r\n", 400),
        (b"GET http://[::1/api HTTP/1.1\r\n" + HOST_HEADER + b"\r\n", 400),
        (POST_TO_ROUTE + b"Content-Length: x\r\n\r\n", 400),
        (POST_TO_ROUTE + b"Content-Length: -5\r\n\r\n", 400),
        (POST_TO_ROUTE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (POST_TO_ROUTE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc", 400),
        (POST_TO_ROUTE + b"Content-Length: 104857601\r\n\r\nabc", 413),
        (POST_TO_MANAGEMENT + b"Content-Length: 2\r\n\r\n\xff\xfe", 400),
        (POST_TO_MANAGEMENT + b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000, 400),
        (LIST_INSTANCES + b"?top=99999999999999999999 HTTP/1.1\r\n" + HOST_HEADER + b"\r\n", 200),
        (
            LIST_INSTANCES
            + b"?createdTimeFrom=9999-12-31T23:59:59-14:00 HTTP/1.1\r\n"
            + HOST_HEADER
            + b"\r\n",
            200,
        ),
    ],
    ids=[
        "not_http",
        "invalid_method",
        "long_header",
        "long_path",
        "invalid_url",
        "invalid_absolute_url",
        "invalid_length",
        "negative_length",
        "two_lengths",
        "invalid_chunk",
        "body_too_large",
        "invalid_utf_8",
        "nesting_too_deep",
        "number_too_large",
        "date_out_of_range",
    ],
)
def test_invalid_request_returns_error_and_host_continues(
    host: LocalHost,
    caplog: pytest.LogCaptureFixture,
    request_bytes: bytes,
    status: int,
) -> None:
    assert get_response_status(host, request_bytes) == status
    assert all(
        record.exc_info is None and record.levelno <= logging.WARNING for record in caplog.records
    )
    assert all(len(record.getMessage()) < 400 for record in caplog.records)
    assert HostClient(host.base_url).request("GET", "/api/ticks").status == 200


def test_chunked_body_larger_than_limit_returns_413(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_router, "MAX_TRIGGER_BODY_BYTES", 1_000)
    chunk = b"400\r\n" + b"x" * 1_024 + b"\r\n"
    # The request never sends the last chunk.
    request = POST_TO_ROUTE + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
    assert get_response_status(host, request) == 413
    assert host.request("PUT", "/api/reflect/1/x", body=b"x" * 1_001).status == 413


def test_client_that_disconnects_does_not_affect_host(host: LocalHost) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(host.base_url).port), 10) as connection:
        connection.sendall(POST_TO_ROUTE + b"Content-Length: 100\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert HostClient(host.base_url).request("GET", "/api/ticks").status == 200
