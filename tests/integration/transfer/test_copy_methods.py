"""The rungs on which the landing account fetches a blob itself, against the answers that the documents describe."""

import gzip
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.transfer import server_side
from tests.integration.transfer.azurite_copy import members, rows
from tests.integration.transfer.in_memory_copy import BLOCK, NAME, SECRET, SMALL, Scene
from tests.support.fake_storage_account import NOTHING, Request, error, md5_of, of_source

LARGE = members(3 * BLOCK)


@pytest.fixture
async def scene(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Scene]:
    caplog.set_level(logging.WARNING)
    async with Scene() as scene:
        yield scene
    assert SECRET not in caplog.text and "127.0.0.1" not in caplog.text


def on(kind: str, said: bytes, *, from_nth: int = 1, to_nth: int = 10**9) -> Any:
    return lambda request: (
        said if request.kind == kind and from_nth <= request.nth <= to_nth else b""
    )


async def test_one_request_copies_a_whole_blob(scene: Scene) -> None:
    """And it carries all that makes it safe: nothing overwritten, the pinned source, our marks, no property of the source's."""
    source = scene.offer(content=LARGE, Content_Encoding="gzip", Content_Type="text/plain")
    (result,) = await scene.land(mode="server", proof="transfer")
    assert (result.proven, result.copy_method, result.transferred, result.tries) == (
        True,
        "put_blob_from_url",
        True,
        1,
    )
    assert scene.landing.kinds() == ["LIST", "PUT from URL", "HEAD"] and scene.source.kinds() == [
        "HEAD"
    ]
    sent = scene.landing.log[1].asked.headers
    assert (sent["if-none-match"], sent["x-ms-source-if-match"]) == ("*", source.etag)
    assert sent["x-ms-copy-source-blob-properties"] == "false" and sent[
        "x-ms-source-content-md5"
    ] == md5_of(LARGE)
    assert sent["content-length"] == "0" and sent["x-ms-meta-runid"] == "run-1"
    landed = scene.landed()
    assert landed is not None and landed.content == LARGE and result.destination_etag == landed.etag
    assert landed.properties == {"Content-Type": "application/gzip", "Content-MD5": md5_of(LARGE)}


async def test_a_content_proof_reads_the_landed_blob_back(scene: Scene) -> None:
    scene.offer()
    (result,) = await scene.land(mode="server")
    assert (result.proven, result.rows, result.copy_method) == (True, 200, "put_blob_from_url")
    assert scene.source.sent == 0 and scene.landing.sent == len(SMALL)


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
    scene: Scene, refused: list[str], copy_method: str, md5: bool
) -> None:
    scene.offer(content=LARGE, md5=md5, Content_Encoding="gzip")
    scene.landing.faults = [on(kind, error(501, "APINotImplemented")) for kind in refused]
    (result,) = await scene.land(mode="server")
    landed = scene.landed()
    assert (result.code, result.copy_method, result.rows) == (
        None,
        copy_method,
        4000 * (len(LARGE) // len(members(1))),
    )
    assert landed is not None and landed.content == LARGE and landed.etag == result.destination_etag
    assert landed.properties == {"Content-Type": "application/gzip", "Content-MD5": md5_of(LARGE)}
    assert (landed.metadata["runid"], landed.metadata["manifestetag"]) == ("run-1", "etag")
    assert bool(result.detail) == (copy_method == "stream")


@pytest.mark.parametrize(
    "said", [error(501, "APINotImplemented"), error(500, None), error(405, "UnsupportedHttpVerb")]
)
async def test_what_the_service_does_not_know_is_asked_once_a_run(
    scene: Scene, said: bytes
) -> None:
    """The emulator says 501, or 500 and nothing; the run remembers, another run asks again."""
    scene.landing.faults = [on("PUT from URL", said)]
    for n in range(3):
        scene.offer(f"{n}.json.gz")
        (result,) = await scene.land([f"{n}.json.gz"], mode="server")
        assert result.copy_method == "put_block_from_url"
    assert scene.landing.kinds().count("PUT from URL") == 1
    scene.offer("4.json.gz")
    await scene.land(["4.json.gz"], mode="server", run_id="run-2")
    assert scene.landing.kinds().count("PUT from URL") == 2


async def test_what_is_refused_for_one_blob_is_tried_for_the_next(scene: Scene) -> None:
    scene.landing.faults = [on("PUT from URL", error(400, "UnsupportedHeader"), to_nth=1)]
    for name, copy_method in (("a.gz", "put_block_from_url"), ("b.gz", "put_blob_from_url")):
        scene.offer(name)
        assert (await scene.land([name], mode="server"))[0].copy_method == copy_method


async def test_limits_of_the_rungs_are_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_side, "MAX_PUT_BLOB_BYTES", 1)
    monkeypatch.setattr(server_side, "MAX_COPY_BLOB_BYTES", len(SMALL))
    async with Scene() as small:
        small.offer()
        small.offer("more.gz", SMALL + SMALL)
        small.landing.faults = [on("PUT block from URL", error(501, "APINotImplemented"))]
        assert [
            result.copy_method for result in await small.land([NAME, "more.gz"], mode="server")
        ] == [
            "copy_blob_from_url",
            "stream",
        ]
        assert "PUT from URL" not in small.landing.kinds()


