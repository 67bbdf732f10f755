"""Answers that no storage should give. Whatever comes, a blob has one fate with a code, and no signature is told."""

import gzip
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from shared.clock import SystemClock
from shared.landing.store import LandingStore
from shared.manifest import Manifest
from shared.transfer import concurrency_limiter
from shared.transfer.copier import BlobResult, Copier, TransferRequest
from shared.transfer.limits import BLOCK
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.source_reader import SourceReader
from tests.integration.transfer.azurite_transfer import (
    FOLDER,
    AzuriteTransfer,
    json_rows,
    md5_base64,
)
from tests.support.raw_http_server import Answer, Asked, Double, answer

DATA = gzip.compress(json_rows(3000))
SECRET = "s3cr3tSignature"
Respond = Callable[[Asked], Answer]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency_limiter, "UNAVAILABLE_RETRY_SECONDS", (0, 0))
    monkeypatch.setattr(concurrency_limiter, "THROTTLED_RETRY_SECONDS", ())


def good(asked: Asked) -> bytes:
    if asked.method == "HEAD":
        return answer(200, Content_Length=len(DATA), ETag='"0x1"', Content_MD5=md5_base64(DATA))
    start, end = asked.span
    end = min(end, len(DATA) - 1)
    return answer(
        206,
        DATA[start : end + 1],
        ETag='"0x1"',
        Content_Range=f"bytes {start}-{end}/{len(DATA)}",
        x_ms_blob_content_md5=md5_base64(DATA),
    )


def first_range(total: object, **more: object) -> bytes:
    """An answer to the first range that says so of the whole; the bytes are nine."""
    return answer(206, DATA[:9], **{"Content_Range": f"bytes 0-8/{total}", "ETag": '"0x1"', **more})


def breaks_then(then: Callable[[Asked], bytes]) -> Respond:
    """The first answer breaks off; what is asked for then is the rest."""
    return on_get(lambda asked, number: good(asked)[:-10] if number == 1 else then(asked))


def on_get(said: Callable[[Asked, int], Answer]) -> Respond:
    """A good HEAD; GETs by their number, from 1."""
    number = 0

    def respond(asked: Asked) -> Answer:
        nonlocal number
        if asked.method == "HEAD":
            return good(asked)
        number += 1
        return said(asked, number)

    return respond


class Stand:
    """A copier that reads from a double and writes to the emulator, or to a double as well."""

    def __init__(self, landing: LandingStore) -> None:
        self.landing, self.fetches, self.landed = landing, 0, False

    async def land(self, respond: Respond, **settings: Any) -> tuple[BlobResult, list[Asked]]:
        (result,), asked = await self.land_all(respond, ["a=1/b.json.gz"], **settings)
        return result, asked

    async def land_all(
        self, respond: Respond, names: list[str], **settings: Any
    ) -> tuple[list[BlobResult], list[Asked]]:
        """One after another."""
        async with Double(respond) as double:
            root = f"{double.origin}/billing/c/root"

            async def fetch_manifest(operation_id: str) -> Manifest:
                self.fetches += 1
                sas = f"se=2099-01-01T00%3A00%3A00Z&sig={SECRET}{self.fetches}%2B%2F"
                return Manifest("1", "e", datetime.now(UTC), "2", "t", root, (), 0, sas)

            clock = SystemClock()
            sources = ManifestCache(fetch_manifest, clock, min_fetch_interval_seconds=0)
            copier = Copier(
                self.landing, sources, clock, reader=SourceReader(sources, clock, idle_seconds=0.3)
            )
            work = TransferRequest("run", "operation", FOLDER, "e", root, **settings)
            results = [
                result for name in names for result in await copier.copy_blobs(work, [name], {})
            ]
            await copier.close()
            return results, double.asked


@pytest.fixture
async def stand(
    azurite: Azurite, container: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Stand]:
    caplog.set_level(logging.WARNING)
    landing = LandingStore(container=container, connection_string=azurite.landing.connection_string)
    await landing.ensure_container()
    stand = Stand(landing)
    yield stand
    assert await landing.list("data") == [] or stand.landed
    await landing.close()
    assert SECRET not in caplog.text and "127.0.0.1" not in caplog.text


