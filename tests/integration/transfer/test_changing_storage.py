"""Copies while storage changes: concurrent copiers, changed data, expired signatures and damage."""

import asyncio
import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, ContentSettings

from local.azurite import Azurite
from shared.transfer.models import CopyMode
from tests.integration.transfer.azurite_transfer import (
    BLOCK_BYTES,
    FOLDER,
    SOURCE_FOLDER,
    AzuriteTransfer,
    gzip_members,
    json_rows,
)

STREAM: CopyMode = "stream"
SERVER: CopyMode = "server"
SMALL = gzip.compress(json_rows(200))
DAMAGED_CONTENT = {
    "truncated": SMALL[:-5],
    "wrong_checksum": SMALL[:-1] + bytes([SMALL[-1] ^ 1]),
    "trailing_data": SMALL + b"garbage",
    "not_json": gzip.compress(b"<html></html>"),
}


@pytest.mark.parametrize(
    ("size", "mode"),
    [(100, "stream"), (2 * BLOCK_BYTES + 1, "stream"), (2 * BLOCK_BYTES + 1, "server")],
)
async def test_copy_blobs_concurrent_copiers_transfers_once(
    transfer: AzuriteTransfer, size: int, mode: Any
) -> None:
    data = gzip_members(size) if size > BLOCK_BYTES else SMALL
    await transfer.put_source("a.json.gz", data)
    request = replace(transfer.request, mode=mode)
    results_by_copier = await asyncio.gather(
        transfer.copier.copy_blobs(request, ["a.json.gz"], {}),
        transfer.second_copier.copy_blobs(replace(request, run_id="run-2"), ["a.json.gz"], {}),
    )
    results = [result for group in results_by_copier for result in group]
    assert [result.code for result in results] == [None, None]
    assert sorted(result.transferred for result in results) == [False, True]
    assert (
        len(
            {
                (result.destination_etag, result.facts.sha256, result.facts.rows)
                for result in results
            }
        )
        == 1
    )
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None and landed[0] == data


async def test_copy_blobs_concurrent_copy_methods_does_not_mix_blocks(
    transfer: AzuriteTransfer,
) -> None:
    data = gzip_members(3 * BLOCK_BYTES)
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
async def test_copy_blobs_foreign_blob_is_not_changed(
    transfer: AzuriteTransfer, metadata: dict[str, str], mode: str
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    async with transfer.open_landing_service() as service:
        await service.get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz").upload_blob(
            b"foreign", metadata=metadata
        )
    before = await transfer.get_landed("a.json.gz")
    result = await transfer.copy_blob("a.json.gz", mode=mode)
    assert (result.proven, result.code, result.transferred) == (False, "foreign_blob", False)
    assert await transfer.get_landed("a.json.gz") == before


@pytest.mark.parametrize("mode", ["stream", "server"])
@pytest.mark.parametrize("size", [100, 2 * BLOCK_BYTES + 1])
async def test_copy_blobs_source_rewritten_after_interrupted_copy_replaces_blob(
    transfer: AzuriteTransfer, size: int, mode: str
) -> None:
    data = gzip_members(size) if size > BLOCK_BYTES else SMALL
    await transfer.put_source("a.json.gz", data)
    first = await transfer.copy_blob("a.json.gz", mode=mode)  # no row was written
    await transfer.put_source("a.json.gz", data)
    second = await transfer.copy_blob("a.json.gz", mode=mode)
    assert (second.proven, second.code, second.transferred) == (True, None, True)
    assert second.source_etag != first.source_etag
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None and landed[0] == data
    assert landed[1].etag == second.destination_etag != first.destination_etag
    third = await transfer.copy_blob("a.json.gz")
    assert (third.proven, third.copy_method) == (True, "in_place")


