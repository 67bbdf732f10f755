"""Server-side copy methods, with the documented responses of the storage service."""

import gzip
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from shared.lines.newest_date import NO_DATE
from shared.transfer import server_side
from tests.integration.transfer.azurite_transfer import gzip_members, json_rows
from tests.integration.transfer.in_memory_transfer import (
    BLOCK_BYTES,
    NAME,
    SECRET,
    SMALL,
    InMemoryTransfer,
)
from tests.support.fake_storage_account import (
    CLOSE_CONNECTION,
    StorageRequest,
    base64_md5,
    copy_source_error,
    storage_error,
)

LARGE = gzip_members(3 * BLOCK_BYTES)


@pytest.fixture
async def transfer(caplog: pytest.LogCaptureFixture) -> AsyncIterator[InMemoryTransfer]:
    caplog.set_level(logging.WARNING)
    async with InMemoryTransfer() as transfer:
        yield transfer
    assert SECRET not in caplog.text and "127.0.0.1" not in caplog.text


def respond_to(
    kind: str, response: bytes, *, from_nth: int = 1, to_nth: int = 10**9
) -> Callable[[StorageRequest], bytes]:
    """Return a rule that returns a fixed response to requests of one kind."""
    return lambda request: (
        response if request.kind == kind and from_nth <= request.nth <= to_nth else b""
    )


async def test_server_side_copy_small_blob_sends_one_put_request(
    transfer: InMemoryTransfer,
) -> None:
    """The request does not overwrite a blob and requires the source ETag.

    It sets the app's metadata and does not copy the properties of the source.
    """
    source = transfer.put_source(content=LARGE, Content_Encoding="gzip", Content_Type="text/plain")
    (result,) = await transfer.copy(mode="server", proof="transfer")
    assert (result.proven, result.copy_method, result.transferred, result.tries) == (
        True,
        "put_blob_from_url",
        True,
        1,
    )
    assert transfer.landing.request_kinds() == [
        "LIST",
        "PUT from URL",
        "HEAD",
    ] and transfer.source.request_kinds() == ["HEAD"]
    sent = transfer.landing.requests[1].http.headers
    assert (sent["if-none-match"], sent["x-ms-source-if-match"]) == ("*", source.etag)
    assert sent["x-ms-copy-source-blob-properties"] == "false" and sent[
        "x-ms-source-content-md5"
    ] == base64_md5(LARGE)
    assert sent["content-length"] == "0" and sent["x-ms-meta-runid"] == "run-1"
    landed = transfer.get_landed()
    assert landed is not None and landed.content == LARGE and result.destination_etag == landed.etag
    assert landed.properties == {
        "Content-Type": "application/gzip",
        "Content-MD5": base64_md5(LARGE),
    }


async def test_server_side_copy_with_date_member_reads_landed_blob(
    transfer: InMemoryTransfer,
) -> None:
    """The lines are read, also with the proof "transfer"."""
    transfer.put_source()
    (result,) = await transfer.copy(mode="server", proof="transfer", date_member="UsageDate")
    assert result.proven and (result.facts.newest_date, result.facts.encoding) == (NO_DATE, "")
    assert transfer.source.bytes_sent == 0 and transfer.landing.bytes_sent == len(SMALL)


