"""The rungs on which the landing account fetches a blob itself, against the answers that the documents describe."""

import gzip
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.transfer import server_side
from tests.integration.transfer.azurite_transfer import gzip_members, json_rows
from tests.integration.transfer.in_memory_transfer import (
    BLOCK,
    NAME,
    SECRET,
    SMALL,
    InMemoryTransfer,
)
from tests.support.fake_storage_account import NOTHING, Request, error, md5_of, of_source

LARGE = gzip_members(3 * BLOCK)


@pytest.fixture
async def transfer(caplog: pytest.LogCaptureFixture) -> AsyncIterator[InMemoryTransfer]:
    caplog.set_level(logging.WARNING)
    async with InMemoryTransfer() as transfer:
        yield transfer
    assert SECRET not in caplog.text and "127.0.0.1" not in caplog.text


def on(kind: str, said: bytes, *, from_nth: int = 1, to_nth: int = 10**9) -> Any:
    return lambda request: (
        said if request.kind == kind and from_nth <= request.nth <= to_nth else b""
    )


async def test_one_request_copies_a_whole_blob(transfer: InMemoryTransfer) -> None:
    """And it carries all that makes it safe: nothing overwritten, the pinned source, our marks, no property of the source's."""
    source = transfer.put_source(content=LARGE, Content_Encoding="gzip", Content_Type="text/plain")
    (result,) = await transfer.copy(mode="server", proof="transfer")
    assert (result.proven, result.copy_method, result.transferred, result.tries) == (
        True,
        "put_blob_from_url",
        True,
        1,
    )
    assert transfer.landing.kinds() == [
        "LIST",
        "PUT from URL",
        "HEAD",
    ] and transfer.source.kinds() == ["HEAD"]
    sent = transfer.landing.log[1].asked.headers
    assert (sent["if-none-match"], sent["x-ms-source-if-match"]) == ("*", source.etag)
    assert sent["x-ms-copy-source-blob-properties"] == "false" and sent[
        "x-ms-source-content-md5"
    ] == md5_of(LARGE)
    assert sent["content-length"] == "0" and sent["x-ms-meta-runid"] == "run-1"
    landed = transfer.get_landed()
    assert landed is not None and landed.content == LARGE and result.destination_etag == landed.etag
    assert landed.properties == {"Content-Type": "application/gzip", "Content-MD5": md5_of(LARGE)}


async def test_a_content_proof_reads_the_landed_blob_back(transfer: InMemoryTransfer) -> None:
    transfer.put_source()
    (result,) = await transfer.copy(mode="server")
    assert (result.proven, result.rows, result.copy_method) == (True, 200, "put_blob_from_url")
    assert transfer.source.sent == 0 and transfer.landing.sent == len(SMALL)


