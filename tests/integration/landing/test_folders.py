"""Empty folders of accounts with a hierarchical namespace, which the emulator does not have."""

from collections.abc import AsyncIterator

import pytest

from shared.errors import BillingExportError
from shared.landing.store import LandingStore
from tests.support.fake_storage_account import FakeStorageAccount, StorageRequest, storage_error

VERSION = "data/d/invoice_id=G1/attribute_set=full/version=a"
ROOT = "data/d"


@pytest.fixture
async def account() -> AsyncIterator[FakeStorageAccount]:
    async with FakeStorageAccount() as account:
        account.hierarchical = True
        yield account


@pytest.fixture
async def store(account: FakeStorageAccount) -> AsyncIterator[LandingStore]:
    store = LandingStore(container="c", prefix="lake", connection_string=account.connection_string)
    yield store
    await store.close()


def list_paths(account: FakeStorageAccount) -> list[str]:
    return sorted(path.removeprefix("c/lake/") for path in account.blobs)


async def test_delete_empty_folders_deletes_them_from_the_deepest_up(
    account: FakeStorageAccount, store: LandingStore
) -> None:
    paths = [f"{VERSION}/deep/er/part-0", f"{VERSION}/part-1", f"{VERSION}-2/part-0"]
    for path in paths:
        await store.put(path, b"x")
    for path in paths[:2]:
        assert await store.delete(path)
    assert await store.delete_empty_folders(VERSION, root=ROOT) == 3
    assert VERSION not in list_paths(account)
    assert {f"{VERSION}-2", f"{VERSION}-2/part-0"} <= set(list_paths(account))
    assert await store.delete(paths[2])
    # The folders above the version are empty too, up to the one that is kept.
    assert await store.delete_empty_folders(f"{VERSION}-2", root=ROOT) == 3
    assert list_paths(account) == ["c/lake", "data", "data/d"]
    assert await store.delete_empty_folders(VERSION, root=ROOT) == 0


async def test_delete_empty_folders_keeps_a_folder_with_a_blob(
    account: FakeStorageAccount, store: LandingStore
) -> None:
    await store.put(f"{VERSION}/deep/notes.txt", b"x")
    await store.put(f"{VERSION}/empty/part-0", b"x")
    await store.delete(f"{VERSION}/empty/part-0")
    assert await store.delete_empty_folders(VERSION, root=ROOT) == 1
    assert f"{VERSION}/deep/notes.txt" in list_paths(account)
    assert f"{VERSION}/empty" not in list_paths(account)


async def test_delete_empty_folders_blob_is_created_meanwhile_keeps_it(
    account: FakeStorageAccount, store: LandingStore
) -> None:
    """The service rejects the delete of a directory that is not empty: it is not recursive."""
    await store.put(f"{VERSION}/part-0", b"x")
    await store.delete(f"{VERSION}/part-0")

    def create_blob(request: StorageRequest) -> bytes:
        if request.kind == "DELETE":
            account.put(f"c/lake/{VERSION}/part-1", b"x")
        return b""

    account.faults.append(create_blob)
    assert await store.delete_empty_folders(VERSION, root=ROOT) == 0
    assert f"{VERSION}/part-1" in list_paths(account)
    deletes = [request for request in account.requests if request.kind == "DELETE"][1:]
    assert [request.path for request in deletes] == [f"c/lake/{VERSION}"]
    assert "recursive" not in deletes[0].http.target


async def test_delete_empty_folders_rejected_delete_is_an_error(
    account: FakeStorageAccount, store: LandingStore
) -> None:
    await store.put(f"{VERSION}/part-0", b"x")
    await store.delete(f"{VERSION}/part-0")
    account.faults.append(
        lambda request: (
            storage_error(403, "AuthorizationPermissionMismatch")
            if request.kind == "DELETE"
            else b""
        )
    )
    with pytest.raises(BillingExportError, match="destination_forbidden"):
        await store.delete_empty_folders(VERSION, root=ROOT)


async def test_delete_empty_folders_flat_account_keeps_the_marker_of_a_folder_with_blobs(
    account: FakeStorageAccount, store: LandingStore
) -> None:
    account.hierarchical = False
    await store.put(f"{VERSION}/part-0", b"x")
    marker = account.put(f"c/lake/{VERSION}", b"")  # another tool marks the folder
    marker.metadata = {"hdi_isfolder": "true"}
    assert await store.delete_empty_folders(VERSION, root=ROOT) == 0
    assert "DELETE" not in account.request_kinds()