async def test_server_side_copy_content_proof_reads_landed_blob(transfer: InMemoryTransfer) -> None:
    transfer.put_source()
    (result,) = await transfer.copy(mode="server")
    assert (result.proven, result.facts.rows, result.copy_method) == (
        True,
        200,
        "put_blob_from_url",
    )
    assert transfer.source.bytes_sent == 0 and transfer.landing.bytes_sent == len(SMALL)


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
async def test_every_copy_method_lands_same_blob(
    transfer: InMemoryTransfer, refused: list[str], copy_method: str, md5: bool
) -> None:
    transfer.put_source(content=LARGE, md5=md5, Content_Encoding="gzip")
    transfer.landing.faults = [
        respond_to(kind, storage_error(501, "APINotImplemented")) for kind in refused
    ]
    (result,) = await transfer.copy(mode="server")
    landed = transfer.get_landed()
    assert (result.code, result.copy_method, result.facts.rows) == (
        None,
        copy_method,
        4000 * (len(LARGE) // len(gzip_members(1))),
    )
    assert landed is not None and landed.content == LARGE and landed.etag == result.destination_etag
    assert landed.properties == {
        "Content-Type": "application/gzip",
        "Content-MD5": base64_md5(LARGE),
    }
    assert (landed.metadata["runid"], landed.metadata["manifestetag"]) == ("run-1", "etag")
    assert bool(result.detail) == (copy_method == "stream")


@pytest.mark.parametrize(
    "response",
    [
        storage_error(501, "APINotImplemented"),
        storage_error(500, None),
        storage_error(405, "UnsupportedHttpVerb"),
    ],
)
async def test_server_side_copy_unsupported_method_is_tried_once_per_run(
    transfer: InMemoryTransfer, response: bytes
) -> None:
    """The run does not use the method again, but another run does. Azurite returns 501 or 500."""
    transfer.landing.faults = [respond_to("PUT from URL", response)]
    for n in range(3):
        transfer.put_source(f"{n}.json.gz")
        (result,) = await transfer.copy([f"{n}.json.gz"], mode="server")
        assert result.copy_method == "put_block_from_url"
    assert transfer.landing.request_kinds().count("PUT from URL") == 1
    transfer.put_source("4.json.gz")
    await transfer.copy(["4.json.gz"], mode="server", run_id="run-2")
    assert transfer.landing.request_kinds().count("PUT from URL") == 2


async def test_server_side_copy_method_refused_for_one_blob_is_tried_for_next_blob(
    transfer: InMemoryTransfer,
) -> None:
    transfer.landing.faults = [
        respond_to("PUT from URL", storage_error(400, "UnsupportedHeader"), to_nth=1)
    ]
    for name, copy_method in (("a.gz", "put_block_from_url"), ("b.gz", "put_blob_from_url")):
        transfer.put_source(name)
        assert (await transfer.copy([name], mode="server"))[0].copy_method == copy_method


async def test_server_side_copy_size_above_limit_uses_next_method(
    transfer: InMemoryTransfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_side, "MAX_PUT_BLOB_BYTES", 1)
    monkeypatch.setattr(server_side, "MAX_COPY_BLOB_BYTES", len(SMALL))
    async with InMemoryTransfer() as limited:
        limited.put_source()
        limited.put_source("more.gz", SMALL + SMALL)
        limited.landing.faults = [
            respond_to("PUT block from URL", storage_error(501, "APINotImplemented"))
        ]
        assert [
            result.copy_method for result in await limited.copy([NAME, "more.gz"], mode="server")
        ] == [
            "copy_blob_from_url",
            "stream",
        ]
        assert "PUT from URL" not in limited.landing.request_kinds()


async def test_server_side_copy_empty_blob_is_streamed(transfer: InMemoryTransfer) -> None:
    transfer.put_source(content=b"")
    assert (await transfer.copy(mode="server"))[0].copy_method == "stream"


READ_ERRORS = {
    "network_rules": copy_source_error(403, "AuthorizationFailure"),
    "no_source_headers": storage_error(403, "CannotVerifyCopySource"),
    "not_found": storage_error(404, "CannotVerifyCopySource"),
    "permitted_copy_scope": storage_error(403, "AuthorizationFailure"),
}


@pytest.mark.parametrize("copy_method", ["PUT from URL", "PUT block from URL", "COPY"])
@pytest.mark.parametrize("read_error", READ_ERRORS)
async def test_server_side_copy_source_unreadable_for_storage_is_streamed_and_reported(
    transfer: InMemoryTransfer,
    caplog: pytest.LogCaptureFixture,
    read_error: str,
    copy_method: str,
) -> None:
    """The app can read the source with the same signature, so it streams the remaining blobs."""
    methods = ["PUT from URL", "PUT block from URL", "COPY"]
    transfer.landing.faults = [
        respond_to(kind, storage_error(501, "APINotImplemented"))
        for kind in methods[: methods.index(copy_method)]
    ]
    transfer.landing.faults.append(respond_to(copy_method, READ_ERRORS[read_error]))
    for name in ("a.gz", "b.gz"):
        transfer.put_source(name)
        (result,) = await transfer.copy([name], mode="server")
        assert (
            result.proven
            and result.copy_method == "stream"
            and "Storage could not read the source" in result.detail
        )
    assert transfer.landing.request_kinds().count(
        copy_method
    ) == 1 and transfer.source.request_kinds() == [
        "HEAD",
        "HEAD",
        "GET",
        "HEAD",
        "GET",
    ]
    assert "permitted scope" in caplog.text


async def test_server_side_copy_expired_signature_is_renewed_and_method_continues(
    transfer: InMemoryTransfer,
) -> None:
    transfer.signatures = ["old", "new"]
    transfer.source.accepted_signature = "old"
    transfer.put_source()

    def renew_signature(request: StorageRequest) -> bytes:
        if request.kind == "PUT from URL":
            transfer.source.accepted_signature = "new"
        return b""

    transfer.landing.faults = [renew_signature]
    (result,) = await transfer.copy(mode="server")
    assert (
        result.proven
        and result.copy_method == "put_blob_from_url"
        and transfer.manifest_fetches == 2
    )
    assert transfer.landing.request_kinds().count(
        "PUT from URL"
    ) == 2 and transfer.landing.bytes_fetched == len(SMALL)


@pytest.mark.parametrize("block_bytes", [BLOCK_BYTES, 10**9])
async def test_server_side_copy_source_replaced_during_copy_is_not_landed(block_bytes: int) -> None:
    async with InMemoryTransfer(server_side_block_bytes=block_bytes) as transfer:
        transfer.put_source(content=LARGE)
        if block_bytes == BLOCK_BYTES:
            transfer.landing.faults = [
                respond_to("PUT from URL", storage_error(501, "APINotImplemented"))
            ]

        def replace_source(request: StorageRequest) -> bytes:
            if (request.kind, request.nth) == (
                ("PUT from URL", 1) if block_bytes > BLOCK_BYTES else ("PUT block from URL", 2)
            ):
                transfer.put_source(content=LARGE[:-1] + b"x")
            return b""

        transfer.landing.faults.append(replace_source)
        (result,) = await transfer.copy(mode="server")
        assert (result.code, transfer.get_landed()) == ("source_changed", None)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (copy_source_error(404, "BlobNotFound"), "source_missing"),
        (storage_error(412, "SourceConditionNotMet"), "source_changed"),
        (storage_error(400, "Md5Mismatch"), "proof_md5"),
        (storage_error(412, "LeaseIdMissing"), "destination_forbidden"),
        (storage_error(404, "ContainerNotFound"), "destination_missing"),
        (storage_error(409, "BlobImmutableDueToPolicy"), "destination_full"),
        (storage_error(400, "InvalidHeaderValue"), "copy_failed"),
        (copy_source_error(503, "ServerBusy", 409), "storage_busy"),
        (storage_error(503, "ServerBusy"), "storage_busy"),
        (CLOSE_CONNECTION, "destination_unreachable"),
    ],
)
async def test_server_side_copy_error_response_fails_with_code(
    transfer: InMemoryTransfer, response: bytes, code: str
) -> None:
    transfer.put_source()

    def fault(request: StorageRequest) -> bytes:
        if request.kind == "PUT from URL":
            if code == "source_missing":
                transfer.source.blobs.clear()
            return response
        return b""

    transfer.landing.faults = [fault]
    (result,) = await transfer.copy(mode="server")
    assert (result.proven, result.code, transfer.get_landed()) == (
        False,
        code,
        None,
    ) and transfer.source.bytes_sent == 0


