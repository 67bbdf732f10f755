"""Retention of one key: what goes, what stays whatever is asked, and that being cut off or refused loses nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from local.azurite import Azurite
from shared.clock import iso
from shared.landing.layout import latest_path, marker_path, run_path, version_path
from shared.landing.store import LandingStore
from shared.ledger.versions import Version
from shared.versions.prune import PrunedVersion, prune_key, prune_plans
from tests.integration.ledger.standing import KEY, complete
from tests.integration.versions.version_workspace import Killed, Scene, manifest, parts
from tests.support.fake_storage_account import Account

GRACE = timedelta(hours=72)


class Retention(Scene):
    """A scene that makes complete versions as a run leaves them, with the marks of the copier and less work."""

    async def copy(self, run_id: str, names: Sequence[str], body: Any = str.encode) -> None:
        run = await self.run(run_id)
        await self.put(run.version, run.manifest_etag, names)

    async def put(self, version: str, etag: str, names: Sequence[str]) -> None:
        metadata = {"manifestetag": quote(etag, safe="")}
        await asyncio.gather(
            *(
                self.landing.get_blob_client(f"{version_path(KEY, version)}/{name}").upload_blob(
                    b"data", metadata=metadata
                )
                for name in names
            )
        )

    async def land_days(self, *days: int) -> list[Version]:
        """One version of two blobs after another, landed a day apart."""
        for day in days:
            version = await complete(
                self.ledger, etag=f"e{day}", day=day, landed_at=iso(self.clock.now())
            )
            told = b'{"etag": "e%d", "version": "%s", "blobs": []}' % (
                day,
                version.version.encode(),
            )
            await asyncio.gather(
                self.put(version.version, version.manifest_etag, parts(2)),
                self.landing.put(marker_path(KEY, version.version), told),
            )
            if day == max(days):
                await self.landing.put(latest_path(KEY), told)
            self.clock.pass_by(days=1)
        return await self.versions()

    async def prune(self, keep: int = 1, grace: timedelta = GRACE) -> list[PrunedVersion]:
        return await prune_key(self.ledger, self.landing, KEY, keep=keep, grace=grace)

    async def folder(self, version: Version) -> list[str]:
        return [blob.name for blob in await self.landing.list(version_path(KEY, version.version))]

    async def states(self) -> list[str]:
        return [version.state for version in await self.versions()]


@pytest.fixture
async def scene(azurite: Azurite, container: str) -> AsyncIterator[Retention]:
    async with Retention(azurite, container) as scene:
        yield scene  # type: ignore[misc]


async def test_what_is_beyond_the_count_and_superseded_for_long_goes(scene: Retention) -> None:
    versions = await scene.land_days(1, 2, 3, 4)
    scene.clock.pass_by(days=1)  # superseded for 4 days, for exactly 3, for 2, and never
    assert await scene.prune() == [PrunedVersion(versions[0].version, "pruned", 3)]
    assert await scene.states() == ["pruned", "complete", "complete", "complete"]
    scene.clock.pass_by(days=1, seconds=1)
    assert [one.version for one in await scene.prune()] == [
        versions[2].version,
        versions[1].version,
    ]
    assert await scene.states() == ["pruned"] * 3 + ["complete"] and await scene.prune() == []
    assert [len(await scene.folder(version)) for version in versions] == [0, 0, 0, 3]
    assert (await scene.latest())["version"] == versions[3].version
    assert all(one.pruned_at and one.emptied_at for one in (await scene.versions())[:3])


async def test_the_newest_are_kept_and_0_keeps_all(scene: Retention) -> None:
    await scene.land_days(1, 2, 3, 4)
    scene.clock.pass_by(days=30)
    for keep, pruned in ((0, 0), (7, 0), (4, 0), (3, 1), (2, 2), (1, 3)):
        await scene.prune(keep)
        assert await scene.states() == ["pruned"] * pruned + ["complete"] * (4 - pruned)


async def test_an_older_version_that_landed_later_counts_from_its_own_landing(
    scene: Retention,
) -> None:
    await scene.land_days(2, 1)
    scene.clock.pass_by(days=1)
    assert await scene.prune() == []
    scene.clock.pass_by(days=2)
    assert [one.version[:8] for one in await scene.prune()] == ["20261101"]


async def test_what_readers_are_pointed_to_never_goes(scene: Retention) -> None:
    """Also where latest.json is gone, cannot be read, or stayed behind: then nothing newer than it goes, nor it."""
    versions = await scene.land_days(1, 2, 3)
    scene.clock.pass_by(days=30)
    await scene.landing.delete(latest_path(KEY))
    older, unknown = (
        b'{"version": "%s"}' % one
        for one in (versions[0].version.encode(), b"20200101T000000Z-00000000")
    )
    for latest in (None, b"garbage", b'{"version": ""}', b"[]", unknown, older):
        if latest is not None:
            await scene.landing.put(latest_path(KEY), latest)
        assert await scene.prune() == [] and await scene.states() == ["complete"] * 3


async def test_a_key_at_work_is_passed_over(scene: Retention) -> None:
    await scene.land_days(1, 2)
    scene.clock.pass_by(days=30)
    run_id = await scene.start("zzzz")
    assert await scene.prune() == []
    await scene.end(run_id)
    assert len(await scene.prune()) == 1


async def test_a_folder_that_no_run_finished_goes_after_a_week(scene: Retention) -> None:
    await scene.land_days(1)
    run_id = await scene.start("zzzz")
    await scene.plan(run_id, manifest(parts(3), "e2", 2))
    await scene.copy(run_id, parts(3)[:2])
    await scene.end(run_id)
    scene.clock.pass_by(days=7)
    assert await scene.prune(0) == []
    scene.clock.pass_by(seconds=1)
    assert [(one.state, one.removed) for one in await scene.prune(0)] == [("abandoned", 2)]
    assert (
        await scene.states() == ["complete", "abandoned"]
        and await scene.folder((await scene.versions())[1]) == []
    )
    again = await scene.plan(
        await scene.start("yyyy"), manifest(parts(3), "e2", 2)
    )  # the same data: a folder of its own
    assert (again.version.n, again.missing) == (2, 3)


async def test_a_version_whose_marker_is_written_is_not_abandoned(scene: Retention) -> None:
    """A crash between the marker and the row: all is there, and the next run of the key says so in the row."""
    run_id = await scene.start("zzzz")
    planned = manifest(parts(2), "e2", 2)
    await scene.plan(run_id, planned)
    await Scene.copy(scene, run_id, parts(2))
    with scene.kill_behind(2), pytest.raises(Killed):  # the row's facts, then the marker
        await scene.commit(run_id)
    assert await scene.marker((await scene.versions())[0].version) is not None
    await scene.end(run_id)
    scene.clock.pass_by(days=60)
    assert await scene.prune() == [] and await scene.states() == ["landing"]


async def test_a_blob_of_somebody_else_is_left(scene: Retention) -> None:
    old, _ = await scene.land_days(1, 2)
    scene.clock.pass_by(days=30)
    await scene.landing.put(f"{version_path(KEY, old.version)}/notes.txt", b"somebody's")
    assert await scene.prune() == [PrunedVersion(old.version, "pruned", 3, left=1)]
    assert await scene.folder(old) == ["notes.txt"] and await scene.prune() == []


async def test_two_at_once_prune_once(scene: Retention) -> None:
    await scene.land_days(1, 2)
    scene.clock.pass_by(days=30)
    both = await asyncio.gather(scene.prune(), scene.prune())
    assert sum(one.removed for part in both for one in part) == 3
    await scene.prune()  # one more look may be needed to see that all is gone
    assert await scene.prune() == []
    assert all(one.emptied_at for one in await scene.versions() if one.state == "pruned")


async def test_cut_off_behind_any_write_the_next_call_ends_it(scene: Retention) -> None:
    """Row, marker, two blobs, row: five writes. Nobody ever finds a marker over a folder with a hole in it."""
    days = [1, 2, 3, 4, 5, 6]
    versions = await scene.land_days(*days)
    scene.clock.pass_by(days=30)
    for number, version in zip(range(1, 6), versions, strict=False):
        with scene.kill_behind(number) as writes, pytest.raises(Killed):
            await scene.prune(len(days) - number)
        assert writes.count == number
        rows = {one.version: one for one in await scene.versions()}
        assert rows[version.version].state == "pruned"
        assert await scene.marker(version.version) is None or len(await scene.folder(version)) == 3
        rest = await scene.prune(len(days) - number)
        assert sum(one.removed for one in rest) == max(0, 3 - max(0, number - 1))
        assert await scene.folder(version) == [] and await scene.prune(len(days) - number) == []
    assert all(one.emptied_at for one in (await scene.versions())[:5])


@pytest.mark.parametrize("held", ["_manifest.json", "part-00000.json.gz", "all"])
async def test_a_policy_that_forbids_it_is_said_and_tried_again(
    azurite: Azurite, container: str, held: str
) -> None:
    """The documented answer to a delete under an immutability policy or a legal hold; the emulator knows neither."""
    async with Account() as account, Retention(azurite, container) as scene:
        assert isinstance(scene, Retention)
        await scene.landing.close()
        scene.landing = LandingStore(
            container=container, connection_string=account.connection_string, clock=scene.clock
        )
        old, new = await scene.land_days(1, 2)
        scene.clock.pass_by(days=30)
        folder = version_path(KEY, old.version)
        names = ["_manifest.json", *parts(2)] if held == "all" else [held]
        account.held = {f"{container}/{folder}/{name}" for name in names}
        (said,) = await scene.prune()
        assert (said.state, said.code) == ("pruned", "destination_full") and said.left >= 1
        assert (await scene.marker(old.version) is None) == (held == "part-00000.json.gz")
        assert await scene.marker(old.version) is None or len(await scene.folder(old)) == 3
        assert [one.emptied_at for one in await scene.versions()] == [
            "",
            "",
        ] and await scene.states() == ["pruned", "complete"]
        assert (await scene.prune())[0].code == "destination_full"
        account.held.clear()
        assert (
            (await scene.prune())[0].code == ""
            and await scene.folder(old) == []
            and await scene.prune() == []
        )
        assert await scene.marker(new.version) is not None


async def test_plans_go_when_their_run_has_ended(scene: Retention) -> None:
    run_id = await scene.start("zzzz")
    await scene.plan(run_id, manifest(parts(2)))
    assert await prune_plans(scene.landing, await scene.run(run_id)) == 0
    await scene.end(run_id)
    assert await prune_plans(scene.landing, await scene.run(run_id)) == 2
    assert (
        await scene.landing.list(run_path(run_id)) == []
        and await prune_plans(scene.landing, await scene.run(run_id)) == 0
    )
