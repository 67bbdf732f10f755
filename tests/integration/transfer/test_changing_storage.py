"""What happens to a copy while storage changes under it: rivals, other data, signatures that end, damage."""

import asyncio
import gzip
import time
from dataclasses import replace
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient as SyncService
from azure.storage.blob import ContainerSasPermissions
from azure.storage.blob.aio import BlobServiceClient

from shared.transfer.models import CopyMode
from tests.integration.transfer.azurite_transfer import (
    BLOCK,
    FOLDER,
    AzuriteTransfer,
    gzip_members,
    json_rows,
)

STREAM: CopyMode = "stream"
SERVER: CopyMode = "server"
SMALL = gzip.compress(json_rows(200))
DAMAGED = {
    "cut short": SMALL[:-5],
    "another trailer": SMALL[:-1] + bytes([SMALL[-1] ^ 1]),
    "something after it": SMALL + b"garbage",
    "no JSON": gzip.compress(b"<html></html>"),
}


async def everything(transfer: AzuriteTransfer) -> list[str]:
    return [blob.name for blob in await transfer.landing.list(FOLDER)]


@pytest.mark.parametrize(
    ("size", "mode"), [(100, "stream"), (2 * BLOCK + 1, "stream"), (2 * BLOCK + 1, "server")]
)
async def test_of_two_that_race_one_writes_and_the_other_finds_it_done(
    transfer: AzuriteTransfer, size: int, mode: Any
) -> None:
    data = gzip_members(size) if size > BLOCK else SMALL
    await transfer.put_source("a.json.gz", data)
    work = replace(transfer.request, mode=mode)
    both = await asyncio.gather(
        transfer.copier.copy_blobs(work, ["a.json.gz"], {}),
        transfer.second_copier.copy_blobs(replace(work, run_id="run-2"), ["a.json.gz"], {}),
    )
    results = [result for part in both for result in part]
    assert [result.code for result in results] == [None, None]
    assert sorted(result.transferred for result in results) == [False, True]
    assert len({(result.destination_etag, result.sha256, result.rows) for result in results}) == 1
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None and landed[0] == data


async def test_a_streaming_and_a_fetching_rival_never_mix_their_blocks(
    transfer: AzuriteTransfer,
) -> None:
    data = gzip_members(3 * BLOCK)
    await transfer.put_source("a.json.gz", data)
    await asyncio.gather(
        *(
            copier.copy_blobs(replace(transfer.request, mode=mode), ["a.json.gz"], {})
            for copier, mode in ((transfer.copier, STREAM), (transfer.second_copier, SERVER))
            for _ in range(2)
        )
    )
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None and landed[0] == data


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"sourceetag": "%22other%22", "manifestetag": "W%2F%22%C3%BCn%C3%AFque-eTag%22"},
        {"manifestetag": "other"},
    ],
)
@pytest.mark.parametrize("mode", ["stream", "server"])
async def test_a_foreign_blob_is_neither_overwritten_nor_deleted(
    transfer: AzuriteTransfer, metadata: dict[str, str], mode: str
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    async with BlobServiceClient.from_connection_string(
        transfer.azurite.landing.connection_string
    ) as raw:
        await raw.get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz").upload_blob(
            b"theirs", metadata=metadata
        )
    before = await transfer.get_landed("a.json.gz")
    result = (await transfer.copy(["a.json.gz"], mode=mode))["a.json.gz"]
    assert (result.proven, result.code, result.transferred) == (False, "foreign_blob", False)
    assert await transfer.get_landed("a.json.gz") == before


@pytest.mark.parametrize("mode", ["stream", "server"])
@pytest.mark.parametrize("why", DAMAGED)
async def test_what_fails_its_proof_is_not_landed(
    transfer: AzuriteTransfer, mode: str, why: str
) -> None:
    await transfer.put_source("a.json.gz", DAMAGED[why])
    result = (await transfer.copy(["a.json.gz"], mode=mode))["a.json.gz"]
    assert (result.proven, result.code) == (
        False,
        "proof_lines" if why == "no JSON" else "proof_gzip",
    )
    assert await everything(transfer) == []


