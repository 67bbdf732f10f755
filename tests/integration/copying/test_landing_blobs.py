import gzip
import hashlib

import pytest
from azure.storage.blob.aio import BlobServiceClient

from shared.clock import SystemClock
from shared.copying import limits
from shared.copying.copier import Copier
from tests.integration.copying.world import BLOCK, FOLDER, World, md5, members, rows

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
    fates = await world.land(BLOBS, mode=mode)
    for name, (data, count) in BLOBS.items():
        fate, landed = fates[name], await world.landed(name)
        assert landed is not None and landed[0] == data
        assert (fate.proven, fate.code, fate.rows, fate.bytes) == (True, None, count, len(data))
        assert (fate.md5, fate.sha256) == (md5(data), hashlib.sha256(data).hexdigest())
        assert (
            fate.encoding == ("gzip" if data[:2] == b"\x1f\x8b" else "identity")
            and fate.transferred
            and fate.tries == 1
        )
        assert fate.columns == (("InvoiceNumber", "Line", "Id") if count else ())
        assert fate.destination_etag == landed[1].etag and fate.seconds > 0
        assert fate.rung == ("put_block_from_url" if mode == "server" and data else "stream")


@pytest.mark.parametrize("mode", ["stream", "server"])
@pytest.mark.parametrize("with_md5", [True, False])
async def test_every_rung_sets_the_same_properties(world: World, mode: str, with_md5: bool) -> None:
    data = gzip.compress(rows(100))
    await world.offer("a.json.gz", data, with_md5=with_md5, encoding="gzip")
    fate = (await world.land(["a.json.gz"], mode=mode))["a.json.gz"]
    assert fate.proven, fate.code
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
    assert found.etag == fate.destination_etag
    assert (
        found.metadata["manifestetag"] == "W%2F%22%C3%BCn%C3%AFque-eTag%22"
        and found.metadata["runid"] == "run-1"
    )
    assert (
        found.metadata["sourceetag"].startswith("%22")
        and (await world.landed("a.json.gz"))[0] == data
    )  # type: ignore[index]


@pytest.mark.parametrize(("mode", "rung"), [("stream", "stream"), ("server", "put_block_from_url")])
@pytest.mark.parametrize("proof", ["content", "transfer"])
async def test_a_large_blob_arrives_byte_for_byte(
    world: World, mode: str, rung: str, proof: str
) -> None:
    data = members(3 * BLOCK + 17)
    await world.offer("large.json.gz", data, encoding="gzip")
    fate = (await world.land(["large.json.gz"], mode=mode, proof=proof))["large.json.gz"]
    landed = await world.landed("large.json.gz")
    assert fate.proven and fate.rung == rung and landed is not None and landed[0] == data
    assert (fate.md5, landed[1].md5, fate.bytes) == (md5(data), md5(data), len(data))
    assert (fate.rows is None, fate.sha256 is None) == (proof == "transfer",) * 2


async def test_auto_leaves_to_storage_what_needs_no_look(world: World) -> None:
    await world.offer("a.json.gz", gzip.compress(rows(1)))
    fate = (await world.land(["a.json.gz"], proof="transfer"))["a.json.gz"]
    assert fate.rung == "put_block_from_url" and fate.proven and world.reader.requests == ["HEAD"]


async def test_a_second_landing_transfers_nothing(world: World) -> None:
    names = [f"part-{n}.json.gz" for n in range(5)]
    for name in names:
        await world.offer(name, gzip.compress(rows(50, seed=int(name[5]))))
    first = await world.land(names)
    recorded = {name: fate.destination_etag for name, fate in first.items()}
    world.reader.requests.clear()
    world.written.clear()
    second = await world.land(names, proven=recorded)
    assert all(fate.proven and fate.unchanged and not fate.transferred for fate in second.values())
    assert world.reader.requests == [] and world.written == ["HEAD"] * 5
    world.written.clear()
    third = await world.land(names)  # the rows are lost: proven where they lie
    assert all(
        fate.proven and fate.rung == "in_place" and not fate.transferred for fate in third.values()
    )
    assert [(fate.rows, fate.sha256) for fate in third.values()] == [
        (fate.rows, fate.sha256) for fate in first.values()
    ]
    assert world.reader.requests == ["HEAD"] * 5 and set(world.written) == {"HEAD", "GET"}
    assert {name: fate.destination_etag for name, fate in third.items()} == recorded


async def test_one_blob_is_proven_in_place_and_never_copied(world: World) -> None:
    await world.offer("a.json.gz", gzip.compress(rows(5)))
    absent = await world.copier.prove_in_place(world.work, "a.json.gz")
    assert (absent.proven, absent.code) == (False, "copy_failed") and await world.landed(
        "a.json.gz"
    ) is None
    await world.land(["a.json.gz"])
    there = await world.copier.prove_in_place(world.work, "a.json.gz")
    assert there.proven and there.rows == 5 and there.rung == "in_place" and not there.transferred


async def test_a_hundred_blobs_side_by_side(world: World) -> None:
    names = [f"part-{n:03}.json.gz" for n in range(100)]
    for n, name in enumerate(names):
        await world.offer(name, gzip.compress(rows(20, seed=n)))
    fates = await world.land(names)
    assert list(fates) == names and sum(fate.rows for fate in fates.values()) == 2000
    assert world.fetches == 1 and len({fate.sha256 for fate in fates.values()}) == 100


async def test_blocks_of_the_usual_size(world: World) -> None:
    data = members(2 * limits.BLOCK + 5)
    await world.offer("large.json.gz", data)
    copier = Copier(world.landing, world.sources, SystemClock(), reader=world.reader)
    (fate,) = await copier.land(world.work, ["large.json.gz"], {})
    assert (
        fate.proven
        and fate.md5 == md5(data)
        and world.written.count("PUT block") == 3 == world.reader.requests.count("GET")
    )