async def test_server_side_copy_busy_source_is_retried(transfer: InMemoryTransfer) -> None:
    transfer.put_source()
    transfer.landing.faults = [
        respond_to("PUT from URL", copy_source_error(503, "ServerBusy", 409), to_nth=2)
    ]
    (result,) = await transfer.copy(mode="server")
    assert (
        result.proven
        and result.tries == 3
        and len(transfer.clock.slept) == 2
        and transfer.limiter.limit < 8
    )


async def test_server_side_copy_lost_response_is_not_transferred_again(
    transfer: InMemoryTransfer,
) -> None:
    transfer.put_source()

    def lose_response(request: StorageRequest) -> bytes:
        if request.kind != "PUT from URL" or request.nth > 1:
            return b""
        transfer.landing.serve(request)
        return CLOSE_CONNECTION

    transfer.landing.faults = [lose_response]
    (result,) = await transfer.copy(mode="server")
    assert (
        result.proven
        and transfer.landing.bytes_fetched == len(SMALL)
        and transfer.landing.request_kinds().count("PUT from URL") == 2
    )


async def test_server_side_copy_pending_copy_is_rejected(transfer: InMemoryTransfer) -> None:
    """A blob with a pending asynchronous copy exists, but has no content yet.

    See azure-sdk-for-python issue 23843.
    """
    transfer.put_source()
    transfer.landing.faults = [
        respond_to("PUT from URL", storage_error(501, None)),
        respond_to("PUT block from URL", storage_error(501, None)),
    ]

    def set_pending(request: StorageRequest) -> None:
        if request.kind == "COPY":
            landed = transfer.get_landed()
            assert landed is not None
            landed.properties |= {"x-ms-copy-status": "pending", "x-ms-copy-id": "1"}

    transfer.landing.after_request = set_pending
    (result,) = await transfer.copy(mode="server")
    assert (result.code, transfer.get_landed()) == ("proof_size", None)


