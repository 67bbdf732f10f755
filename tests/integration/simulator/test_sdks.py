"""With the real SDKs, the Graph client exports all datasets, and the storage client reads them."""

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

# The Graph SDK uses its own deprecated classes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:GetQueryParameters is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This class is deprecated:DeprecationWarning"),
]


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[GraphServiceClient]:
    async with sdk_client(base_url) as client:
        yield client


def read(exported: Manifest, name: str) -> bytes:
    with BlobClient.from_blob_url(
        f"{exported.root_directory}/{name}?{exported.sas_token}", retry_total=0
    ) as blob:
        return blob.download_blob(decompress=False).readall()


@pytest.mark.parametrize("shape", ["inline", "link"])
@pytest.mark.parametrize("attribute_set", ["full", "basic"])
async def test_export_with_graph_sdk_returns_expected_blobs(
    simulator: Simulator,
    client: GraphServiceClient,
    shape: str,
    attribute_set: str,
) -> None:
    simulator.behaviour = Behaviour().with_switches(f"manifest={shape}")
    for key in simulator.export_keys(attribute_set):
        exported = await manifest(client, await start(client, key, str(simulator.month("current"))))
        expected = simulator.expected(key)
        assert (exported.e_tag, exported.partner_tenant_id, exported.blob_count) == (
            expected.etag,
            PARTNER_TENANT_ID,
            len(expected.blobs),
        )
        assert (
            exported.root_directory
            == f"{simulator.storage.blob_url}/{expected.container}/{expected.folder}"
        )
        assert [blob.name for blob in exported.blobs or []] == [
            blob.name for blob in expected.blobs
        ]
        for file in expected.blobs:
            assert read(exported, file.name) == file.content
    actions = [request.path.rsplit("/", 1)[-1] for request in simulator.requests_of("start")]
    assert actions == ["microsoft.graph.partners.billing.export"] * 8


async def test_export_without_data_returns_failed_operation(
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


async def test_sas_expires_and_next_read_returns_new_one(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    simulator.behaviour = replace(Behaviour(), sas_lifetime_seconds=3)
    key = simulator.export_keys()[0]
    name = simulator.expected(key).blobs[0].name
    operation_id = await start(client, key, "")
    exported = await manifest(client, operation_id)
    assert read(exported, name)
    time.sleep(3.1)  # the storage uses real time
    with pytest.raises(HttpResponseError) as error:
        read(exported, name)
    assert error.value.status_code == 403
    assert read(await manifest(client, operation_id), name)


async def test_sas_allows_only_list_and_read(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    key = simulator.export_keys()[0]
    expected = simulator.expected(key)
    exported = await manifest(client, await start(client, key, ""))
    url = f"{simulator.storage.blob_url}/{expected.container}"
    with ContainerClient.from_container_url(
        f"{url}?{exported.sas_token}", retry_total=0
    ) as container:
        names = set(
            container.list_blob_names(name_starts_with=expected.folder)
        )  # other tests write to this container, too
        assert names >= {f"{expected.folder}/{blob.name}" for blob in expected.blobs}
        with pytest.raises(HttpResponseError) as error:
            container.upload_blob("other", b"x")
        assert error.value.status_code == 403


@pytest.mark.parametrize(("md5", "encoding"), [("present", "absent"), ("absent", "gzip")])
async def test_content_switches_determine_blob_properties(
    simulator: Simulator, client: GraphServiceClient, md5: str, encoding: str
) -> None:
    simulator.behaviour = Behaviour().with_switches(
        f"content_md5={md5}", f"content_encoding={encoding}"
    )
    key = simulator.export_keys()[0]
    file = simulator.expected(key).blobs[0]
    exported = await manifest(client, await start(client, key, ""))
    with BlobClient.from_blob_url(
        f"{exported.root_directory}/{file.name}?{exported.sas_token}"
    ) as blob:
        properties = blob.get_blob_properties()
    assert properties.size == file.size
    assert properties.content_settings.content_md5 == (file.md5 if md5 == "present" else None)
    assert properties.content_settings.content_encoding == ("gzip" if encoding == "gzip" else None)
    assert read(exported, file.name) == file.content


async def test_rewrite_blob_replaces_content(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    key = simulator.export_keys()[0]
    name = simulator.expected(key).blobs[0].name
    exported = await manifest(client, await start(client, key, ""))
    simulator.rewrite_blob(key, name, b"other bytes")
    assert read(exported, name) == b"other bytes"
    simulator.rewrite_blob(key, name)
    assert read(exported, name) == simulator.expected(key).blobs[0].content


async def test_restate_writes_to_new_folder(
    simulator: Simulator, client: GraphServiceClient
) -> None:
    key = simulator.export_keys()[0]
    old = await manifest(client, await start(client, key, ""))
    simulator.restate(key)
    new = await manifest(client, await start(client, key, ""))
    assert old.e_tag != new.e_tag and old.root_directory != new.root_directory
    assert all(read(each, blob.name or "") for each in (old, new) for blob in each.blobs or [])


async def test_fill_writes_many_blobs(simulator: Simulator, client: GraphServiceClient) -> None:
    key = simulator.export_keys()[0]
    expected = simulator.fill(key, blobs=120, blob_bytes=16 << 10)
    exported = await manifest(client, await start(client, key, ""))
    assert exported.blob_count == 120
    assert read(exported, expected.blobs[119].name) == expected.blobs[119].content