async def test_copy_blobs_replaced_blob_changed_meanwhile_is_not_overwritten(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    await transfer.copy_blob("a.json.gz")
    await transfer.put_source("a.json.gz", SMALL)

    async def change(count: int, method: str) -> None:
        if method == "GET":
            await asyncio.to_thread(
                BlobServiceClient.from_connection_string(transfer.azurite.landing.connection_string)
                .get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz")
                .upload_blob,
                b"foreign",
                overwrite=True,
            )

    transfer.reader.before_request = change
    result = await transfer.copy_blob("a.json.gz")
    assert (result.proven, result.code) == (False, "foreign_blob")
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None and landed[0] == b"foreign"


@pytest.mark.parametrize("proof", ["content", "transfer"])
@pytest.mark.parametrize("change", ["metadata", "added_metadata", "properties"])
async def test_copy_blobs_metadata_changed_by_other_tool_proves_and_merges(
    transfer: AzuriteTransfer, change: str, proof: str
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    first = await transfer.copy_blob("a.json.gz", proof=proof)
    before = await transfer.get_landed("a.json.gz")
    assert before is not None
    await change_blob(transfer, change, before[1].metadata)
    second = await transfer.copy_blob(
        "a.json.gz", proof=proof, proven={"a.json.gz": first.to_row("run-1")}
    )
    assert (second.proven, second.code, second.copy_method) == (True, None, "in_place")
    assert (second.facts, second.transferred, second.rejected_change) == (first.facts, False, "")
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None and landed[1].etag == second.destination_etag
    own = dict(before[1].metadata)
    assert landed[1].metadata == (own if change == "properties" else own | {"label": "secret"})
    assert (landed[1].md5, landed[1].content_type) == (before[1].md5, "application/gzip")


async def test_copy_blobs_merging_metadata_is_rejected_blob_remains_proven(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    first = await transfer.copy_blob("a.json.gz")
    await change_blob(transfer, "metadata", {})
    changed = await transfer.get_landed("a.json.gz")
    assert changed is not None

    def reject(request: Any) -> None:
        if request.http_request.query.get("comp") == "metadata":
            error = HttpResponseError("The blob is immutable")
            error.status_code, error.error_code = 409, "BlobImmutableDueToPolicy"
            raise error

    transfer.before_landing_request = reject
    second = await transfer.copy_blob("a.json.gz", proven={"a.json.gz": first.to_row("run-1")})
    assert (second.proven, second.rejected_change) == (True, "destination_full")
    assert second.destination_etag == changed[1].etag and second.facts == first.facts


async def test_copy_blobs_content_changed_by_other_tool_is_foreign(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    first = await transfer.copy_blob("a.json.gz")
    async with transfer.open_landing_service() as service:
        await service.get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz").upload_blob(
            SMALL[:-1] + b"x", overwrite=True
        )
    before = await transfer.get_landed("a.json.gz")
    result = await transfer.copy_blob("a.json.gz", proven={"a.json.gz": first.to_row("run-1")})
    assert (result.proven, result.code) == (False, "foreign_blob")
    assert await transfer.get_landed("a.json.gz") == before


async def change_blob(transfer: AzuriteTransfer, change: str, metadata: Mapping[str, str]) -> None:
    """Change the metadata or the properties of a landed blob as another tool does."""
    async with transfer.open_landing_service() as service:
        blob = service.get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz")
        if change == "properties":
            await blob.set_http_headers(ContentSettings(content_type="text/plain"))
        else:
            kept = metadata if change == "added_metadata" else {}
            await blob.set_blob_metadata({**kept, "label": "secret"})


async def test_copy_in_groups_blob_in_progress_returns_finished_results(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    await transfer.put_source("b.json.gz", SMALL)
    recorded, groups = asyncio.Event(), []

    async def block(count: int, method: str) -> None:
        if count == 2:  # the second blob is read only after the result of the first one
            await recorded.wait()

    transfer.reader.before_request = block
    async for group in transfer.copier.copy_in_groups(
        transfer.request, ["a.json.gz", "b.json.gz"], {}, max_seconds=0
    ):
        groups.append([result.proven for result in group])
        recorded.set()
    assert groups == [[True], [True]]
    third = await transfer.copy(["a.json.gz", "b.json.gz"])
    assert all(result.proven for result in third.values())


async def test_copy_in_groups_many_small_blobs_returns_one_group(
    transfer: AzuriteTransfer,
) -> None:
    names = [f"{n}.json.gz" for n in range(10)]
    for name in names:
        await transfer.put_source(name, SMALL)
    groups = [group async for group in transfer.copier.copy_in_groups(transfer.request, names, {})]
    assert [len(group) for group in groups] == [10]


@pytest.mark.parametrize("mode", ["stream", "server"])
@pytest.mark.parametrize("damage", DAMAGED_CONTENT)
async def test_copy_blobs_damaged_source_is_not_landed(
    transfer: AzuriteTransfer, mode: str, damage: str
) -> None:
    await transfer.put_source("a.json.gz", DAMAGED_CONTENT[damage])
    result = await transfer.copy_blob("a.json.gz", mode=mode)
    assert (result.proven, result.code) == (
        False,
        "proof_lines" if damage == "not_json" else "proof_gzip",
    )
    assert await transfer.list_landed() == []


async def test_copy_blobs_large_damaged_source_is_not_committed(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", gzip_members(3 * BLOCK_BYTES)[:-3])
    result = await transfer.copy_blob("a.json.gz")
    assert (
        result.code == "proof_gzip"
        and await transfer.list_landed() == []
        and "PUT blocklist" not in transfer.landing_requests
    )


@pytest.mark.parametrize("mode", ["stream", "server"])
async def test_copy_blobs_wrong_source_md5_is_not_landed(
    transfer: AzuriteTransfer, mode: str
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    blob = transfer.source_container.get_blob_client(f"{SOURCE_FOLDER}/a.json.gz")
    await blob.set_http_headers(ContentSettings(content_md5=bytearray(16)))
    result = await transfer.copy_blob("a.json.gz", mode=mode)
    assert result.code == "proof_md5" and await transfer.list_landed() == []


async def test_copy_blobs_damaged_landed_blob_is_deleted_and_copied_again(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    first = await transfer.copy_blob("a.json.gz")
    landed = await transfer.get_landed("a.json.gz")
    assert landed is not None
    async with transfer.open_landing_service() as service:
        blob = service.get_blob_client(transfer.container, f"lake/{FOLDER}/a.json.gz")
        damaged = SMALL[:100] + bytes([SMALL[100] ^ 255]) + SMALL[101:]
        await blob.upload_blob(damaged, overwrite=True, metadata=dict(landed[1].metadata))
    recorded = {"a.json.gz": first.to_row("run-1")}
    second = await transfer.copy_blob("a.json.gz", proven=recorded)
    assert second.code in ("proof_gzip", "proof_lines") and await transfer.list_landed() == []
    assert (
        await transfer.copy_blob("a.json.gz", proven=recorded)
    ).facts.sha256 == first.facts.sha256


async def test_copy_blobs_signature_about_to_expire_is_renewed(
    azurite: Azurite, container: str
) -> None:
    async def delay(count: int, method: str) -> None:
        if method == "GET":
            await asyncio.sleep(0.7)

    async with AzuriteTransfer(azurite, container, max_bytes_in_flight=BLOCK_BYTES) as transfer:
        transfer.sas_seconds = 4
        await transfer.put_source("a.json.gz", gzip_members(6 * BLOCK_BYTES))
        transfer.reader.before_request = delay
        result = await transfer.copy_blob("a.json.gz")
    assert result.proven and result.tries == 1 and transfer.manifest_fetches >= 2


async def test_copy_blobs_signature_expired_during_copy_retries_once(
    transfer: AzuriteTransfer,
) -> None:
    transfer.sas_seconds = 1.5
    await transfer.put_source("a.json.gz", gzip_members(2 * BLOCK_BYTES + 1))

    async def wait_until_expired(count: int, method: str) -> None:
        if count == 3:  # the signature expires after the URL has been created
            transfer.sas_seconds = 3600
            await asyncio.sleep(3)

    transfer.reader.before_request = wait_until_expired
    result = await transfer.copy_blob("a.json.gz")
    assert result.proven and result.tries == 2, result
    assert transfer.reader.requests == ["GET"] * 4 and transfer.manifest_fetches == 2


async def test_copy_blobs_expired_signature_in_every_manifest_fails_with_few_fetches(
    transfer: AzuriteTransfer,
) -> None:
    transfer.sas_seconds = -60
    names = [f"{n}.json.gz" for n in range(30)]
    results = await transfer.copy(names)
    assert {result.code for result in results.values()} == {"source_sas_expired"}
    assert transfer.manifest_fetches <= 3


async def test_copy_blobs_signature_without_read_permission_is_forbidden(
    transfer: AzuriteTransfer,
) -> None:
    transfer.permission = ContainerSasPermissions(list=True)
    await transfer.put_source("a.json.gz", SMALL)
    assert (await transfer.copy_blob("a.json.gz")).code == "source_forbidden"


async def test_copy_blobs_missing_source_fails_only_that_blob(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    results = await transfer.copy(["b.json.gz", "a.json.gz"])
    assert (results["b.json.gz"].code, results["a.json.gz"].proven) == ("source_missing", True)


async def test_copy_blobs_source_replaced_during_copy_is_not_committed(
    transfer: AzuriteTransfer,
) -> None:
    data = gzip_members(3 * BLOCK_BYTES)
    await transfer.put_source("a.json.gz", data)

    async def replace_source(count: int, method: str) -> None:
        if count == 3:
            await transfer.put_source("a.json.gz", data[:-1] + b"x")

    transfer.reader.before_request = replace_source
    result = await transfer.copy_blob("a.json.gz")
    assert (result.proven, result.code) == (False, "source_changed")
    assert await transfer.list_landed() == []


async def test_copy_blobs_manifest_differs_from_plan_sends_no_source_request(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    transfer.manifest_etag = "other"
    results = await transfer.copy(["a.json.gz", "b.json.gz"])
    assert {result.code for result in results.values()} == {"source_changed"}
    assert transfer.reader.requests == []
    transfer.manifest_etag = transfer.request.manifest_etag
    result = await transfer.copy_blob("a.json.gz", root_directory=transfer.root + "/elsewhere")
    assert result.code == "source_changed" and await transfer.list_landed() == []


async def test_copy_blobs_outdated_cached_manifest_is_fetched_again(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    transfer.manifest_etag = "outdated"
    await transfer.sources.get_manifest("operation-1")
    transfer.manifest_etag = transfer.request.manifest_etag
    await asyncio.sleep(0.25)  # the minimum interval between two fetches
    result = await transfer.copy_blob("a.json.gz")
    assert result.proven and transfer.manifest_fetches == 2


def before_block_copy(transfer: AzuriteTransfer, number: int, act: Callable[[], None]) -> None:
    """Call `act` before the nth request that makes the landing account read a source block."""
    count = 0

    def hook(request: Any) -> None:
        nonlocal count
        if request.http_request.headers.get("x-ms-copy-source"):
            count += 1
            if count == number:
                act()

    transfer.before_landing_request = hook


async def test_server_side_copy_expired_signature_is_renewed(transfer: AzuriteTransfer) -> None:
    transfer.sas_seconds = 1.5
    await transfer.put_source("a.json.gz", SMALL)

    def wait() -> None:
        transfer.sas_seconds = 3600
        time.sleep(2.5)

    before_block_copy(transfer, 1, wait)
    result = await transfer.copy_blob("a.json.gz", mode="server")
    assert (
        result.proven
        and result.copy_method == "put_block_from_url"
        and transfer.manifest_fetches == 2
    )


async def test_server_side_copy_source_replaced_between_blocks_is_not_committed(
    transfer: AzuriteTransfer,
) -> None:
    await transfer.put_source("a.json.gz", gzip_members(3_000_000))
    path = f"{SOURCE_FOLDER}/a.json.gz"

    def replace_source() -> None:
        with BlobServiceClient.from_connection_string(
            transfer.azurite.billing.connection_string
        ) as service:
            service.get_blob_client(transfer.container, path).upload_blob(b"other", overwrite=True)

    before_block_copy(transfer, 2, replace_source)
    result = await transfer.copy_blob("a.json.gz", mode="server")
    assert result.code == "source_changed" and await transfer.list_landed() == []


async def test_copy_blobs_missing_landing_container_fails(transfer: AzuriteTransfer) -> None:
    await transfer.put_source("a.json.gz", SMALL)
    async with transfer.open_landing_service() as service:
        await service.delete_container(transfer.container)
    assert (await transfer.copy_blob("a.json.gz")).code == "destination_missing"


async def test_copy_blobs_cancelled_releases_bytes_in_flight(transfer: AzuriteTransfer) -> None:
    """Five cancelled copies would use up the four blocks in flight if each one kept a block."""
    await transfer.put_source("a.json.gz", gzip_members(6 * BLOCK_BYTES))
    for _ in range(5):
        transfer.reader.requests.clear()
        copy = asyncio.create_task(transfer.copy(["a.json.gz"]))

        async def cancel(count: int, method: str, copy: asyncio.Task[Any] = copy) -> None:
            if count == 6:
                copy.cancel()

        transfer.reader.before_request = cancel
        async with asyncio.timeout(30):
            with pytest.raises(asyncio.CancelledError):
                await copy
        assert await transfer.list_landed() == []
    transfer.reader.before_request = None
    async with asyncio.timeout(30):
        assert (await transfer.copy_blob("a.json.gz")).proven
