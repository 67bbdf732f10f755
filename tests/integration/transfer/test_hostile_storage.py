"""Responses that violate the protocol of the storage service.

Each blob has one result with an error code, and no signature appears in results or logs.
"""

import gzip
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from local.azurite import Azurite
from shared.clock import SystemClock
from shared.landing.store import LandingStore
from shared.manifest import Manifest
from shared.transfer import concurrency_limiter
from shared.transfer.copier import Copier
from shared.transfer.limits import BLOCK_BYTES
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import BlobResult, TransferRequest
from shared.transfer.source_reader import SourceReader
from tests.integration.transfer.azurite_transfer import (
    FOLDER,
    AzuriteTransfer,
    json_rows,
    md5_base64,
)
from tests.support.raw_http_server import RawHttpServer, RawRequest, RawResponse, build_response

CONTENT = gzip.compress(json_rows(3000))
SECRET = "s3cr3tSignature"
Respond = Callable[[RawRequest], RawResponse]


@pytest.fixture(autouse=True)
def no_retry_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency_limiter, "UNAVAILABLE_RETRY_SECONDS", (0, 0))
    monkeypatch.setattr(concurrency_limiter, "THROTTLED_RETRY_SECONDS", ())


def valid_response(request: RawRequest) -> bytes:
    if request.method == "HEAD":
        return build_response(
            200, Content_Length=len(CONTENT), ETag='"0x1"', Content_MD5=md5_base64(CONTENT)
        )
    start, end = request.byte_range
    end = min(end, len(CONTENT) - 1)
    return build_response(
        206,
        CONTENT[start : end + 1],
        ETag='"0x1"',
        Content_Range=f"bytes {start}-{end}/{len(CONTENT)}",
        x_ms_blob_content_md5=md5_base64(CONTENT),
    )


def first_range_response(total: object, **more: object) -> bytes:
    """Return a response to the first range with 9 bytes and the given total size."""
    return build_response(
        206, CONTENT[:9], **{"Content_Range": f"bytes 0-8/{total}", "ETag": '"0x1"', **more}
    )


def truncate_first(then: Callable[[RawRequest], bytes]) -> Respond:
    """Truncate the first response, and call `then` when the rest is requested."""
    return for_get(
        lambda request, number: valid_response(request)[:-10] if number == 1 else then(request)
    )


def for_get(respond_to_get: Callable[[RawRequest, int], RawResponse]) -> Respond:
    """Return a valid response to HEAD; call `respond_to_get` with each GET and its number."""
    number = 0

    def respond(request: RawRequest) -> RawResponse:
        nonlocal number
        if request.method == "HEAD":
            return valid_response(request)
        number += 1
        return respond_to_get(request, number)

    return respond


class HostileSource:
    """A copier that reads from a scripted HTTP server.

    Attributes:
        manifest_fetches: The number of manifests that were fetched.
        expects_blobs: Whether the test leaves blobs in the landing container.
    """

    def __init__(self, landing: LandingStore) -> None:
        self.landing, self.manifest_fetches, self.expects_blobs = landing, 0, False

    async def copy(self, respond: Respond, **settings: Any) -> tuple[BlobResult, list[RawRequest]]:
        (result,), requests = await self.copy_all(respond, ["a=1/b.json.gz"], **settings)
        return result, requests

    async def copy_all(
        self, respond: Respond, names: list[str], **settings: Any
    ) -> tuple[list[BlobResult], list[RawRequest]]:
        """Copy the blobs one after another; return their results and all source requests."""
        async with RawHttpServer(respond) as server:
            root = f"{server.origin}/billing/c/root"

            async def fetch_manifest(operation_id: str) -> Manifest:
                self.manifest_fetches += 1
                sas = f"se=2099-01-01T00%3A00%3A00Z&sig={SECRET}{self.manifest_fetches}%2B%2F"
                return Manifest("1", "e", datetime.now(UTC), "2", "t", root, (), 0, sas)

            clock = SystemClock()
            sources = ManifestCache(fetch_manifest, clock, min_fetch_interval_seconds=0)
            copier = Copier(
                self.landing, sources, clock, reader=SourceReader(sources, clock, idle_seconds=0.3)
            )
            request = TransferRequest("run", "operation", FOLDER, "e", root, **settings)
            results = [
                result for name in names for result in await copier.copy_blobs(request, [name], {})
            ]
            await copier.close()
            return results, server.requests


