"""The storage proxy: true by itself, and every way in which it can be made to fail."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from azure.storage.blob import BlobClient

from local.azurite import Azurite
from local.simulator import BillingStorage, FaultResponse, Match, Simulator
from local.simulator.data_files import BlobFile
from tests.integration.simulator.caller import Caller, Reply


class Source:
    """One blob behind the proxy."""

    def __init__(
        self, simulator: Simulator, caller: Caller, root: str, sas: str, file: BlobFile
    ) -> None:
        self.simulator, self.caller, self.file = simulator, caller, file
        self.url = f"{root}/{file.name}?{sas}"

    def fail(self, **answer: Any) -> None:
        self.simulator.faults.clear()
        self.simulator.faults.add(Match(operation="blob"), FaultResponse(**answer))

    async def read(self, **headers: str) -> Reply:
        return await self.caller.call("GET", self.url, **headers)


@pytest.fixture
async def source(azurite: Azurite, session: aiohttp.ClientSession) -> AsyncIterator[Source]:
    simulator = Simulator(
        storage=BillingStorage(azurite.billing.connection_string), storage_proxy=True
    )
    with simulator.serving() as base_url:
        caller, key = Caller(session, base_url), simulator.export_keys()[0]
        found = (await caller.end(await caller.start_key(key, ""))).json["resourceLocation"]
        assert found["rootDirectory"].startswith(simulator.storage_origin + "/billing/")
        assert simulator.storage_origin != azurite.blob_origin
        yield Source(
            simulator,
            caller,
            found["rootDirectory"],
            found["sasToken"],
            simulator.expected(key).blobs[0],
        )


async def test_it_passes_on_what_is_there(source: Source) -> None:
    whole, part = await source.read(), await source.read(Range="bytes=10-19")
    assert whole.body == source.file.content and whole.headers["Content-Length"] == str(
        source.file.size
    )
    assert (part.status, part.body, part.headers["Content-Range"]) == (
        206,
        source.file.content[10:20],
        f"bytes 10-19/{source.file.size}",
    )
    assert (await source.read(**{"If-Match": '"other"'})).status == 412
    assert (await source.read(**{"If-Match": whole.headers["ETag"]})).status == 200
    head = await source.caller.call("HEAD", source.url)
    assert (head.status, head.headers["Content-Length"], head.body) == (
        200,
        str(source.file.size),
        b"",
    )
    assert (await source.caller.call("GET", source.url.partition("?")[0])).status in (403, 404)
    assert all("sig" not in repr(request) for request in source.simulator.storage_requests)


async def test_storages_own_client_reads_through_it(source: Source) -> None:
    with BlobClient.from_blob_url(
        source.url, max_single_get_size=4096, max_chunk_get_size=4096
    ) as blob:
        assert blob.download_blob(decompress=False).readall() == source.file.content
        assert blob.get_blob_properties().content_settings.content_md5 == source.file.md5


async def test_it_can_be_busy_or_forbid(source: Source) -> None:
    source.fail(status=503, headers={"Retry-After": "1"})
    busy = await source.read()
    assert (busy.status, busy.headers["x-ms-error-code"], busy.headers["Retry-After"]) == (
        503,
        "ServerBusy",
        "1",
    )
    source.fail(status=403)
    assert (await source.read()).headers["x-ms-error-code"] == "AuthenticationFailed"
    source.fail(status=302, headers={"Location": "http://198.51.100.7/"})
    assert ((await source.read()).status, (await source.read()).headers["Location"]) == (
        302,
        "http://198.51.100.7/",
    )


async def test_a_sas_can_die_within_a_copy(source: Source) -> None:
    source.simulator.faults.add(
        Match(operation="blob", path="*part-00000*", from_nth=3, per="path"),
        FaultResponse(status=403),
    )
    assert [(await source.read(Range=f"bytes={n}-{n}")).status for n in range(4)] == [
        206,
        206,
        403,
        403,
    ]


async def test_the_source_can_seem_replaced(source: Source) -> None:
    source.simulator.faults.add(
        Match(operation="blob", from_nth=2), FaultResponse(headers={"ETag": '"0x1"'})
    )
    tags = [(await source.read()).headers["ETag"] for _ in range(2)]
    assert tags[0] != tags[1] == '"0x1"'


async def test_bytes_can_be_lost_or_changed(source: Source) -> None:
    source.fail(cut_to=100)
    assert (await source.read()).body == source.file.content[:100]
    source.fail(body="truncated")
    assert (await source.read()).body == source.file.content[: source.file.size // 2]
    source.fail(corrupt_at=40)
    body = (await source.read()).body
    assert [
        n for n, (one, two) in enumerate(zip(body, source.file.content, strict=True)) if one != two
    ] == [40]
    source.fail(without_headers=("Content-Range",))
    assert "Content-Range" not in (await source.read(Range="bytes=0-9")).headers


@pytest.mark.parametrize(
    "answer", [{"drop": True}, {"drop_after": 100}, {"headers": {"Content-Length": "9999999"}}]
)
async def test_connections_can_break(source: Source, answer: dict[str, Any]) -> None:
    source.fail(**answer)
    with pytest.raises(aiohttp.ClientError):
        await source.read()


async def test_it_can_say_less_than_it_sends(source: Source) -> None:
    source.fail(headers={"Content-Length": "5"})
    assert (await source.read()).body == source.file.content[:5]


async def test_it_can_be_slow(source: Source) -> None:
    source.fail(bytes_per_second=source.file.size * 5, delay=0.05)
    assert (await source.read()).body == source.file.content
