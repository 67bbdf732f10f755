import gzip
import hashlib

import pytest
from azure.storage.blob.aio import BlobServiceClient

from shared.clock import SystemClock
from shared.transfer import limits
from shared.transfer.copier import Copier
from tests.integration.transfer.azurite_copy import BLOCK, FOLDER, World, md5, members, rows

BLOBS = {
    "part-00000-small.json.gz": (gzip.compress(rows(100)), 100),
    "part-00001-members.json.gz": (
        gzip.compress(rows(10)) + gzip.compress(b"") + gzip.compress(rows(5)),
        15,
    ),
    "part-00002-empty.json.gz": (b"", 0),
    "part-00003-no-rows.json.gz": (gzip.compress(b""), 0),
    "part-00004-plain.json": (rows(7), 7),
    "a folder/ä=1/part 5.json.gz": (gzip.compress(b"\xef\xbb\xbf" + rows(3)[:-1]), 3),
}


@pytest.mark.parametrize("mode", ["stream", "server", "auto"])
async def test_small_blobs_arrive_byte_for_byte(world: World, mode: str) -> None:
    for name, (data, _) in BLOBS.items():
        await world.offer(name, data)
    results = await world.land(BLOBS, mode=mode)
    for name, (data, count) in BLOBS.items():
        result, landed = results[name], await world.landed(name)
        assert landed is not None and landed[0] == data
        assert (result.proven, result.code, result.rows, result.bytes) == (
            True,
            None,
            count,
            len(data),
        )
        assert (result.md5, result.sha256) == (md5(data), hashlib.sha256(data).hexdigest())
        assert (
            result.encoding == ("gzip" if data[:2] == b"\x1f\x8b" else "identity")
            and result.transferred
            and result.tries == 1
        )
        assert result.columns == (("InvoiceNumber", "Line", "Id") if count else ())
        assert result.destination_etag == landed[1].etag and result.seconds > 0
        assert result.copy_method == (
            "put_block_from_url" if mode == "server" and data else "stream"
        )


@pytest.mark.parametrize("mode", ["stream", "server"])
@pytest.mark.parametrize("with_md5", [True, False])
async def test_every_rung_sets_the_same_properties(world: World, mode: str, with_md5: bool) -> None:
    data = gzip.compress(rows(100))
    await world.offer("a.json.gz", data, with_md5=with_md5, encoding="gzip")
    result = (await world.land(["a.json.gz"], mode=mode))["a.json.gz"]
    assert result.proven, result.code
    async with BlobServiceClient.from_connection_string(
        world.azurite.landing.connection_string
    ) as raw:
        found = await raw.get_blob_client(
            world.container, f"lake/{FOLDER}/a.json.gz"
        ).get_blob_properties()
    assert (
        found.content_settings.content_type == "application/gzip"
        and found.content_settings.content_encoding is None
    )
    assert bytes(found.content_settings.content_md5 or b"") == hashlib.md5(data).digest()
    assert found.etag == result.destination_etag
    assert (
        found.metadata["manifestetag"] == "W%2F%22%C3%BCn%C3%AFque-eTag%22"
        and found.metadata["runid"] == "run-1"
    )
    assert (
        found.metadata["sourceetag"].startswith("%22")
        and (await world.landed("a.json.gz"))[0] == data
    )  # type: ignore[index]


@pytest.mark.parametrize(
    ("mode", "copy_method"), [("stream", "stream"), ("server", "put_block_from_url")]
)
@pytest.mark.parametrize("proof", ["content", "transfer"])
async def test_a_large_blob_arrives_byte_for_byte(
    world: World, mode: str, copy_method: str, proof: str
) -> None:
    data = members(3 * BLOCK + 17)
    await world.offer("large.json.gz", data, encoding="gzip")
    result = (await world.land(["large.json.gz"], mode=mode, proof=proof))["large.json.gz"]
    landed = await world.landed("large.json.gz")
    assert (
        result.proven
        and result.copy_method == copy_method
        and landed is not None
        and landed[0] == data
    )
    assert (result.md5, landed[1].md5, result.bytes) == (md5(data), md5(data), len(data))
    assert (result.rows is None, result.sha256 is None) == (proof == "transfer",) * 2


async def test_auto_leaves_to_storage_what_needs_no_look(world: World) -> None:
    await world.offer("a.json.gz", gzip.compress(rows(1)))
    result = (await world.land(["a.json.gz"], proof="transfer"))["a.json.gz"]
    assert (
        result.copy_method == "put_block_from_url"
        and result.proven
        and world.reader.requests == ["HEAD"]
    )


async def test_a_second_landing_transfers_nothing(world: World) -> None:
    names = [f"part-{n}.json.gz" for n in range(5)]
    for name in names:
        await world.offer(name, gzip.compress(rows(50, seed=int(name[5]))))
    first = await world.land(names)
    recorded = {name: result.destination_etag for name, result in first.items()}
    world.reader.requests.clear()
    world.written.clear()
    second = await world.land(names, proven=recorded)
    assert all(
        result.proven and result.unchanged and not result.transferred for result in second.values()
    )
    assert world.reader.requests == [] and world.written == ["HEAD"] * 5
    world.written.clear()
    third = await world.land(names)  # the rows are lost: proven where they lie
    assert all(
        result.proven and result.copy_method == "in_place" and not result.transferred
        for result in third.values()
    )
    assert [(result.rows, result.sha256) for result in third.values()] == [
        (result.rows, result.sha256) for result in first.values()
    ]
    assert world.reader.requests == ["HEAD"] * 5 and set(world.written) == {"HEAD", "GET"}
    assert {name: result.destination_etag for name, result in third.items()} == recorded


async def test_a_hundred_blobs_side_by_side(world: World) -> None:
    names = [f"part-{n:03}.json.gz" for n in range(100)]
    for n, name in enumerate(names):
        await world.offer(name, gzip.compress(rows(20, seed=n)))
    results = await world.land(names)
    assert list(results) == names and sum(result.rows for result in results.values()) == 2000
    assert world.fetches == 1 and len({result.sha256 for result in results.values()}) == 100


async def test_blocks_of_the_usual_size(world: World) -> None:
    data = members(2 * limits.BLOCK_BYTES + 5)
    await world.offer("large.json.gz", data)
    copier = Copier(world.landing, world.sources, SystemClock(), reader=world.reader)
    (result,) = await copier.copy_blobs(world.work, ["large.json.gz"], {})
    assert (
        result.proven
        and result.md5 == md5(data)
        and world.written.count("PUT block") == 3 == world.reader.requests.count("GET")
    )