@pytest.fixture
async def source(
    azurite: Azurite, container: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[HostileSource]:
    caplog.set_level(logging.WARNING)
    landing = LandingStore(container=container, connection_string=azurite.landing.connection_string)
    await landing.ensure_container()
    source = HostileSource(landing)
    yield source
    assert await landing.list("data") == [] or source.expects_blobs
    await landing.close()
    assert SECRET not in caplog.text and "127.0.0.1" not in caplog.text


async def test_copy_blobs_valid_response_sends_one_signed_get(source: HostileSource) -> None:
    result, requests = await source.copy(valid_response)
    source.expects_blobs = True
    assert (
        result.proven and result.tries == 1 and [request.method for request in requests] == ["GET"]
    )
    assert (
        requests[0].target
        == f"/billing/c/root/a%3D1/b.json.gz?se=2099-01-01T00%3A00%3A00Z&sig={SECRET}1%2B%2F"
    )
    assert (
        "authorization" not in requests[0].headers
        and requests[0].headers["accept-encoding"] == "identity"
    )
    assert requests[0].headers["range"] == "bytes=0-8388607" and SECRET not in repr(result)


async def test_copy_blobs_broken_connection_continues_at_same_offset(source: HostileSource) -> None:
    def breaks(request: RawRequest, number: int) -> bytes:
        left = len(CONTENT) - request.byte_range[0]
        return valid_response(request) if number == 3 else valid_response(request)[: -(left // 2)]

    result, requests = await source.copy(for_get(breaks))
    source.expects_blobs = True
    starts = [request.byte_range[0] for request in requests]
    assert result.proven and result.tries == 3 and starts[0] == 0 < starts[1] < starts[2]
    assert [request.headers.get("if-match") for request in requests] == [None, '"0x1"', '"0x1"']


INVALID_RESPONSES: dict[str, tuple[Respond, str, int]] = {
    # response, error code, attempts
    "always_truncated": (
        for_get(lambda request, _: valid_response(request)[:-10]),
        "source_short",
        3,
    ),
    "no_content_range": (
        for_get(lambda request, _: build_response(206, CONTENT, ETag='"0x1"')),
        "source_short",
        1,
    ),
    "other_total": (
        for_get(
            lambda request, _: build_response(
                206, CONTENT, Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT) + 1}"
            )
        ),
        "source_short",
        1,
    ),
    "other_range": (
        for_get(
            lambda request, _: build_response(
                206, CONTENT, Content_Range=f"bytes 1-{len(CONTENT)}/{len(CONTENT)}"
            )
        ),
        "source_short",
        1,
    ),
    "no_range": (
        for_get(lambda request, _: build_response(200, CONTENT, ETag='"0x1"')),
        "source_short",
        1,
    ),
    "fewer_bytes_than_range": (
        for_get(
            lambda request, _: build_response(
                206, CONTENT[:9], Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"
            )
        ),
        "source_short",
        1,
    ),
    "other_etag": (
        truncate_first(lambda request: valid_response(request).replace(b'"0x1"', b'"0x2"')),
        "source_changed",
        2,
    ),
    "other_range_of_rest": (
        truncate_first(
            lambda request: build_response(
                206,
                CONTENT,
                ETag='"0x1"',
                Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
            )
        ),
        "source_short",
        2,
    ),
    "range_without_etag": (lambda _: first_range_response(9, ETag=None), "source_unreachable", 3),
    "huge_total": (
        lambda _: build_response(
            206,
            b"x" * BLOCK_BYTES,
            ETag='"0x1"',
            Content_Range=f"bytes 0-{BLOCK_BYTES - 1}/{10**15}",
        ),
        "copy_failed",
        1,
    ),
    "total_of_many_digits": (lambda _: first_range_response("9" * 5000), "source_short", 1),
    "negative_total": (lambda _: first_range_response(-9), "source_short", 1),
    "fewer_bytes_than_total": (lambda _: first_range_response(10), "source_short", 1),
    "other_bytes": (
        for_get(lambda request, _: valid_response(request)[: -len(CONTENT)] + CONTENT[:-1] + b"x"),
        "proof_gzip",
        1,
    ),
    "head_redirect": (
        lambda _: build_response(302, Location="http://127.0.0.1:9/elsewhere"),
        "source_redirected",
        1,
    ),
    "get_redirect": (
        for_get(lambda *_: build_response(307, Location="http://127.0.0.1:9/elsewhere")),
        "source_redirected",
        1,
    ),
    "bad_gateway": (for_get(lambda *_: build_response(502, b"<html>")), "source_unreachable", 3),
    "not_http": (for_get(lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n"), "source_unreachable", 3),
    "connection_closed": (for_get(lambda *_: b""), "source_unreachable", 3),
    "no_response": (for_get(lambda *_: None), "source_unreachable", 3),
    "no_etag": (lambda _: build_response(200, Content_Length=9), "source_unreachable", 3),
    "no_length": (
        lambda _: build_response(200, Content_Length=None, ETag='"0x1"'),
        "source_unreachable",
        3,
    ),
    "not_found": (
        lambda _: build_response(404, x_ms_error_code="BlobNotFound"),
        "source_missing",
        1,
    ),
    "condition_not_met": (
        for_get(lambda *_: build_response(412, x_ms_error_code="ConditionNotMet")),
        "source_changed",
        1,
    ),
    "invalid_range": (
        for_get(lambda *_: build_response(416, x_ms_error_code="InvalidRange")),
        "source_short",
        1,
    ),
    "permission_mismatch": (
        lambda _: build_response(403, x_ms_error_code="AuthorizationPermissionMismatch"),
        "source_forbidden",
        1,
    ),
    "unauthorized": (
        lambda _: build_response(401, x_ms_error_code="NoAuthenticationInformation"),
        "source_forbidden",
        1,
    ),
    "bad_request": (
        lambda _: build_response(400, x_ms_error_code="InvalidQueryParameterValue"),
        "source_forbidden",
        1,
    ),
    "huge_length": (
        lambda _: build_response(200, Content_Length=10**15, ETag='"0x1"'),
        "copy_failed",
        1,
    ),
    "length_of_many_digits": (
        lambda _: build_response(200, Content_Length="9" * 5000, ETag='"0x1"'),
        "source_unreachable",
        3,
    ),
    "negative_length": (
        lambda _: build_response(200, Content_Length=-1, ETag='"0x1"'),
        "source_unreachable",
        3,
    ),
    "chunked_body": (
        for_get(
            lambda *_: (
                b'HTTP/1.1 206 P\r\nETag: "0x1"\r\nTransfer-Encoding: chunked\r\n\r\n'
                + b"10000\r\n"
                + b"x" * 65536
                + b"\r\n"
            )
        ),
        "source_short",
        1,
    ),
    "body_longer_than_length": (
        for_get(lambda request, _: valid_response(request) + b"more" * 100_000),
        "source_unreachable",
        3,
    ),
    "invalid_error_code": (
        lambda _: build_response(
            400, x_ms_error_code=f"http://127.0.0.1/?sig={SECRET}", x_ms_request_id=SECRET + "&"
        ),
        "source_forbidden",
        1,
    ),
    "oversized_header": (
        lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        "source_unreachable",
        3,
    ),
    "authentication_failed": (
        lambda _: build_response(403, x_ms_error_code="AuthenticationFailed"),
        "source_sas_expired",
        2,
    ),
}


HEAD_CASES = {
    "head_redirect",
    "no_etag",
    "no_length",
    "huge_length",
    "length_of_many_digits",
    "negative_length",
}


@pytest.mark.parametrize("case", INVALID_RESPONSES)
async def test_copy_blobs_invalid_source_response_fails_with_code(
    source: HostileSource, case: str
) -> None:
    respond, code, tries = INVALID_RESPONSES[case]
    result, _ = await source.copy(respond, mode="server" if case in HEAD_CASES else "stream")
    assert (result.proven, result.code, result.tries, result.retry_after_seconds) == (
        False,
        code,
        tries,
        0,
    )
    assert source.manifest_fetches == (
        2 if case == "authentication_failed" else 1
    ) and SECRET not in repr(result)


@pytest.mark.parametrize("mode", ["stream", "server"])
async def test_copy_blobs_gzip_bomb_is_not_landed(transfer: AzuriteTransfer, mode: str) -> None:
    """The file contains 80 MB of empty lines in 80 KB; the ratio for real data is 10 to 50.

    The ratio is verified after 64 MB.
    """
    await transfer.put_source("a.json.gz", gzip.compress(b"\n" * 80_000_000, 9))
    result = await transfer.copy_blob("a.json.gz", mode=mode)
    assert (result.code, result.proven) == ("proof_bomb", False) and await transfer.landing.list(
        FOLDER
    ) == []


@pytest.mark.parametrize(
    ("status", "header", "min_seconds", "max_seconds"),
    [
        (503, "7", 7, 7),
        (429, "12", 12, 12),
        (500, None, 0, 0),
        (503, "soon", 0, 0),
        (503, "tomorrow", 80_000, 86_400),  # replaced by an HTTP date in the test
    ],
)
@pytest.mark.parametrize("where", ["HEAD", "GET"])
async def test_copy_blobs_busy_source_returns_retry_after(
    source: HostileSource,
    status: int,
    header: str | None,
    min_seconds: int,
    max_seconds: int,
    where: str,
) -> None:
    if header == "tomorrow":
        header = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    response = build_response(
        status,
        b"" if where == "HEAD" else b"<xml>",
        Retry_After=header,
        x_ms_error_code="ServerBusy",
    )
    result, requests = await source.copy(
        lambda request: response if request.method == where else valid_response(request),
        mode="server" if where == "HEAD" else "stream",
    )
    assert (
        result.code == "storage_busy" and min_seconds <= result.retry_after_seconds <= max_seconds
    )
    # aiohttp repeats a request once if the server closes the connection.
    assert len(requests) in (1, 2)


async def test_server_side_copy_source_unreadable_for_storage_is_streamed_for_rest_of_run(
    source: HostileSource,
) -> None:
    """Azurite does not read from other servers, like an account with a firewall or a copy scope."""
    results, requests = await source.copy_all(valid_response, ["a.gz", "b.gz"], mode="server")
    source.expects_blobs = True
    assert all(result.proven and result.copy_method == "stream" for result in results)
    # No server-side copy is attempted for the second blob.
    methods = sorted(request.method for request in requests[-4:])
    assert methods == ["GET", "GET", "HEAD", "HEAD"]


class ScriptedLandingAccount:
    """A landing account without blobs that returns scripted responses to writes."""

    def __init__(self, *writes: bytes) -> None:
        self.writes = list(writes)

    def __call__(self, request: RawRequest) -> bytes:
        if request.method == "GET":
            return build_response(
                200,
                b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>",
                Content_Type="application/xml",
            )
        if request.method == "HEAD":
            return build_response(404, x_ms_error_code="BlobNotFound")
        return self.writes.pop(0)


@pytest.mark.parametrize(
    ("writes", "code", "wait", "puts"),
    [
        ([build_response(503, x_ms_error_code="ServerBusy", Retry_After=9)], "storage_busy", 9, 1),
        (
            [build_response(307, Location="http://127.0.0.1:9/x")] * 3,
            "destination_unreachable",
            0,
            3,
        ),
        # aiohttp repeats a request once if the server closes the connection.
        (
            [b""] * 6,
            "destination_unreachable",
            0,
            6,
        ),
        (
            [build_response(403, x_ms_error_code="AuthorizationPermissionMismatch")],
            "destination_forbidden",
            0,
            1,
        ),
        (
            [build_response(409, x_ms_error_code="MemoryExtentStoreAtSizeLimit")],
            "destination_full",
            0,
            1,
        ),
        ([build_response(400, x_ms_error_code="Md5Mismatch")] * 3, "destination_unreachable", 0, 3),
        ([build_response(418, x_ms_error_code="Teapot")], "copy_failed", 0, 1),
    ],
)
async def test_copy_blobs_landing_error_response_fails_with_code(
    writes: list[bytes], code: str, wait: int, puts: int
) -> None:
    async with RawHttpServer(ScriptedLandingAccount(*writes)) as account:
        landing = LandingStore(
            container="c",
            connection_string=f"AccountName=a;AccountKey=a2V5;BlobEndpoint={account.origin}/a;",
        )
        result, _ = await HostileSource(landing).copy(valid_response)
        await landing.close()
    assert (result.proven, result.code, result.retry_after_seconds) == (False, code, wait)
    assert sum(request.method == "PUT" for request in account.requests) == puts
    assert all(
        request.headers["if-none-match"] == "*"
        for request in account.requests
        if request.method == "PUT"
    )


async def test_copy_blobs_lost_put_response_is_verified_in_place(transfer: AzuriteTransfer) -> None:
    """The retried Put Blob request finds the blob that the first one wrote. It is then verified."""
    await transfer.put_source("a.json.gz", CONTENT)
    lost: list[Any] = []

    def before(request: Any) -> None:
        if request.http_request.method == "PUT" and not lost:
            lost.append(request.http_request)

    def after(response: Any) -> None:
        if lost and response.http_request is lost[0]:
            raise ConnectionResetError

    transfer.before_landing_request, transfer.after_landing_response = before, after
    result = await transfer.copy_blob("a.json.gz")
    assert (
        result.proven
        and result.copy_method == "in_place"
        and result.tries == 2
        and transfer.landing_requests.count("PUT") == 2
    )