async def test_a_blob_of_no_bytes_is_not_fetched(scene: Scene) -> None:
    scene.offer(content=b"")
    assert (await scene.land(mode="server"))[0].copy_method == "stream"


BLOCKED = {
    "a network in between": of_source(403, "AuthorizationFailure"),
    "without its headers": error(403, "CannotVerifyCopySource"),
    "not found from there": error(404, "CannotVerifyCopySource"),
    "a permitted scope for copies": error(403, "AuthorizationFailure"),
}


@pytest.mark.parametrize("copy_method", ["PUT from URL", "PUT block from URL", "COPY"])
@pytest.mark.parametrize("why", BLOCKED)
async def test_what_storage_cannot_read_is_streamed_and_said(
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    why: str,
    copy_method: str,
) -> None:
    """One direct look decides: this process reads it with the same signature. The rest of the run is streamed at once."""
    before = ["PUT from URL", "PUT block from URL", "COPY"]
    scene.landing.faults = [
        on(kind, error(501, "APINotImplemented")) for kind in before[: before.index(copy_method)]
    ]
    scene.landing.faults.append(on(copy_method, BLOCKED[why]))
    for name in ("a.gz", "b.gz"):
        scene.offer(name)
        (result,) = await scene.land([name], mode="server")
        assert (
            result.proven
            and result.copy_method == "stream"
            and "could not read the source by itself" in result.detail
        )
    assert scene.landing.kinds().count(copy_method) == 1 and scene.source.kinds() == [
        "HEAD",
        "HEAD",
        "GET",
        "HEAD",
        "GET",
    ]
    assert "permitted scope" in caplog.text


async def test_a_signature_that_has_ended_is_renewed_and_the_rung_goes_on(scene: Scene) -> None:
    scene.signatures = ["old", "new"]
    scene.source.signature = "old"
    scene.offer()

    def ends(request: Request) -> bytes:
        if request.kind == "PUT from URL":
            scene.source.signature = "new"
        return b""

    scene.landing.faults = [ends]
    (result,) = await scene.land(mode="server")
    assert result.proven and result.copy_method == "put_blob_from_url" and scene.fetches == 2
    assert scene.landing.kinds().count("PUT from URL") == 2 and scene.landing.fetched == len(SMALL)


@pytest.mark.parametrize("fetched_block", [BLOCK, 10**9])
async def test_a_source_that_changed_is_never_landed(fetched_block: int) -> None:
    async with Scene(server_side_block=fetched_block) as scene:
        scene.offer(content=LARGE)
        if fetched_block == BLOCK:
            scene.landing.faults = [on("PUT from URL", error(501, "APINotImplemented"))]

        def replaced(request: Request) -> bytes:
            if (request.kind, request.nth) == (
                ("PUT from URL", 1) if fetched_block > BLOCK else ("PUT block from URL", 2)
            ):
                scene.offer(content=LARGE[:-1] + b"x")
            return b""

        scene.landing.faults.append(replaced)
        (result,) = await scene.land(mode="server")
        assert (result.code, scene.landed()) == ("source_changed", None)


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
async def test_what_ends_a_copy(scene: Scene, said: bytes, code: str) -> None:
    scene.offer()

    def fault(request: Request) -> bytes:
        if request.kind == "PUT from URL":
            if code == "source_missing":
                scene.source.blobs.clear()
            return said
        return b""

    scene.landing.faults = [fault]
    (result,) = await scene.land(mode="server")
    assert (result.proven, result.code, scene.landed()) == (
        False,
        code,
        None,
    ) and scene.source.sent == 0