async def test_a_plain_read(stand: Stand) -> None:
    result, asked = await stand.land(good)
    stand.landed = True
    assert result.proven and result.tries == 1 and [one.method for one in asked] == ["GET"]
    assert (
        asked[0].target
        == f"/billing/c/root/a%3D1/b.json.gz?se=2099-01-01T00%3A00%3A00Z&sig={SECRET}1%2B%2F"
    )
    assert (
        "authorization" not in asked[0].headers
        and asked[0].headers["accept-encoding"] == "identity"
    )
    assert asked[0].headers["range"] == "bytes=0-8388607" and SECRET not in repr(result)


async def test_a_connection_that_breaks_is_taken_up_where_it_broke(stand: Stand) -> None:
    def breaks(asked: Asked, number: int) -> bytes:
        left = len(DATA) - asked.span[0]
        return good(asked) if number == 3 else good(asked)[: -(left // 2)]

    result, asked = await stand.land(on_get(breaks))
    stand.landed = True
    starts = [one.span[0] for one in asked]
    assert result.proven and result.tries == 3 and starts[0] == 0 < starts[1] < starts[2]
    assert [one.headers.get("if-match") for one in asked] == [None, '"0x1"', '"0x1"']


CASES: dict[str, tuple[Respond, str, int]] = {
    # answer, code, tries
    "always short": (on_get(lambda asked, _: good(asked)[:-10]), "source_short", 3),
    "no Content-Range": (
        on_get(lambda asked, _: answer(206, DATA, ETag='"0x1"')),
        "source_short",
        1,
    ),
    "another total": (
        on_get(
            lambda asked, _: answer(
                206, DATA, Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA) + 1}"
            )
        ),
        "source_short",
        1,
    ),
    "another range": (
        on_get(
            lambda asked, _: answer(206, DATA, Content_Range=f"bytes 1-{len(DATA)}/{len(DATA)}")
        ),
        "source_short",
        1,
    ),
    "no range at all": (
        on_get(lambda asked, _: answer(200, DATA, ETag='"0x1"')),
        "source_short",
        1,
    ),
    "less than the range": (
        on_get(
            lambda asked, _: answer(
                206, DATA[:9], Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
            )
        ),
        "source_short",
        1,
    ),
    "another ETag": (
        breaks_then(lambda asked: good(asked).replace(b'"0x1"', b'"0x2"')),
        "source_changed",
        2,
    ),
    "another range of the rest": (
        breaks_then(
            lambda asked: answer(
                206, DATA, ETag='"0x1"', Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"
            )
        ),
        "source_short",
        2,
    ),
    "no ETag of a range": (lambda _: first_range(9, ETag=None), "source_unreachable", 3),
    "an endless total": (
        lambda _: answer(
            206, b"x" * BLOCK, ETag='"0x1"', Content_Range=f"bytes 0-{BLOCK - 1}/{10**15}"
        ),
        "copy_failed",
        1,
    ),
    "a total of many digits": (lambda _: first_range("9" * 5000), "source_short", 1),
    "a total below zero": (lambda _: first_range(-9), "source_short", 1),
    "less than there is of a small one": (lambda _: first_range(10), "source_short", 1),
    "other bytes": (
        on_get(lambda asked, _: good(asked)[: -len(DATA)] + DATA[:-1] + b"x"),
        "proof_gzip",
        1,
    ),
    "redirect of HEAD": (
        lambda _: answer(302, Location="http://127.0.0.1:9/elsewhere"),
        "source_redirected",
        1,
    ),
    "redirect of GET": (
        on_get(lambda *_: answer(307, Location="http://127.0.0.1:9/elsewhere")),
        "source_redirected",
        1,
    ),
    "bad gateway": (on_get(lambda *_: answer(502, b"<html>")), "source_unreachable", 3),
    "not HTTP": (on_get(lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n"), "source_unreachable", 3),
    "nothing": (on_get(lambda *_: b""), "source_unreachable", 3),
    "silence": (on_get(lambda *_: None), "source_unreachable", 3),
    "no ETag": (lambda _: answer(200, Content_Length=9), "source_unreachable", 3),
    "no length": (
        lambda _: answer(200, Content_Length=None, ETag='"0x1"'),
        "source_unreachable",
        3,
    ),
    "not found": (lambda _: answer(404, x_ms_error_code="BlobNotFound"), "source_missing", 1),
    "changed": (
        on_get(lambda *_: answer(412, x_ms_error_code="ConditionNotMet")),
        "source_changed",
        1,
    ),
    "shorter now": (
        on_get(lambda *_: answer(416, x_ms_error_code="InvalidRange")),
        "source_short",
        1,
    ),
    "no right": (
        lambda _: answer(403, x_ms_error_code="AuthorizationPermissionMismatch"),
        "source_forbidden",
        1,
    ),
    "unauthorized": (
        lambda _: answer(401, x_ms_error_code="NoAuthenticationInformation"),
        "source_forbidden",
        1,
    ),
    "a wrong request": (
        lambda _: answer(400, x_ms_error_code="InvalidQueryParameterValue"),
        "source_forbidden",
        1,
    ),
    "an endless length": (
        lambda _: answer(200, Content_Length=10**15, ETag='"0x1"'),
        "copy_failed",
        1,
    ),
    "a length of many digits": (
        lambda _: answer(200, Content_Length="9" * 5000, ETag='"0x1"'),
        "source_unreachable",
        3,
    ),
    "a length below zero": (
        lambda _: answer(200, Content_Length=-1, ETag='"0x1"'),
        "source_unreachable",
        3,
    ),
    "a body without a length": (
        on_get(
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
    "more body than its length": (
        on_get(lambda asked, _: good(asked) + b"more" * 100_000),
        "source_unreachable",
        3,
    ),
    "an error code that is a text": (
        lambda _: answer(
            400, x_ms_error_code=f"http://127.0.0.1/?sig={SECRET}", x_ms_request_id=SECRET + "&"
        ),
        "source_forbidden",
        1,
    ),
    "headers without end": (
        lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        "source_unreachable",
        3,
    ),
    "signature refused": (
        lambda _: answer(403, x_ms_error_code="AuthenticationFailed"),
        "source_sas_expired",
        2,
    ),
}


LOOKS = {
    "redirect of HEAD",
    "no ETag",
    "no length",
    "an endless length",
    "a length of many digits",
    "a length below zero",
}


@pytest.mark.parametrize("case", CASES)
async def test_an_answer_that_is_no_good(stand: Stand, case: str) -> None:
    """To the look that comes before a copy by storage, or to a read."""
    respond, code, tries = CASES[case]
    result, _ = await stand.land(respond, mode="server" if case in LOOKS else "stream")
    assert (result.proven, result.code, result.tries, result.retry_after_seconds) == (
        False,
        code,
        tries,
        0,
    )
    assert stand.fetches == (2 if case == "signature refused" else 1) and SECRET not in repr(result)


@pytest.mark.parametrize("mode", ["stream", "server"])
async def test_a_gzip_bomb_is_given_up_and_nothing_of_it_is_left(
    transfer: AzuriteTransfer, mode: str
) -> None:
    """80 MB of empty lines in 80 KB; real lines pack 10 to 50 times, and 64 MB of anything are unpacked before it is judged."""
    await transfer.put_source("a.json.gz", gzip.compress(b"\n" * 80_000_000, 9))
    result = (await transfer.copy(["a.json.gz"], mode=mode))["a.json.gz"]
    assert (result.code, result.proven) == ("proof_bomb", False) and await transfer.landing.list(
        FOLDER
    ) == []


@pytest.mark.parametrize(
    ("status", "header", "least", "most"),
    [
        (503, "7", 7, 7),
        (429, "12", 12, 12),
        (500, None, 0, 0),
        (503, "soon", 0, 0),
        (
            503,
            (datetime.now(UTC) + timedelta(days=1)).strftime("%a, %d %b %Y %H:%M:%S GMT"),
            80_000,
            86_400,
        ),
    ],
)
@pytest.mark.parametrize("where", ["HEAD", "GET"])
async def test_a_busy_source_names_its_wait(
    stand: Stand,
    status: int,
    header: str | None,
    least: int,
    most: int,
    where: str,
) -> None:
    said = answer(
        status,
        b"" if where == "HEAD" else b"<xml>",
        Retry_After=header,
        x_ms_error_code="ServerBusy",
    )
    result, asked = await stand.land(
        lambda asked: said if asked.method == where else good(asked),
        mode="server" if where == "HEAD" else "stream",
    )
    assert result.code == "storage_busy" and least <= result.retry_after_seconds <= most
    assert len(asked) - 1 in (
        0,
        1,
    )  # the HTTP library itself repeats once what a closed connection swallowed


async def test_what_the_landing_account_cannot_read_is_streamed_and_remembered(
    stand: Stand,
) -> None:
    """The emulator fetches from no other server: as an account behind a firewall, or with a copy scope, would not."""
    results, asked = await stand.land_all(good, ["a.gz", "b.gz"], mode="server")
    stand.landed = True
    assert all(result.proven and result.copy_method == "stream" for result in results)
    assert sorted(one.method for one in asked[-4:]) == [
        "GET",
        "GET",
        "HEAD",
        "HEAD",
    ]  # no fetch is tried for the second


class Target:
    """A landing account that answers by script; what is put is kept."""

    def __init__(self, *writes: bytes) -> None:
        self.writes, self.metadata = (
            list(writes),
            {"HEAD": answer(404, x_ms_error_code="BlobNotFound")},
        )

    def __call__(self, asked: Asked) -> bytes:
        if asked.method == "GET":
            return answer(
                200,
                b"<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>",
                Content_Type="application/xml",
            )
        return self.metadata["HEAD"] if asked.method == "HEAD" else self.writes.pop(0)


@pytest.mark.parametrize(
    ("writes", "code", "wait", "puts"),
    [
        ([answer(503, x_ms_error_code="ServerBusy", Retry_After=9)], "storage_busy", 9, 1),
        ([answer(307, Location="http://127.0.0.1:9/x")] * 3, "destination_unreachable", 0, 3),
        (
            [b""] * 6,
            "destination_unreachable",
            0,
            6,
        ),  # the HTTP library itself repeats once what a closed connection swallowed
        (
            [answer(403, x_ms_error_code="AuthorizationPermissionMismatch")],
            "destination_forbidden",
            0,
            1,
        ),
        ([answer(409, x_ms_error_code="MemoryExtentStoreAtSizeLimit")], "destination_full", 0, 1),
        ([answer(400, x_ms_error_code="Md5Mismatch")] * 3, "destination_unreachable", 0, 3),
        ([answer(418, x_ms_error_code="Teapot")], "copy_failed", 0, 1),
    ],
)
async def test_a_landing_account_that_refuses(
    writes: list[bytes], code: str, wait: int, puts: int
) -> None:
    async with Double(Target(*writes)) as target:
        landing = LandingStore(
            container="c",
            connection_string=f"AccountName=a;AccountKey=a2V5;BlobEndpoint={target.origin}/a;",
        )
        result, _ = await Stand(landing).land(good)
        await landing.close()
    assert (result.proven, result.code, result.retry_after_seconds) == (False, code, wait)
    assert sum(one.method == "PUT" for one in target.asked) == puts
    assert all(one.headers["if-none-match"] == "*" for one in target.asked if one.method == "PUT")


async def test_a_write_whose_answer_is_lost_is_found_done(transfer: AzuriteTransfer) -> None:
    """The first Put Blob arrives, its answer does not; the second finds it there, and it is proven where it lies."""
    await transfer.put_source("a.json.gz", DATA)
    hook = transfer.landing._client_settings["raw_request_hook"]
    lost: list[Any] = []

    def before(request: Any) -> None:
        hook(request)
        if request.http_request.method == "PUT" and not lost:
            lost.append(request)

    def after(response: Any) -> None:
        if lost and response.http_request is lost[0].http_request:
            raise ConnectionResetError

    transfer.landing._client_settings.update(raw_request_hook=before, raw_response_hook=after)
    result = (await transfer.copy(["a.json.gz"]))["a.json.gz"]
    assert (
        result.proven
        and result.copy_method == "in_place"
        and result.tries == 2
        and transfer.landing_requests.count("PUT") == 2
    )
