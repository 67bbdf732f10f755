"""Folder listings, which are cached per run and process."""

import asyncio
from dataclasses import replace

import pytest

from shared.errors import UnavailableError
from shared.transfer.folder_listings import MAX_FOLDERS, FolderListings
from shared.transfer.models import TransferRequest

REQUEST = TransferRequest("run-1", "operation-1", "data/v", "etag", "root")


class FakeLanding:
    """Lists one blob; the first `failures` requests fail."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.failures = 0

    async def list_names(self, folder: str) -> set[str]:
        self.listed.append(folder)
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise UnavailableError("destination_unreachable")
        return {"a.gz"}


async def test_may_contain_called_concurrently_lists_the_folder_once() -> None:
    landing = FakeLanding()
    folders = FolderListings(landing.list_names)
    results = await asyncio.gather(
        *(folders.may_contain(REQUEST, name) for name in ["a.gz", *(f"{n}.gz" for n in range(99))])
    )
    assert results == [True, *[False] * 99] and landing.listed == ["data/v"]


async def test_may_contain_for_another_run_lists_the_folder_again() -> None:
    landing = FakeLanding()
    folders = FolderListings(landing.list_names)
    await folders.may_contain(REQUEST, "b.gz")
    folders.add(REQUEST, "b.gz")
    assert await folders.may_contain(REQUEST, "b.gz")
    assert (
        not await folders.may_contain(replace(REQUEST, run_id="run-2"), "b.gz")
        and len(landing.listed) == 2
    )


async def test_may_contain_after_failed_listing_lists_the_folder_again() -> None:
    landing = FakeLanding()
    landing.failures = 1
    folders = FolderListings(landing.list_names)
    with pytest.raises(UnavailableError):
        await folders.may_contain(REQUEST, "b.gz")
    assert not await folders.may_contain(REQUEST, "b.gz") and len(landing.listed) == 2


async def test_may_contain_evicted_folder_is_listed_again() -> None:
    landing = FakeLanding()
    folders = FolderListings(landing.list_names)
    for number in range(MAX_FOLDERS + 1):
        await folders.may_contain(replace(REQUEST, run_id=f"run-{number}"), "b.gz")
    folders.add(replace(REQUEST, run_id="run-0"), "b.gz")
    assert (
        not await folders.may_contain(replace(REQUEST, run_id="run-0"), "b.gz")
        and len(landing.listed) == MAX_FOLDERS + 2
    )