async def test_a_large_damaged_blob_is_never_committed(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", gzip_members(3 * BLOCK)[:-3])
    result = (await transfer.copy(["a.json.gz"]))["a.json.gz"]
    assert (
        result.code == "proof_gzip"
        and await everything(transfer) == []
        and "PUT blocklist" not in transfer.landing_requests
    )


@pytest.mark.parametrize("mode", ["stream", "server"])
async def test_a_source_whose_md5_is_another_is_not_landed(
    transfer: AzuriteTransfer, mode: str
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    blob = transfer.source_container.get_blob_client(
        "PartnerTenantId=0f1c/InvoiceId=G016907411/a.json.gz"
    )
    from azure.storage.blob import ContentSettings

    await blob.set_http_headers(ContentSettings(content_md5=bytearray(16)))
    assert (await transfer.copy(["a.json.gz"], mode=mode))[
        "a.json.gz"
    ].code == "proof_md5" and await everything(transfer) == []


async def test_damage_of_a_landed_blob_is_found_and_cured(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    good = (await transfer.copy(["a.json.gz"]))["a.json.gz"]
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None
    async with BlobServiceClient.from_connection_string(
        transfer.azurite.landing.connection_string
    ) as raw:
        blob = raw.get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz")
        broken = SMALL[:100] + bytes([SMALL[100] ^ 255]) + SMALL[101:]
        await blob.upload_blob(broken, overwrite=True, metadata=dict(landed[1].metadata))
    recorded = {"a.json.gz": good.destination_etag}
    found = (await transfer.copy(["a.json.gz"], proven=recorded))["a.json.gz"]
    assert found.code in ("proof_gzip", "proof_lines") and await everything(transfer) == []
    assert (await transfer.copy(["a.json.gz"], proven=recorded))["a.json.gz"].sha256 == good.sha256


async def test_a_signature_is_renewed_before_it_ends(transfer: AzuriteTransfer) -> None:
    transfer.sas_seconds = 4
    await transfer.put_source("a.json.gz", gzip_members(6 * BLOCK))

    async def slowly(count: int, method: str) -> None:
        if method == "GET":
            await asyncio.sleep(0.7)

    transfer.reader.disturb = slowly
    transfer.copier._streamer._in_flight._most = transfer.copier._streamer._in_flight._free = (
        BLOCK  # one block at a time
    )
    result = (await transfer.copy(["a.json.gz"]))["a.json.gz"]
    assert result.proven and result.tries == 1 and transfer.fetches >= 2


async def test_a_signature_that_ends_on_the_way_costs_one_repeat(transfer: AzuriteTransfer) -> None:
    transfer.sas_seconds = 1.5
    await transfer.put_source("a.json.gz", gzip_members(2 * BLOCK + 1))

    async def too_slowly(count: int, method: str) -> None:
        if count == 3:  # the URL is made, and is sent when its signature has ended
            transfer.sas_seconds = 3600
            await asyncio.sleep(3)

    transfer.reader.disturb = too_slowly
    result = (await transfer.copy(["a.json.gz"]))["a.json.gz"]
    assert result.proven and result.tries == 2, result
    assert transfer.reader.requests == ["GET"] * 4 and transfer.fetches == 2


async def test_a_signature_that_cannot_be_renewed_is_said_and_graph_asked_once(
    transfer: AzuriteTransfer,
) -> None:
    transfer.sas_seconds = -60
    names = [f"{n}.json.gz" for n in range(30)]
    results = await transfer.copy(names)
    assert {result.code for result in results.values()} == {
        "source_sas_expired"
    } and transfer.fetches <= 3


async def test_a_signature_without_the_right_to_read(transfer: AzuriteTransfer) -> None:
    transfer.permission = ContainerSasPermissions(list=True)
    await transfer.put_source("a.json.gz", SMALL)
    assert (await transfer.copy(["a.json.gz"]))["a.json.gz"].code == "source_forbidden"


async def test_a_blob_that_is_missing(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    results = await transfer.copy(["b.json.gz", "a.json.gz"])
    assert (results["b.json.gz"].code, results["a.json.gz"].proven) == ("source_missing", True)


async def test_a_source_replaced_meanwhile_is_never_committed(transfer: AzuriteTransfer) -> None:
    data = gzip_members(3 * BLOCK)
    await transfer.put_source("a.json.gz", data)

    async def replaced(count: int, method: str) -> None:
        if count == 3:
            await transfer.put_source("a.json.gz", data[:-1] + b"x")

    transfer.reader.disturb = replaced
    result = (await transfer.copy(["a.json.gz"]))["a.json.gz"]
    assert (result.proven, result.code) == (False, "source_changed") and await everything(
        transfer
    ) == []


async def test_other_data_than_planned_is_not_touched(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    transfer.etag = "another"
    results = await transfer.copy(["a.json.gz", "b.json.gz"])
    assert {result.code for result in results.values()} == {
        "source_changed"
    } and transfer.reader.requests == []
    transfer.etag = transfer.request.manifest_etag
    result = (await transfer.copy(["a.json.gz"], root_directory=transfer.root + "/elsewhere"))[
        "a.json.gz"
    ]
    assert result.code == "source_changed" and await everything(transfer) == []


async def test_a_cached_manifest_of_yesterday_is_asked_anew(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    transfer.etag = "yesterday's"
    await transfer.sources.get_manifest("operation-1")
    transfer.etag = transfer.request.manifest_etag
    await asyncio.sleep(0.25)  # the pause between two fetches
    assert (await transfer.copy(["a.json.gz"]))["a.json.gz"].proven and transfer.fetches == 2


def before_block(transfer: AzuriteTransfer, number: int, act: Any) -> None:
    """Runs `act` in the moment the `number`th fetch of a block is asked of the landing account."""
    hook, seen = transfer.landing._client_settings["raw_request_hook"], 0

    def hooked(request: Any) -> None:
        nonlocal seen
        hook(request)
        if request.http_request.headers.get("x-ms-copy-source"):
            seen += 1
            if seen == number:
                act()

    transfer.landing._client_settings["raw_request_hook"] = hooked


async def test_storage_fetches_with_a_renewed_signature(transfer: AzuriteTransfer) -> None:
    transfer.sas_seconds = 1.5
    await transfer.put_source("a.json.gz", SMALL)

    def wait() -> None:
        transfer.sas_seconds = 3600
        time.sleep(2.5)

    before_block(transfer, 1, wait)
    result = (await transfer.copy(["a.json.gz"], mode="server"))["a.json.gz"]
    assert result.proven and result.copy_method == "put_block_from_url" and transfer.fetches == 2


async def test_storage_never_mixes_two_versions(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", gzip_members(3_000_000))
    path = "PartnerTenantId=0f1c/InvoiceId=G016907411/a.json.gz"

    def replaced() -> None:
        with SyncService.from_connection_string(transfer.azurite.billing.connection_string) as raw:
            raw.get_blob_client(transfer.container, path).upload_blob(b"other", overwrite=True)

    before_block(transfer, 2, replaced)
    result = (await transfer.copy(["a.json.gz"], mode="server"))["a.json.gz"]
    assert result.code == "source_changed" and await everything(transfer) == []


async def test_a_landing_container_that_is_missing(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    async with BlobServiceClient.from_connection_string(
        transfer.azurite.landing.connection_string
    ) as raw:
        await raw.delete_container(transfer.container)
    assert (await transfer.copy(["a.json.gz"]))["a.json.gz"].code == "destination_missing"


async def test_a_copy_that_is_cancelled_holds_nothing_back(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", gzip_members(6 * BLOCK))
    landing = asyncio.create_task(transfer.copy(["a.json.gz"]))

    async def cancel(count: int, method: str) -> None:
        if count == 6:
            landing.cancel()

    transfer.reader.disturb = cancel
    with pytest.raises(asyncio.CancelledError):
        await landing
    assert await everything(transfer) == []
    await asyncio.sleep(0)
    assert transfer.copier._streamer._in_flight._free == 4 * BLOCK
    transfer.reader.disturb = None
    assert (await transfer.copy(["a.json.gz"]))["a.json.gz"].proven