async def test_copy_blobs_missing_properties_of_landed_blob_are_set(
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
    assert landed.properties == {
        "Content-Type": "application/gzip",
        "Content-MD5": base64_md5(SMALL),
    }


async def test_server_side_copy_damaged_source_is_deleted(
    transfer: InMemoryTransfer,
) -> None:
    transfer.put_source(content=gzip.compress(json_rows(9))[:-2])
    (result,) = await transfer.copy(mode="server")
    assert (result.code, transfer.get_landed()) == (
        "proof_gzip",
        None,
    ) and transfer.landing.request_kinds()[-1] == "DELETE"


async def test_copy_blobs_small_blobs_sends_two_requests_per_blob_and_one_listing(
    transfer: InMemoryTransfer,
) -> None:
    for n in range(5):
        transfer.put_source(f"{n}.json.gz")
    results = await transfer.copy([f"{n}.json.gz" for n in range(3)])
    results += await transfer.copy([f"{n}.json.gz" for n in range(3, 5)])
    assert all(result.proven and result.tries == 1 for result in results)
    assert transfer.source.request_kinds() == ["GET"] * 5 and sorted(
        transfer.landing.request_kinds()
    ) == [
        "LIST",
        *["PUT"] * 5,
    ]


async def test_copy_blobs_repeated_batch_transfers_nothing(transfer: InMemoryTransfer) -> None:
    """If the result of a batch is lost, no process transfers its blobs again."""
    transfer.put_source()
    await transfer.copy()
    (repeated,) = await transfer.copy()
    assert (repeated.proven, repeated.copy_method, repeated.transferred) == (
        True,
        "in_place",
        False,
    )
    transfer.restart()
    (repeated,) = await transfer.copy()
    assert (repeated.proven, repeated.copy_method) == (
        True,
        "in_place",
    ) and transfer.landing.request_kinds().count("PUT") == 1