@pytest.mark.parametrize("md5", [True, False])
@pytest.mark.parametrize(
    ("refused", "copy_method"),
    [
        ([], "put_blob_from_url"),
        (["PUT from URL"], "put_block_from_url"),
        (["PUT from URL", "PUT block from URL"], "copy_blob_from_url"),
        (["PUT from URL", "PUT block from URL", "COPY"], "stream"),
    ],
)
async def test_every_rung_lands_the_same(
    transfer: InMemoryTransfer, refused: list[str], copy_method: str, md5: bool
) -> None:
    transfer.put_source(content=LARGE, md5=md5, Content_Encoding="gzip")
    transfer.landing.faults = [on(kind, error(501, "APINotImplemented")) for kind in refused]
    (result,) = await transfer.copy(mode="server")
    landed = transfer.get_landed()
    assert (result.code, result.copy_method, result.rows) == (
        None,
        copy_method,
        4000 * (len(LARGE) // len(gzip_members(1))),
    )
    assert landed is not None and landed.content == LARGE and landed.etag == result.destination_etag
    assert landed.properties == {"Content-Type": "application/gzip", "Content-MD5": md5_of(LARGE)}
    assert (landed.metadata["runid"], landed.metadata["manifestetag"]) == ("run-1", "etag")
    assert bool(result.detail) == (copy_method == "stream")


@pytest.mark.parametrize(
    "said", [error(501, "APINotImplemented"), error(500, None), error(405, "UnsupportedHttpVerb")]
)
async def test_what_the_service_does_not_know_is_asked_once_a_run(
    transfer: InMemoryTransfer, said: bytes
) -> None:
    """The emulator says 501, or 500 and nothing; the run remembers, another run asks again."""
    transfer.landing.faults = [on("PUT from URL", said)]
    for n in range(3):
        transfer.put_source(f"{n}.json.gz")
        (result,) = await transfer.copy([f"{n}.json.gz"], mode="server")
        assert result.copy_method == "put_block_from_url"
    assert transfer.landing.kinds().count("PUT from URL") == 1
    transfer.put_source("4.json.gz")
    await transfer.copy(["4.json.gz"], mode="server", run_id="run-2")
    assert transfer.landing.kinds().count("PUT from URL") == 2


async def test_what_is_refused_for_one_blob_is_tried_for_the_next(
    transfer: InMemoryTransfer,
) -> None:
    transfer.landing.faults = [on("PUT from URL", error(400, "UnsupportedHeader"), to_nth=1)]
    for name, copy_method in (("a.gz", "put_block_from_url"), ("b.gz", "put_blob_from_url")):
        transfer.put_source(name)
        assert (await transfer.copy([name], mode="server"))[0].copy_method == copy_method


async def test_limits_of_the_rungs_are_kept(
    transfer: InMemoryTransfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_side, "MAX_PUT_BLOB_BYTES", 1)
    monkeypatch.setattr(server_side, "MAX_COPY_BLOB_BYTES", len(SMALL))
    async with InMemoryTransfer() as small:
        small.put_source()
        small.put_source("more.gz", SMALL + SMALL)
        small.landing.faults = [on("PUT block from URL", error(501, "APINotImplemented"))]
        assert [
            result.copy_method for result in await small.copy([NAME, "more.gz"], mode="server")
        ] == [
            "copy_blob_from_url",
            "stream",
        ]
        assert "PUT from URL" not in small.landing.kinds()


async def test_a_blob_of_no_bytes_is_not_fetched(transfer: InMemoryTransfer) -> None:
    transfer.put_source(content=b"")
    assert (await transfer.copy(mode="server"))[0].copy_method == "stream"


BLOCKED = {
    "a network in between": of_source(403, "AuthorizationFailure"),
    "without its headers": error(403, "CannotVerifyCopySource"),
    "not found from there": error(404, "CannotVerifyCopySource"),
    "a permitted scope for copies": error(403, "AuthorizationFailure"),
}


@pytest.mark.parametrize("copy_method", ["PUT from URL", "PUT block from URL", "COPY"])
@pytest.mark.parametrize("why", BLOCKED)
async def test_what_storage_cannot_read_is_streamed_and_said(
    transfer: InMemoryTransfer,
    caplog: pytest.LogCaptureFixture,
    why: str,
    copy_method: str,
) -> None:
    """One direct look decides: this process reads it with the same signature. The rest of the run is streamed at once."""
    before = ["PUT from URL", "PUT block from URL", "COPY"]
    transfer.landing.faults = [
        on(kind, error(501, "APINotImplemented")) for kind in before[: before.index(copy_method)]
    ]
    transfer.landing.faults.append(on(copy_method, BLOCKED[why]))
    for name in ("a.gz", "b.gz"):
        transfer.put_source(name)
        (result,) = await transfer.copy([name], mode="server")
        assert (
            result.proven
            and result.copy_method == "stream"
            and "could not read the source by itself" in result.detail
        )
    assert transfer.landing.kinds().count(copy_method) == 1 and transfer.source.kinds() == [
        "HEAD",
        "HEAD",
        "GET",
        "HEAD",
        "GET",
    ]
    assert "permitted scope" in caplog.text


async def test_a_signature_that_has_ended_is_renewed_and_the_rung_goes_on(
    transfer: InMemoryTransfer,
) -> None:
    transfer.signatures = ["old", "new"]
    transfer.source.signature = "old"
    transfer.put_source()

    def ends(request: Request) -> bytes:
        if request.kind == "PUT from URL":
            transfer.source.signature = "new"
        return b""

    transfer.landing.faults = [ends]
    (result,) = await transfer.copy(mode="server")
    assert result.proven and result.copy_method == "put_blob_from_url" and transfer.fetches == 2
    assert transfer.landing.kinds().count("PUT from URL") == 2 and transfer.landing.fetched == len(
        SMALL
    )


@pytest.mark.parametrize("fetched_block", [BLOCK, 10**9])
async def test_a_source_that_changed_is_never_landed(fetched_block: int) -> None:
    async with InMemoryTransfer(server_side_block=fetched_block) as transfer:
        transfer.put_source(content=LARGE)
        if fetched_block == BLOCK:
            transfer.landing.faults = [on("PUT from URL", error(501, "APINotImplemented"))]

        def replaced(request: Request) -> bytes:
            if (request.kind, request.nth) == (
                ("PUT from URL", 1) if fetched_block > BLOCK else ("PUT block from URL", 2)
            ):
                transfer.put_source(content=LARGE[:-1] + b"x")
            return b""

        transfer.landing.faults.append(replaced)
        (result,) = await transfer.copy(mode="server")
        assert (result.code, transfer.get_landed()) == ("source_changed", None)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (of_source(404, "BlobNotFound"), "source_missing"),
        (error(412, "SourceConditionNotMet"), "source_changed"),
        (error(400, "Md5Mismatch"), "proof_md5"),
        (error(412, "LeaseIdMissing"), "destination_forbidden"),
        (error(404, "ContainerNotFound"), "destination_missing"),
        (error(409, "BlobImmutableDueToPolicy"), "destination_full"),
        (error(400, "InvalidHeaderValue"), "copy_failed"),
        (of_source(503, "ServerBusy", 409), "storage_busy"),
        (error(503, "ServerBusy"), "storage_busy"),
        (NOTHING, "destination_unreachable"),
    ],
)
async def test_what_ends_a_copy(transfer: InMemoryTransfer, said: bytes, code: str) -> None:
    transfer.put_source()

    def fault(request: Request) -> bytes:
        if request.kind == "PUT from URL":
            if code == "source_missing":
                transfer.source.blobs.clear()
            return said
        return b""

    transfer.landing.faults = [fault]
    (result,) = await transfer.copy(mode="server")
    assert (result.proven, result.code, transfer.get_landed()) == (
        False,
        code,
        None,
    ) and transfer.source.sent == 0


