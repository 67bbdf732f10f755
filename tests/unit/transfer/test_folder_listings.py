"""One listing for a run and process; a listing that fails is asked again; what is landed since is known."""

import asyncio
from dataclasses import replace

import pytest

from shared.errors import UnavailableError
from shared.transfer.folder_listings import KEPT, FolderListings
from shared.transfer.models import TransferRequest

WORK = TransferRequest("run-1", "operation-1", "data/v", "etag", "root")


class Landing:
    def __init__(self) -> None:
        self.listed: list[str] = []
        self.fails = 0

    async def names(self, folder: str) -> set[str]:
        self.listed.append(folder)
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise UnavailableError("destination_unreachable")
        return {"a.gz"}


async def test_a_hundred_blobs_ask_once() -> None:
    landing = Landing()
    folders = FolderListings(landing.names)
    held = await asyncio.gather(
        *(folders.may_hold(WORK, name) for name in ["a.gz", *(f"{n}.gz" for n in range(99))])
    )
    assert held == [True, *[False] * 99] and landing.listed == ["data/v"]


async def test_another_run_looks_anew() -> None:
    landing = Landing()
    folders = FolderListings(landing.names)
    await folders.may_hold(WORK, "b.gz")
    folders.landed(WORK, "b.gz")
    assert await folders.may_hold(WORK, "b.gz")
    assert (
        not await folders.may_hold(replace(WORK, run_id="run-2"), "b.gz")
        and len(landing.listed) == 2
    )


async def test_a_listing_that_fails_is_the_failure_of_that_blob_and_asked_again() -> None:
    landing = Landing()
    landing.fails = 1
    folders = FolderListings(landing.names)
    with pytest.raises(UnavailableError):
        await folders.may_hold(WORK, "b.gz")
    assert not await folders.may_hold(WORK, "b.gz") and len(landing.listed) == 2


async def test_the_oldest_are_forgotten_and_nothing_is_noted_of_them() -> None:
    landing = Landing()
    folders = FolderListings(landing.names)
    for number in range(KEPT + 1):
        await folders.may_hold(replace(WORK, run_id=f"run-{number}"), "b.gz")
    folders.landed(replace(WORK, run_id="run-0"), "b.gz")
    assert (
        not await folders.may_hold(replace(WORK, run_id="run-0"), "b.gz")
        and len(landing.listed) == KEPT + 2
    )
