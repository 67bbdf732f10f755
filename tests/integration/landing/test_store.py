"""The landing store: conditional writes, listings and errors."""

import asyncio
import gzip
from collections.abc import AsyncIterator

import pytest
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from local.azurite import Azurite
from shared.errors import PermanentError, RequestRefusedError, UnavailableError
from shared.landing.store import LandingStore


@pytest.fixture
async def store(azurite: Azurite, container: str) -> AsyncIterator[LandingStore]:
    store = LandingStore(
        container=container, prefix="lake/", connection_string=azurite.landing.connection_string
    )
    await store.ensure_container()
    yield store
    await store.close()


async def test_ensure_container_concurrent_calls_create_it_once(
    azurite: Azurite, container: str
) -> None:
    store = LandingStore(container=container, connection_string=azurite.landing.connection_string)
    with pytest.raises(PermanentError) as missing:
        await store.put("a.json", b"{}")
    assert missing.value.code == "destination_missing"
    await asyncio.gather(store.ensure_container(), store.ensure_container())
    await store.ensure_container()
    assert await store.list("data") == []
    await store.close()


async def test_ensure_container_wrong_key_is_forbidden(azurite: Azurite, container: str) -> None:
    connection = azurite.landing.connection_string.replace(azurite.landing.key, azurite.billing.key)
    store = LandingStore(container=container, connection_string=connection)
    with pytest.raises(RequestRefusedError) as refused:
        await store.ensure_container()
    await store.close()
    assert refused.value.code == "destination_forbidden" and refused.value.http_status == 403
    assert refused.value.__context__ is None and refused.value.__cause__ is None


async def test_get_properties_no_server_is_unreachable(container: str) -> None:
    connection = "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9/a;"
    store = LandingStore(container=container, connection_string=connection)
    with pytest.raises(UnavailableError) as unreachable:
        await store.get_properties("x")
    await store.close()
    assert unreachable.value.code == "destination_unreachable"


async def test_put_existing_blob_is_overwritten(store: LandingStore) -> None:
    assert await store.read("runs/r/names.json") is None
    first = await store.put("runs/r/names.json", b"[]")
    second = await store.put("runs/r/names.json", b'["a"]')
    assert first != second and second.startswith('"')
    assert await store.read("runs/r/names.json") == (b'["a"]', second)


async def test_create_existing_blob_returns_none(store: LandingStore) -> None:
    etag = await store.create("m.json", b"1")
    assert etag and await store.create("m.json", b"2") is None
    assert await store.read("m.json") == (b"1", etag)


async def test_create_fifty_concurrent_calls_succeeds_once(store: LandingStore) -> None:
    etags = await asyncio.gather(*(store.create("race.json", str(n).encode()) for n in range(50)))
    assert sum(etag is not None for etag in etags) == 1


async def test_put_if_match_of_several_blocks_is_atomic_and_conditional(
    store: LandingStore,
) -> None:
    parts = [bytes([65 + number]) * 3_000_000 for number in range(4)]  # 12 MB: three blocks
    first = await store.put_if_match("large", iter(parts), None)
    assert first and await store.read("large") == (b"".join(parts), first)
    assert await store.put_if_match("large", iter(parts[::-1]), None) is None
    second = await store.put_if_match("large", iter(parts[::-1]), first)
    assert second and await store.put_if_match("large", iter(parts), first) is None
    assert await store.read("large") == (b"".join(parts[::-1]), second)
    small = await store.put_if_match("small", iter([b"a", b"b"]), None)
    assert await store.read("small") == (b"ab", small)


async def test_put_if_match_other_etag_returns_none(store: LandingStore) -> None:
    first = await store.put_if_match("latest.json", b"1", None)
    assert first and await store.put_if_match("latest.json", b"x", None) is None
    second = await store.put_if_match("latest.json", b"2", first)
    assert second and await store.put_if_match("latest.json", b"3", first) is None
    assert await store.read("latest.json") == (b"2", second)
    assert (
        await store.delete("latest.json")
        and await store.put_if_match("latest.json", b"4", second) is None
    )


async def test_list_and_get_properties_return_same_properties(
    store: LandingStore, azurite: Azurite, container: str
) -> None:
    bodies = {"b.gz": b"bb", "deep/a.gz": b"a", "ä b.gz": b""}
    etags = {name: await store.put(f"data/v/{name}", body) for name, body in bodies.items()}
    await store.put("data/v2/other.gz", b"other version")
    async with BlobServiceClient.from_connection_string(
        azurite.landing.connection_string
    ) as service:
        folder_marker = service.get_blob_client(container, "lake/data/v/deep")
        await folder_marker.upload_blob(b"", metadata={"hdi_isfolder": "true"})
        await service.get_blob_client(container, "lake/data/v/b.gz").set_blob_metadata(
            {"sourceetag": "%220x1%22"}
        )
    listed = {blob.name: blob for blob in await store.list("data/v")}
    assert sorted(listed) == ["b.gz", "deep/a.gz", "ä b.gz"]
    assert listed["deep/a.gz"].etag == etags["deep/a.gz"] and listed["b.gz"].metadata == {
        "sourceetag": "%220x1%22"
    }
    head = await store.get_properties("data/v/b.gz")
    assert head and (head.size, head.etag, head.md5, head.metadata) == (
        2,
        listed["b.gz"].etag,
        listed["b.gz"].md5,
        listed["b.gz"].metadata,
    )
    assert head.md5 is not None and await store.get_properties("data/v/absent") is None


async def test_read_range_other_etag_is_rejected(store: LandingStore) -> None:
    old = await store.put("x", b"123456")
    assert await store.read_range("x", 2, 3, old) == b"345"
    new = await store.put("x", b"abcdef")
    with pytest.raises(UnavailableError) as rejected:
        await store.read_range("x", 2, 3, old)
    assert (rejected.value.code, rejected.value.http_status) == ("destination_unreachable", 412)
    assert await store.read_range("x", 2, 3, new) == b"cde"


async def test_delete_other_etag_deletes_nothing(store: LandingStore) -> None:
    old = await store.put("x", b"1")
    new = await store.put("x", b"2")
    assert not await store.delete("x", old)
    assert await store.delete("x", new)
    assert not await store.delete("x", new) and not await store.delete("x")


async def test_read_content_encoding_is_not_decoded(
    store: LandingStore, azurite: Azurite, container: str
) -> None:
    body = gzip.compress(b'{"a": 1}\n' * 1000)
    async with BlobServiceClient.from_connection_string(
        azurite.landing.connection_string
    ) as service:
        encoded = ContentSettings(content_encoding="gzip")
        await service.get_blob_client(container, "lake/z.gz").upload_blob(
            body, content_settings=encoded
        )
    read = await store.read("z.gz")
    assert read is not None and read[0] == body


async def test_list_many_blobs_returns_all(store: LandingStore) -> None:
    semaphore = asyncio.Semaphore(32)

    async def put(n: int) -> None:
        async with semaphore:
            await store.get_blob_client(f"many/{n:05}").upload_blob(b"", validate_content="md5")

    await asyncio.gather(*(put(n) for n in range(200)))
    listed = await store.list("many")
    assert sorted(blob.name for blob in listed) == [f"{n:05}" for n in range(200)]
