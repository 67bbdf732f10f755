"""The storage proxy: it forwards every byte, and applies every kind of fault."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from azure.storage.blob import BlobClient

from local.azurite import Azurite
from local.simulator import BillingStorage, FaultResponse, Match, Simulator
from local.simulator.data_files import BlobFile
from tests.integration.simulator.caller import Caller, Reply


class ProxiedBlob:
    """A blob that is read through the proxy."""

    def __init__(
        self, simulator: Simulator, caller: Caller, root: str, sas: str, file: BlobFile
    ) -> None:
        self.simulator, self.caller, self.file = simulator, caller, file
        self.url = f"{root}/{file.name}?{sas}"

    def set_fault(self, **fault: Any) -> None:
        self.simulator.faults.clear()
        self.simulator.faults.add(Match(operation="blob"), FaultResponse(**fault))

    async def read(self, **headers: str) -> Reply:
        return await self.caller.call("GET", self.url, **headers)


@pytest.fixture
async def blob(azurite: Azurite, session: aiohttp.ClientSession) -> AsyncIterator[ProxiedBlob]:
    simulator = Simulator(
        storage=BillingStorage(azurite.billing.connection_string), storage_proxy=True
    )
    with simulator.serving() as base_url:
        caller, key = Caller(session, base_url), simulator.export_keys()[0]
        manifest = (await caller.wait_for_end(await caller.start_key(key, ""))).json[
            "resourceLocation"
        ]
        assert manifest["rootDirectory"].startswith(simulator.storage_origin + "/billing/")
        assert simulator.storage_origin != azurite.blob_origin
        yield ProxiedBlob(
            simulator,
            caller,
            manifest["rootDirectory"],
            manifest["sasToken"],
            simulator.expected(key).blobs[0],
        )


async def test_read_without_fault_returns_blob(blob: ProxiedBlob) -> None:
    whole, part = await blob.read(), await blob.read(Range="bytes=10-19")
    assert whole.body == blob.file.content and whole.headers["Content-Length"] == str(
        blob.file.size
    )
    assert (part.status, part.body, part.headers["Content-Range"]) == (
        206,
        blob.file.content[10:20],
        f"bytes 10-19/{blob.file.size}",
    )
    assert (await blob.read(**{"If-Match": '"other"'})).status == 412
    assert (await blob.read(**{"If-Match": whole.headers["ETag"]})).status == 200
    head = await blob.caller.call("HEAD", blob.url)
    assert (head.status, head.headers["Content-Length"], head.body) == (
        200,
        str(blob.file.size),
        b"",
    )
    assert (await blob.caller.call("GET", blob.url.partition("?")[0])).status in (403, 404)
    assert all("sig" not in repr(request) for request in blob.simulator.storage_requests)


async def test_read_with_storage_sdk_returns_blob(blob: ProxiedBlob) -> None:
    with BlobClient.from_blob_url(
        blob.url, max_single_get_size=4096, max_chunk_get_size=4096
    ) as client:
        assert client.download_blob(decompress=False).readall() == blob.file.content
        assert client.get_blob_properties().content_settings.content_md5 == blob.file.md5


async def test_fault_status_is_returned(blob: ProxiedBlob) -> None:
    blob.set_fault(status=503, headers={"Retry-After": "1"})
    busy = await blob.read()
    assert (busy.status, busy.headers["x-ms-error-code"], busy.headers["Retry-After"]) == (
        503,
        "ServerBusy",
        "1",
    )
    blob.set_fault(status=403)
    assert (await blob.read()).headers["x-ms-error-code"] == "AuthenticationFailed"
    blob.set_fault(status=302, headers={"Location": "http://198.51.100.7/"})
    assert ((await blob.read()).status, (await blob.read()).headers["Location"]) == (
        302,
        "http://198.51.100.7/",
    )


async def test_fault_from_nth_simulates_expired_sas(blob: ProxiedBlob) -> None:
    blob.simulator.faults.add(
        Match(operation="blob", path="*part-00000*", from_nth=3, per="path"),
        FaultResponse(status=403),
    )
    assert [(await blob.read(Range=f"bytes={n}-{n}")).status for n in range(4)] == [
        206,
        206,
        403,
        403,
    ]


async def test_fault_etag_simulates_changed_blob(blob: ProxiedBlob) -> None:
    blob.simulator.faults.add(
        Match(operation="blob", from_nth=2), FaultResponse(headers={"ETag": '"0x1"'})
    )
    tags = [(await blob.read()).headers["ETag"] for _ in range(2)]
    assert tags[0] != tags[1] == '"0x1"'


async def test_fault_removes_or_changes_bytes(blob: ProxiedBlob) -> None:
    blob.set_fault(cut_to=100)
    assert (await blob.read()).body == blob.file.content[:100]
    blob.set_fault(body="truncated")
    assert (await blob.read()).body == blob.file.content[: blob.file.size // 2]
    blob.set_fault(corrupt_at=40)
    body = (await blob.read()).body
    assert [
        n for n, (one, two) in enumerate(zip(body, blob.file.content, strict=True)) if one != two
    ] == [40]
    blob.set_fault(without_headers=("Content-Range",))
    assert "Content-Range" not in (await blob.read(Range="bytes=0-9")).headers


@pytest.mark.parametrize(
    "fault", [{"drop": True}, {"drop_after": 100}, {"headers": {"Content-Length": "9999999"}}]
)
async def test_fault_closes_connection(blob: ProxiedBlob, fault: dict[str, Any]) -> None:
    blob.set_fault(**fault)
    with pytest.raises(aiohttp.ClientError):
        await blob.read()


async def test_fault_shorter_content_length_truncates_body(blob: ProxiedBlob) -> None:
    blob.set_fault(headers={"Content-Length": "5"})
    assert (await blob.read()).body == blob.file.content[:5]


async def test_fault_limits_speed(blob: ProxiedBlob) -> None:
    blob.set_fault(bytes_per_second=blob.file.size * 5, delay=0.05)
    assert (await blob.read()).body == blob.file.content