async def test_a_busy_source_is_asked_again_by_storage(transfer: InMemoryTransfer) -> None:
    transfer.put_source()
    transfer.landing.faults = [on("PUT from URL", of_source(503, "ServerBusy", 409), to_nth=2)]
    (result,) = await transfer.copy(mode="server")
    assert (
        result.proven
        and result.tries == 3
        and len(transfer.clock.slept) == 2
        and transfer.limiter.limit < 8
    )


async def test_a_copy_whose_answer_is_lost_is_found_done(transfer: InMemoryTransfer) -> None:
    transfer.put_source()

    def lost(request: Request) -> bytes:
        if request.kind != "PUT from URL" or request.nth > 1:
            return b""
        transfer.landing.serve(request)
        return NOTHING

    transfer.landing.faults = [lost]
    (result,) = await transfer.copy(mode="server")
    assert (
        result.proven
        and transfer.landing.fetched == len(SMALL)
        and transfer.landing.kinds().count("PUT from URL") == 2
    )


async def test_a_copy_that_only_began_is_not_a_copy(transfer: InMemoryTransfer) -> None:
    """The asynchronous copy of other tools (azure-sdk-for-python 23843): a blob that is there, and will be something one day."""
    transfer.put_source()
    transfer.landing.faults = [
        on("PUT from URL", error(501, None)),
        on("PUT block from URL", error(501, None)),
    ]

    def begun(request: Request) -> None:
        if request.kind == "COPY":
            landed = transfer.get_landed()
            assert landed is not None
            landed.properties |= {"x-ms-copy-status": "pending", "x-ms-copy-id": "1"}

    transfer.landing.after = begun
    (result,) = await transfer.copy(mode="server")
    assert (result.code, transfer.get_landed()) == ("proof_size", None)


async def test_properties_are_mended_where_a_copy_was_cut_off_before_it_set_them(
    transfer: InMemoryTransfer,
) -> None:
    transfer.put_source()
    (first,) = await transfer.copy()
    landed = transfer.get_landed()
    assert landed is not None
    landed.properties = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    (result,) = await transfer.copy(run_id="run-2")
    assert (
        result.proven
        and not result.transferred
        and result.destination_etag != first.destination_etag
    )
    assert landed.properties == {"Content-Type": "application/gzip", "Content-MD5": md5_of(SMALL)}


async def test_a_damaged_blob_that_storage_fetched_is_removed_again(
    transfer: InMemoryTransfer,
) -> None:
    transfer.put_source(content=gzip.compress(json_rows(9))[:-2])
    (result,) = await transfer.copy(mode="server")
    assert (result.code, transfer.get_landed()) == (
        "proof_gzip",
        None,
    ) and transfer.landing.kinds()[-1] == "DELETE"


async def test_a_small_blob_costs_two_requests_and_a_run_one_listing(
    transfer: InMemoryTransfer,
) -> None:
    for n in range(5):
        transfer.put_source(f"{n}.json.gz")
    results = await transfer.copy([f"{n}.json.gz" for n in range(3)])
    results += await transfer.copy([f"{n}.json.gz" for n in range(3, 5)])
    assert all(result.proven and result.tries == 1 for result in results)
    assert transfer.source.kinds() == ["GET"] * 5 and sorted(transfer.landing.kinds()) == [
        "LIST",
        *["PUT"] * 5,
    ]


async def test_a_batch_that_is_repeated_looks_before_it_copies(transfer: InMemoryTransfer) -> None:
    """Its answer was lost, and no row was written: nothing is sent a second time, by this process or another."""
    transfer.put_source()
    await transfer.copy()
    (again,) = await transfer.copy()
    assert (again.proven, again.copy_method, again.transferred) == (True, "in_place", False)
    transfer.copier._folders._known.clear()  # as another process
    (again,) = await transfer.copy()
    assert (again.proven, again.copy_method) == (
        True,
        "in_place",
    ) and transfer.landing.kinds().count("PUT") == 1
