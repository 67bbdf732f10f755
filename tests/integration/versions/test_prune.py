"""Retention for one key: which versions are deleted or kept, and recovery from interruptions."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from local.azurite import Azurite
from shared.clock import iso
from shared.exports import ExportKey
from shared.landing.layout import (
    latest_path,
    marker_path,
    names_path,
    report_path,
    run_path,
    version_path,
)
from shared.landing.store import LandingStore
from shared.ledger.versions import Version
from shared.versions.prune import PrunedVersion, prune_key, prune_plans
from tests.integration.ledger.ledger_rows import KEY, insert_complete_version
from tests.integration.versions.version_workspace import (
    ProcessKilledError,
    VersionWorkspace,
    create_manifest,
    part_names,
)
from tests.support.fake_storage_account import FakeStorageAccount

GRACE = timedelta(hours=72)


class RetentionWorkspace(VersionWorkspace):
    """A workspace that creates complete versions without copying blobs from a source."""

    async def copy_blobs(self, run_id: str, names: Sequence[str], body: Any = str.encode) -> None:
        run = await self.get_run(run_id)
        await self.put_blobs(run.version, run.manifest_etag, names)

    async def put_blobs(self, version: str, etag: str, names: Sequence[str]) -> None:
        metadata = {"manifestetag": quote(etag, safe="")}
        await asyncio.gather(
            *(
                self.landing.get_blob_client(f"{version_path(KEY, version)}/{name}").upload_blob(
                    b"data", metadata=metadata
                )
                for name in names
            )
        )

    async def land_daily_versions(self, *days: int) -> list[Version]:
        """Land one version with two blobs for each given day, one day apart."""
        for day in days:
            version = await insert_complete_version(
                self.ledger, etag=f"e{day}", day=day, landed_at=iso(self.clock.now())
            )
            content = b'{"etag": "e%d", "version": "%s", "blobs": []}' % (
                day,
                version.version.encode(),
            )
            await asyncio.gather(
                self.put_blobs(version.version, version.manifest_etag, part_names(2)),
                self.landing.put(marker_path(KEY, version.version), content),
            )
            if day == max(days):
                await self.landing.put(latest_path(KEY), content)
            self.clock.advance(days=1)
        return await self.list_versions()

    async def prune(self, keep: int = 1, grace: timedelta = GRACE) -> list[PrunedVersion]:
        return await prune_key(self.ledger, self.landing, KEY, keep=keep, grace=grace)

    async def list_folder(self, version: Version) -> list[str]:
        return [blob.name for blob in await self.landing.list(version_path(KEY, version.version))]

    async def list_states(self) -> list[str]:
        return [version.state for version in await self.list_versions()]


@pytest.fixture
async def workspace(azurite: Azurite, container: str) -> AsyncIterator[RetentionWorkspace]:
    async with RetentionWorkspace(azurite, container) as workspace:
        yield workspace  # type: ignore[misc]


async def test_prune_versions_beyond_count_and_grace_period_are_deleted(
    workspace: RetentionWorkspace,
) -> None:
    versions = await workspace.land_daily_versions(1, 2, 3, 4)
    workspace.clock.advance(days=1)  # superseded for 4, exactly 3 and 2 days, and not superseded
    assert await workspace.prune() == [PrunedVersion(versions[0].version, "pruned", 3)]
    assert await workspace.list_states() == ["pruned", "complete", "complete", "complete"]
    workspace.clock.advance(days=1, seconds=1)
    assert [version.version for version in await workspace.prune()] == [
        versions[2].version,
        versions[1].version,
    ]
    assert (
        await workspace.list_states() == ["pruned"] * 3 + ["complete"]
        and await workspace.prune() == []
    )
    assert [len(await workspace.list_folder(version)) for version in versions] == [0, 0, 0, 3]
    assert (await workspace.read_latest())["version"] == versions[3].version
    assert all(
        version.pruned_at and version.emptied_at
        for version in (await workspace.list_versions())[:3]
    )


async def test_prune_newest_versions_are_kept_and_zero_keeps_all(
    workspace: RetentionWorkspace,
) -> None:
    await workspace.land_daily_versions(1, 2, 3, 4)
    workspace.clock.advance(days=30)
    for keep, pruned in ((0, 0), (7, 0), (4, 0), (3, 1), (2, 2), (1, 3)):
        await workspace.prune(keep)
        assert await workspace.list_states() == ["pruned"] * pruned + ["complete"] * (4 - pruned)


async def test_prune_older_version_landed_later_starts_grace_period_at_landing(
    workspace: RetentionWorkspace,
) -> None:
    await workspace.land_daily_versions(2, 1)
    workspace.clock.advance(days=1)
    assert await workspace.prune() == []
    workspace.clock.advance(days=2)
    assert [version.version[:8] for version in await workspace.prune()] == ["20261101"]


async def test_prune_latest_version_is_never_deleted(workspace: RetentionWorkspace) -> None:
    """An invalid latest.json protects all versions; an outdated one protects newer versions."""
    versions = await workspace.land_daily_versions(1, 2, 3)
    workspace.clock.advance(days=30)
    await workspace.landing.delete(latest_path(KEY))
    older, unknown = (
        b'{"version": "%s"}' % version
        for version in (versions[0].version.encode(), b"20200101T000000Z-00000000")
    )
    for latest in (None, b"garbage", b'{"version": ""}', b"[]", unknown, older):
        if latest is not None:
            await workspace.landing.put(latest_path(KEY), latest)
        assert await workspace.prune() == [] and await workspace.list_states() == ["complete"] * 3


async def test_prune_key_with_active_run_is_skipped(workspace: RetentionWorkspace) -> None:
    await workspace.land_daily_versions(1, 2)
    workspace.clock.advance(days=30)
    run_id = await workspace.start_run("zzzz")
    assert await workspace.prune() == []
    await workspace.end_run(run_id)
    assert len(await workspace.prune()) == 1


async def test_prune_incomplete_version_is_deleted_after_week(
    workspace: RetentionWorkspace,
) -> None:
    await workspace.land_daily_versions(1)
    run_id = await workspace.start_run("zzzz")
    await workspace.plan(run_id, create_manifest(part_names(3), "e2", 2))
    await workspace.copy_blobs(run_id, part_names(3)[:2])
    await workspace.end_run(run_id)
    workspace.clock.advance(days=7)
    assert await workspace.prune(0) == []
    workspace.clock.advance(seconds=1)
    assert [(version.state, version.removed) for version in await workspace.prune(0)] == [
        ("abandoned", 2)
    ]
    assert (
        await workspace.list_states() == ["complete", "abandoned"]
        and await workspace.list_folder((await workspace.list_versions())[1]) == []
    )
    # The same data is written to a new folder.
    repeated = await workspace.plan(
        await workspace.start_run("yyyy"), create_manifest(part_names(3), "e2", 2)
    )
    assert (repeated.version.n, repeated.missing) == (2, 3)


async def test_prune_incomplete_version_with_marker_is_kept(
    workspace: RetentionWorkspace,
) -> None:
    """After a crash between the marker and the row, the next run of the key updates the row."""
    run_id = await workspace.start_run("zzzz")
    planned = create_manifest(part_names(2), "e2", 2)
    await workspace.plan(run_id, planned)
    await VersionWorkspace.copy_blobs(workspace, run_id, part_names(2))
    with (
        workspace.kill_after_write(2),
        pytest.raises(ProcessKilledError),
    ):  # the row, then the marker
        await workspace.commit(run_id)
    assert await workspace.read_marker((await workspace.list_versions())[0].version) is not None
    await workspace.end_run(run_id)
    workspace.clock.advance(days=60)
    assert await workspace.prune() == [] and await workspace.list_states() == ["landing"]


async def test_prune_foreign_blob_is_kept(workspace: RetentionWorkspace) -> None:
    old, _ = await workspace.land_daily_versions(1, 2)
    workspace.clock.advance(days=30)
    await workspace.landing.put(f"{version_path(KEY, old.version)}/notes.txt", b"somebody's")
    assert await workspace.prune() == [PrunedVersion(old.version, "pruned", 3, left=1)]
    assert await workspace.list_folder(old) == ["notes.txt"] and await workspace.prune() == []


async def test_prune_concurrent_calls_delete_once(workspace: RetentionWorkspace) -> None:
    await workspace.land_daily_versions(1, 2)
    workspace.clock.advance(days=30)
    results = await asyncio.gather(workspace.prune(), workspace.prune())
    assert sum(version.removed for group in results for version in group) == 3
    await workspace.prune()  # another call might be necessary to record that the folder is empty
    assert await workspace.prune() == []
    assert all(
        version.emptied_at
        for version in await workspace.list_versions()
        if version.state == "pruned"
    )


async def test_prune_killed_after_any_write_next_call_completes(
    workspace: RetentionWorkspace,
) -> None:
    """The five writes are the row, the marker, two blobs and the row.

    No marker exists in an incomplete folder at any time.
    """
    days = [1, 2, 3, 4, 5, 6]
    versions = await workspace.land_daily_versions(*days)
    workspace.clock.advance(days=30)
    for number, version in zip(range(1, 6), versions, strict=False):
        with workspace.kill_after_write(number) as writes, pytest.raises(ProcessKilledError):
            await workspace.prune(len(days) - number)
        assert writes.count == number
        rows = {version.version: version for version in await workspace.list_versions()}
        assert rows[version.version].state == "pruned"
        assert (
            await workspace.read_marker(version.version) is None
            or len(await workspace.list_folder(version)) == 3
        )
        remaining = await workspace.prune(len(days) - number)
        assert sum(version.removed for version in remaining) == max(0, 3 - max(0, number - 1))
        assert (
            await workspace.list_folder(version) == []
            and await workspace.prune(len(days) - number) == []
        )
    assert all(version.emptied_at for version in (await workspace.list_versions())[:5])


@pytest.mark.parametrize("held", ["_manifest.json", "part-00000.json.gz", "all"])
async def test_prune_immutable_blob_is_reported_and_retried(
    azurite: Azurite, container: str, held: str
) -> None:
    """The response is the documented one for a delete under an immutability policy or a legal hold.

    Azurite supports neither.
    """
    async with FakeStorageAccount() as account, RetentionWorkspace(azurite, container) as workspace:
        assert isinstance(workspace, RetentionWorkspace)
        await workspace.landing.close()
        workspace.landing = LandingStore(
            container=container, connection_string=account.connection_string, clock=workspace.clock
        )
        old, new = await workspace.land_daily_versions(1, 2)
        workspace.clock.advance(days=30)
        folder = version_path(KEY, old.version)
        names = ["_manifest.json", *part_names(2)] if held == "all" else [held]
        account.immutable_paths = {f"{container}/{folder}/{name}" for name in names}
        (pruned,) = await workspace.prune()
        assert (pruned.state, pruned.code) == ("pruned", "destination_full") and pruned.left >= 1
        assert (await workspace.read_marker(old.version) is None) == (held == "part-00000.json.gz")
        assert (
            await workspace.read_marker(old.version) is None
            or len(await workspace.list_folder(old)) == 3
        )
        assert [version.emptied_at for version in await workspace.list_versions()] == [
            "",
            "",
        ] and await workspace.list_states() == ["pruned", "complete"]
        assert (await workspace.prune())[0].code == "destination_full"
        account.immutable_paths.clear()
        assert (
            (await workspace.prune())[0].code == ""
            and await workspace.list_folder(old) == []
            and await workspace.prune() == []
        )
        assert await workspace.read_marker(new.version) is not None


async def test_prune_deletes_the_report_and_empty_folders(azurite: Azurite, container: str) -> None:
    """The account has a hierarchical namespace, which Azurite does not have."""
    key = ExportKey.parse("billed_reconciliation/G016907411/full")
    async with FakeStorageAccount() as account, RetentionWorkspace(azurite, container) as workspace:
        account.hierarchical = True
        await workspace.landing.close()
        landing = workspace.landing = LandingStore(
            container=container, connection_string=account.connection_string, clock=workspace.clock
        )
        versions = [
            await insert_complete_version(
                workspace.ledger, key, f"e{day}", day=day, landed_at=iso(workspace.clock.now())
            )
            for day in (1, 2)
        ]
        for version in versions:
            content = b'{"etag": "%s", "version": "%s"}' % (
                version.manifest_etag.encode(),
                version.version.encode(),
            )
            await landing.put(marker_path(key, version.version), content)
            await landing.put(latest_path(key), content)
            await landing.put(report_path("tie_out", key, version.version), b"{}")
        workspace.clock.advance(days=30)

        async def prune() -> list[PrunedVersion]:
            return await prune_key(workspace.ledger, landing, key, keep=1, grace=GRACE)

        old, new = versions
        account.immutable_paths = {f"{container}/{report_path('tie_out', key, old.version)}"}
        assert [(one.removed, one.code) for one in await prune()] == [(1, "destination_full")]
        account.immutable_paths.clear()
        assert [(one.removed, one.code) for one in await prune()] == [(0, "")]
        assert await prune() == []
        paths = {path.removeprefix(f"{container}/") for path in account.blobs}
        assert not [path for path in paths if old.version in path]
        assert {
            marker_path(key, new.version),
            report_path("tie_out", key, new.version),
            latest_path(key),
        } <= paths


async def test_prune_plans_deletes_the_folders_of_the_run(azurite: Azurite, container: str) -> None:
    async with FakeStorageAccount() as account, RetentionWorkspace(azurite, container) as workspace:
        account.hierarchical = True
        landing = LandingStore(container=container, connection_string=account.connection_string)
        run_id = await workspace.start_run()
        await landing.put(names_path(run_id, 1), b"{}")
        await workspace.end_run(run_id)
        assert await prune_plans(landing, await workspace.get_run(run_id)) == 1
        assert sorted(account.blobs) == [f"{container}/runs"]
        await landing.close()


async def test_prune_plans_active_run_is_skipped_and_ended_run_is_deleted(
    workspace: RetentionWorkspace,
) -> None:
    run_id = await workspace.start_run("zzzz")
    await workspace.plan(run_id, create_manifest(part_names(2)))
    assert await prune_plans(workspace.landing, await workspace.get_run(run_id)) == 0
    await workspace.end_run(run_id)
    assert await prune_plans(workspace.landing, await workspace.get_run(run_id)) == 2
    assert (
        await workspace.landing.list(run_path(run_id)) == []
        and await prune_plans(workspace.landing, await workspace.get_run(run_id)) == 0
    )
