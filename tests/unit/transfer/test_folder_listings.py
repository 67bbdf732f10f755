"""One listing of each folder per run and process."""

import asyncio
from dataclasses import replace

import pytest

from shared.errors import UnavailableError
from shared.transfer.folder_listings import MAX_FOLDERS, FolderListings
from shared.transfer.models import TransferRequest

REQUEST = TransferRequest("run-1", "operation-1", "data/v", "etag", "root")


class FakeLanding:
    def __init__(self) -> None:
        self.listed: list[str] = []
        self.fails = 0

    async def list_names(self, folder: str) -> set[str]:
        self.listed.append(folder)
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise UnavailableError("destination_unreachable")
        return {"a.gz"}


async def test_may_contain_lists_the_folder_once() -> None:
    landing = FakeLanding()
    folders = FolderListings(landing.list_names)
    held = await asyncio.gather(
        *(folders.may_contain(REQUEST, name) for name in ["a.gz", *(f"{n}.gz" for n in range(99))])
    )
    assert held == [True, *[False] * 99] and landing.listed == ["data/v"]


async def test_may_contain_lists_the_folder_again_for_another_run() -> None:
    landing = FakeLanding()
    folders = FolderListings(landing.list_names)
    await folders.may_contain(REQUEST, "b.gz")
    folders.add(REQUEST, "b.gz")
    assert await folders.may_contain(REQUEST, "b.gz")
    assert (
        not await folders.may_contain(replace(REQUEST, run_id="run-2"), "b.gz")
        and len(landing.listed) == 2
    )


async def test_a_listing_that_fails_is_the_failure_of_that_blob_and_asked_again() -> None:
    landing = FakeLanding()
    landing.fails = 1
    folders = FolderListings(landing.list_names)
    with pytest.raises(UnavailableError):
        await folders.may_contain(REQUEST, "b.gz")
    assert not await folders.may_contain(REQUEST, "b.gz") and len(landing.listed) == 2


async def test_the_oldest_are_forgotten_and_nothing_is_noted_of_them() -> None:
    landing = FakeLanding()
    folders = FolderListings(landing.list_names)
    for number in range(MAX_FOLDERS + 1):
        await folders.may_contain(replace(REQUEST, run_id=f"run-{number}"), "b.gz")
    folders.add(replace(REQUEST, run_id="run-0"), "b.gz")
    assert (
        not await folders.may_contain(replace(REQUEST, run_id="run-0"), "b.gz")
        and len(landing.listed) == MAX_FOLDERS + 2
    )
