"""The blobs that a copy lands: content, properties, results and requests."""

import gzip
import hashlib

import pytest

from shared.clock import SystemClock
from shared.transfer import limits
from shared.transfer.copier import Copier
from tests.integration.transfer.azurite_transfer import (
    BLOCK_BYTES,
    FOLDER,
    AzuriteTransfer,
    gzip_members,
    json_rows,
    md5_base64,
)

BLOBS = {
    "part-00000-small.json.gz": (gzip.compress(json_rows(100)), 100),
    "part-00001-members.json.gz": (
        gzip.compress(json_rows(10)) + gzip.compress(b"") + gzip.compress(json_rows(5)),
        15,
    ),
    "part-00002-empty.json.gz": (b"", 0),
    "part-00003-no-rows.json.gz": (gzip.compress(b""), 0),
    "part-00004-plain.json": (json_rows(7), 7),
    "a folder/ä=1/part 5.json.gz": (gzip.compress(b"\xef\xbb\xbf" + json_rows(3)[:-1]), 3),
}


@pytest.mark.parametrize("mode", ["stream", "server", "auto"])
async def test_copy_blobs_small_blobs_are_byte_identical(
    transfer: AzuriteTransfer, mode: str
) -> None:
    for name, (data, _) in BLOBS.items():
        await transfer.put_source(name, data)
    results = await transfer.copy(BLOBS, mode=mode)
    for name, (data, count) in BLOBS.items():
        result, landed = results[name], await transfer.get_landed(name)
        assert landed is not None and landed[0] == data
        assert (result.proven, result.code, result.facts.rows, result.facts.bytes) == (
            True,
            None,
            count,
            len(data),
        )
        assert (result.facts.md5, result.facts.sha256) == (
            md5_base64(data),
            hashlib.sha256(data).hexdigest(),
        )
        assert (
            result.facts.encoding == ("gzip" if data[:2] == b"\x1f\x8b" else "identity")
            and result.transferred
            and result.tries == 1
        )
        assert result.facts.columns == (("InvoiceNumber", "Line", "Id") if count else ())
        assert result.destination_etag == landed[1].etag and result.seconds > 0
        assert result.copy_method == (
            "put_block_from_url" if mode == "server" and data else "stream"
        )


@pytest.mark.parametrize("mode", ["stream", "server"])
@pytest.mark.parametrize("with_md5", [True, False])
async def test_copy_blobs_every_mode_sets_same_properties(
    transfer: AzuriteTransfer, mode: str, with_md5: bool
) -> None:
    data = gzip.compress(json_rows(100))
    await transfer.put_source("a.json.gz", data, with_md5=with_md5, encoding="gzip")
    result = await transfer.copy_blob("a.json.gz", mode=mode)
    assert result.proven, result.code
    async with transfer.open_landing_service() as service:
        properties = await service.get_blob_client(
            transfer.container, f"lake/{FOLDER}/a.json.gz"
        ).get_blob_properties()
    assert (
        properties.content_settings.content_type == "application/gzip"
        and properties.content_settings.content_encoding is None
    )
    assert bytes(properties.content_settings.content_md5 or b"") == hashlib.md5(data).digest()
    assert properties.etag == result.destination_etag
    assert (
        properties.metadata["manifestetag"] == "W%2F%22%C3%BCn%C3%AFque-eTag%22"
        and properties.metadata["runid"] == "run-1"
    )
    landed = await transfer.get_landed("a.json.gz")
    assert properties.metadata["sourceetag"].startswith("%22")
    assert landed is not None and landed[0] == data


@pytest.mark.parametrize(
    ("mode", "copy_method"), [("stream", "stream"), ("server", "put_block_from_url")]
)
@pytest.mark.parametrize("proof", ["content", "transfer"])
async def test_copy_blobs_large_blob_is_byte_identical(
    transfer: AzuriteTransfer, mode: str, copy_method: str, proof: str
) -> None:
    data = gzip_members(3 * BLOCK_BYTES + 17)
    await transfer.put_source("large.json.gz", data, encoding="gzip")
    result = await transfer.copy_blob("large.json.gz", mode=mode, proof=proof)
    landed = await transfer.get_landed("large.json.gz")
    assert (
        result.proven
        and result.copy_method == copy_method
        and landed is not None
        and landed[0] == data
    )
    assert (result.facts.md5, landed[1].md5, result.facts.bytes) == (
        md5_base64(data),
        md5_base64(data),
        len(data),
    )
    assert (result.facts.rows == 0, result.facts.sha256 == "") == (proof == "transfer",) * 2


async def test_copy_blobs_auto_mode_with_transfer_proof_uses_server_side_copy(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", gzip.compress(json_rows(1)))
    result = await transfer.copy_blob("a.json.gz", proof="transfer")
    assert (
        result.copy_method == "put_block_from_url"
        and result.proven
        and transfer.reader.requests == ["HEAD"]
    )


async def test_copy_blobs_repeated_transfers_nothing(transfer: AzuriteTransfer) -> None:
    names = [f"part-{n}.json.gz" for n in range(5)]
    for name in names:
        await transfer.put_source(name, gzip.compress(json_rows(50, seed=int(name[5]))))
    first = await transfer.copy(names)
    recorded = {name: result.to_row("run-1") for name, result in first.items()}
    transfer.reader.requests.clear()
    transfer.landing_requests.clear()
    second = await transfer.copy(names, proven=recorded)
    assert all(
        result.proven and result.unchanged and not result.transferred for result in second.values()
    )
    assert transfer.reader.requests == [] and transfer.landing_requests == ["HEAD"] * 5
    transfer.landing_requests.clear()
    third = await transfer.copy(names)  # without the recorded rows: verified in place
    assert all(
        result.proven and result.copy_method == "in_place" and not result.transferred
        for result in third.values()
    )
    assert [(result.facts.rows, result.facts.sha256) for result in third.values()] == [
        (result.facts.rows, result.facts.sha256) for result in first.values()
    ]
    assert transfer.reader.requests == ["HEAD"] * 5 and set(transfer.landing_requests) == {
        "HEAD",
        "GET",
    }
    assert {name: result.destination_etag for name, result in third.items()} == {
        name: row.destination_etag for name, row in recorded.items()
    }


async def test_copy_blobs_hundred_blobs_fetches_manifest_once(transfer: AzuriteTransfer) -> None:
    names = [f"part-{n:03}.json.gz" for n in range(100)]
    for n, name in enumerate(names):
        await transfer.put_source(name, gzip.compress(json_rows(20, seed=n)))
    results = await transfer.copy(names)
    assert list(results) == names and sum(result.facts.rows for result in results.values()) == 2000
    assert (
        transfer.manifest_fetches == 1
        and len({result.facts.sha256 for result in results.values()}) == 100
    )


async def test_copy_blobs_default_block_size_sends_one_request_per_block(
    transfer: AzuriteTransfer,
) -> None:
    data = gzip_members(2 * limits.BLOCK_BYTES + 5)
    await transfer.put_source("large.json.gz", data)
    copier = Copier(transfer.landing, transfer.sources, SystemClock(), reader=transfer.reader)
    (result,) = await copier.copy_blobs(transfer.request, ["large.json.gz"], {})
    assert (
        result.proven
        and result.facts.md5 == md5_base64(data)
        and transfer.landing_requests.count("PUT block")
        == 3
        == transfer.reader.requests.count("GET")
    )