async def test_a_busy_source_is_asked_again_by_storage(scene: Scene) -> None:
    scene.offer()
    scene.landing.faults = [on("PUT from URL", of_source(503, "ServerBusy", 409), to_nth=2)]
    (result,) = await scene.land(mode="server")
    assert (
        result.proven
        and result.tries == 3
        and len(scene.clock.slept) == 2
        and scene.pressure.limit < 8
    )


async def test_a_copy_whose_answer_is_lost_is_found_done(scene: Scene) -> None:
    scene.offer()

    def lost(request: Request) -> bytes:
        if request.kind != "PUT from URL" or request.nth > 1:
            return b""
        scene.landing._serve(request)
        return NOTHING

    scene.landing.faults = [lost]
    (result,) = await scene.land(mode="server")
    assert (
        result.proven
        and scene.landing.fetched == len(SMALL)
        and scene.landing.kinds().count("PUT from URL") == 2
    )


async def test_a_copy_that_only_began_is_not_a_copy(scene: Scene) -> None:
    """The asynchronous copy of other tools (azure-sdk-for-python 23843): a blob that is there, and will be something one day."""
    scene.offer()
    scene.landing.faults = [
        on("PUT from URL", error(501, None)),
        on("PUT block from URL", error(501, None)),
    ]

    def begun(request: Request) -> None:
        if request.kind == "COPY":
            landed = scene.landed()
            assert landed is not None
            landed.properties |= {"x-ms-copy-status": "pending", "x-ms-copy-id": "1"}

    scene.landing.after = begun
    (result,) = await scene.land(mode="server")
    assert (result.code, scene.landed()) == ("proof_size", None)


async def test_properties_are_mended_where_a_copy_was_cut_off_before_it_set_them(
    scene: Scene,
) -> None:
    scene.offer()
    (first,) = await scene.land()
    landed = scene.landed()
    assert landed is not None
    landed.properties = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    (result,) = await scene.land(run_id="run-2")
    assert (
        result.proven
        and not result.transferred
        and result.destination_etag != first.destination_etag
    )
    assert landed.properties == {"Content-Type": "application/gzip", "Content-MD5": md5_of(SMALL)}


async def test_a_damaged_blob_that_storage_fetched_is_removed_again(scene: Scene) -> None:
    scene.offer(content=gzip.compress(rows(9))[:-2])
    (result,) = await scene.land(mode="server")
    assert (result.code, scene.landed()) == ("proof_gzip", None) and scene.landing.kinds()[
        -1
    ] == "DELETE"


async def test_a_small_blob_costs_two_requests_and_a_run_one_listing(scene: Scene) -> None:
    for n in range(5):
        scene.offer(f"{n}.json.gz")
    results = await scene.land([f"{n}.json.gz" for n in range(3)])
    results += await scene.land([f"{n}.json.gz" for n in range(3, 5)])
    assert all(result.proven and result.tries == 1 for result in results)
    assert scene.source.kinds() == ["GET"] * 5 and sorted(scene.landing.kinds()) == [
        "LIST",
        *["PUT"] * 5,
    ]


async def test_a_batch_that_is_repeated_looks_before_it_copies(scene: Scene) -> None:
    """Its answer was lost, and no row was written: nothing is sent a second time, by this process or another."""
    scene.offer()
    await scene.land()
    (again,) = await scene.land()
    assert (again.proven, again.copy_method, again.transferred) == (True, "in_place", False)
    scene.copier._folders._known.clear()  # as another process
    (again,) = await scene.land()
    assert (again.proven, again.copy_method) == (True, "in_place") and scene.landing.kinds().count(
        "PUT"
    ) == 1
