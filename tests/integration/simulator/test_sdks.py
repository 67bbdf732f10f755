"""The real SDKs: Graph's client gets every dataset, storage's client reads every blob, and a SAS really expires."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, ContainerClient
from msgraph import GraphServiceClient
from msgraph.generated.models.partners.billing.failed_operation import FailedOperation
from msgraph.generated.models.partners.billing.manifest import Manifest

from local.simulator import PARTNER_TENANT_ID, Behaviour, Simulator
from tests.integration.simulator.sdk import manifest, sdk_client, start

# Graph's SDK warns of classes of its own when it imports them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:GetQueryParameters is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This class is deprecated:DeprecationWarning"),
]


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[GraphServiceClient]:
    async with sdk_client(base_url) as client:
        yield client


def read(found: Manifest, name: str) -> bytes:
    with BlobClient.from_blob_url(
        f"{found.root_directory}/{name}?{found.sas_token}", retry_total=0
    ) as blob:
        return blob.download_blob(decompress=False).readall()


@pytest.mark.parametrize("shape", ["inline", "link"])
@pytest.mark.parametrize("attribute_set", ["full", "basic"])
async def test_all_four_datasets_arrive_byte_for_byte(
    simulator: Simulator,
    client: GraphServiceClient,
    shape: str,
    attribute_set: str,
) -> None:
    simulator.behaviour = Behaviour().with_text(f"manifest={shape}")
    for key in simulator.export_keys(attribute_set):
        found = await manifest(client, await start(client, key, str(simulator.month("current"))))
        expected = simulator.expected(key)
        assert (found.e_tag, found.partner_tenant_id, found.blob_count) == (
            expected.etag,
            PARTNER_TENANT_ID,
            len(expected.blobs),
        )
        assert (
            found.root_directory
            == f"{simulator.storage.blob_url}/{expected.container}/{expected.folder}"
        )
        assert [blob.name for blob in found.blobs or []] == [blob.name for blob in expected.blobs]
        for file in expected.blobs:
            assert read(found, file.name) == file.content
    assert len(simulator.requests_of("start")) == 8 and all(
        request.path.endswith("/microsoft.graph.partners.billing.export")
        for request in simulator.requests_of("start")
    )


async def test_no_data_is_a_failed_operation(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    simulator.behaviour = replace(Behaviour(), operation_end="failed_5000", ready_after_polls=0)
    operation_id = await start(client, simulator.export_keys()[0], "")
    operation = await client.reports.partners.billing.operations.by_operation_id(operation_id).get()
    assert (
        isinstance(operation, FailedOperation)
        and operation.error
        and operation.error.code == "5000"
    )


async def test_a_sas_expires_and_the_next_read_brings_another(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    simulator.behaviour = replace(Behaviour(), sas_lifetime_seconds=3)
    key = simulator.export_keys()[0]
    name = simulator.expected(key).blobs[0].name
    operation_id = await start(client, key, "")
    found = await manifest(client, operation_id)
    assert read(found, name)
    time.sleep(3.1)  # storage goes by real time
    with pytest.raises(HttpResponseError) as refused:
        read(found, name)
    assert refused.value.status_code == 403
    assert read(await manifest(client, operation_id), name)


async def test_a_sas_lists_and_reads_and_no_more(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    key = simulator.export_keys()[0]
    expected = simulator.expected(key)
    found = await manifest(client, await start(client, key, ""))
    url = f"{simulator.storage.blob_url}/{expected.container}"
    with ContainerClient.from_container_url(f"{url}?{found.sas_token}", retry_total=0) as container:
        names = set(
            container.list_blob_names(name_starts_with=expected.folder)
        )  # other tests' simulators write there, too
        assert names >= {f"{expected.folder}/{blob.name}" for blob in expected.blobs}
        with pytest.raises(HttpResponseError) as refused:
            container.upload_blob("other", b"x")
        assert refused.value.status_code == 403


@pytest.mark.parametrize(("md5", "encoding"), [("present", "absent"), ("absent", "gzip")])
async def test_properties_of_blobs(
    simulator: Simulator, client: GraphServiceClient, md5: str, encoding: str
) -> None:
    simulator.behaviour = Behaviour().with_text(
        f"content_md5={md5}", f"content_encoding={encoding}"
    )
    key = simulator.export_keys()[0]
    file = simulator.expected(key).blobs[0]
    found = await manifest(client, await start(client, key, ""))
    with BlobClient.from_blob_url(f"{found.root_directory}/{file.name}?{found.sas_token}") as blob:
        properties = blob.get_blob_properties()
    assert properties.size == file.size
    assert properties.content_settings.content_md5 == (file.md5 if md5 == "present" else None)
    assert properties.content_settings.content_encoding == ("gzip" if encoding == "gzip" else None)
    assert read(found, file.name) == file.content


async def test_a_blob_is_written_anew_in_place(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    key = simulator.export_keys()[0]
    name = simulator.expected(key).blobs[0].name
    found = await manifest(client, await start(client, key, ""))
    simulator.rewrite_blob(key, name, b"other bytes")
    assert read(found, name) == b"other bytes"
    simulator.rewrite_blob(key, name)
    assert read(found, name) == simulator.expected(key).blobs[0].content


async def test_restated_data_has_a_folder_of_its_own(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    key = simulator.export_keys()[0]
    old = await manifest(client, await start(client, key, ""))
    simulator.restate(key)
    new = await manifest(client, await start(client, key, ""))
    assert old.e_tag != new.e_tag and old.root_directory != new.root_directory
    assert all(read(each, blob.name or "") for each in (old, new) for blob in each.blobs or [])


async def test_many_blobs_of_a_given_size(simulator: Simulator, client: GraphServiceClient) -> None:
    key = simulator.export_keys()[0]
    expected = simulator.fill(key, blobs=120, blob_bytes=16 << 10)
    found = await manifest(client, await start(client, key, ""))
    assert found.blob_count == 120
    assert read(found, expected.blobs[119].name) == expected.blobs[119].content
