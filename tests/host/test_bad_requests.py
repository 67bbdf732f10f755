"""What is no HTTP, what is too large and what no parser likes: a clear answer, a line in the log, and the host lives."""

import logging
import socket
from urllib.parse import urlsplit

import pytest

from local.host import LocalHost, front

from .conftest import MANAGEMENT, Web

HOST = b"Host: localhost\r\n"
POST = b"POST /api/start/chain HTTP/1.1\r\n" + HOST
START = f"POST {MANAGEMENT}/orchestrators/chain HTTP/1.1\r\n".encode() + HOST
LIST = f"GET {MANAGEMENT}/instances".encode()


def answered(host: LocalHost, request: bytes) -> int:
    """The status of the first answer to these bytes; 0: the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", urlsplit(host.base_url).port), 10) as connection:
        connection.sendall(request)
        line = connection.recv(4096).partition(b"\r\n")[0]
    return int(line.split()[1]) if line else 0


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x00\x01\x02 nonsense\r\n\r\n", 400),
        (b"G\x01T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET //[x/api HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://[::1/api HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (POST + b"Content-Length: x\r\n\r\n", 400),
        (POST + b"Content-Length: -5\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc", 400),
        (POST + b"Content-Length: 104857601\r\n\r\nabc", 413),
        (START + b"Content-Length: 2\r\n\r\n\xff\xfe", 400),
        (START + b"Content-Length: 200000\r\n\r\n" + b"[" * 200_000, 400),
        (LIST + b"?top=99999999999999999999 HTTP/1.1\r\n" + HOST + b"\r\n", 200),
        (LIST + b"?createdTimeFrom=9999-12-31T23:59:59-14:00 HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    ],
    ids=[
        "garbage",
        "method",
        "long header",
        "long path",
        "no URL",
        "no absolute URL",
        "length",
        "negative length",
        "two lengths",
        "chunk",
        "larger than allowed",
        "no UTF-8",
        "nested too deep",
        "a number too large",
        "a date out of range",
    ],
)
def test_the_answer_is_clear_and_the_host_lives(
    host: LocalHost,
    caplog: pytest.LogCaptureFixture,
    request_bytes: bytes,
    status: int,
) -> None:
    assert answered(host, request_bytes) == status
    assert all(
        record.exc_info is None and record.levelno <= logging.WARNING for record in caplog.records
    )
    assert all(len(record.getMessage()) < 400 for record in caplog.records)
    assert Web(host.base_url).call("GET", "/api/ticks").status == 200


def test_a_body_without_a_length_is_read_no_further_than_the_limit(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "MAX_TRIGGER_BODY", 1_000)
    chunk = b"400\r\n" + b"x" * 1_024 + b"\r\n"
    assert (
        answered(host, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk) == 413
    )  # the chunk that would end it never comes
    assert host.request("PUT", "/api/reflect/1/x", body=b"x" * 1_001).status == 413


def test_a_caller_that_goes_away(host: LocalHost) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(host.base_url).port), 10) as connection:
        connection.sendall(POST + b"Content-Length: 100\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert Web(host.base_url).call("GET", "/api/ticks").status == 200
