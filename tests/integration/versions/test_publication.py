"""The daily verification of what readers see of an export key."""

import pytest

from shared.landing.layout import latest_path, marker_path, version_path
from shared.ledger.versions import Version
from shared.versions.publication import verify_published
from tests.integration.ledger.ledger_rows import KEY
from tests.integration.versions.version_workspace import (
    VersionWorkspace,
    create_manifest,
    part_names,
)


@pytest.fixture
async def versions(workspace: VersionWorkspace) -> list[Version]:
    """Two complete versions of the key, the older one first."""
    await workspace.land_version(create_manifest(part_names(2), "e0", 6), "aaaa")
    await workspace.land_version(create_manifest(part_names(3), "e1", 7), "aaab")
    return await workspace.list_versions()


async def verify(workspace: VersionWorkspace) -> None:
    await verify_published(workspace.ledger, workspace.landing, KEY)


async def get_catalogue_versions(workspace: VersionWorkspace) -> tuple[str, str]:
    entry = await workspace.ledger.catalogue.get(KEY)
    assert entry is not None
    return entry.version, entry.damaged_version


async def delete_blob(workspace: VersionWorkspace, version: Version) -> None:
    name = part_names(1)[0]
    assert await workspace.landing.delete(f"{version_path(KEY, version.version)}/{name}")


async def test_verify_published_intact_version_changes_nothing(
    workspace: VersionWorkspace, versions: list[Version]
) -> None:
    before = await workspace.read_state()
    await verify(workspace)
    assert await workspace.read_state() == before


async def test_verify_published_version_that_lost_a_blob_is_damaged(
    workspace: VersionWorkspace, versions: list[Version]
) -> None:
    older, newer = versions
    await delete_blob(workspace, newer)
    await verify(workspace)
    latest = await workspace.read_latest()
    assert (latest["version"], latest["sequence"]) == (older.version, 3)
    assert [version.state for version in await workspace.list_versions()] == ["complete", "damaged"]
    assert await workspace.read_marker(newer.version) is None
    assert await get_catalogue_versions(workspace) == (older.version, newer.version)
    await delete_blob(workspace, older)
    await verify(workspace)
    assert await workspace.read_latest() is None
    assert await get_catalogue_versions(workspace) == ("", newer.version)


async def test_verify_published_deleted_completion_marker_is_damage(
    workspace: VersionWorkspace, versions: list[Version]
) -> None:
    older, newer = versions
    await workspace.landing.delete(marker_path(KEY, newer.version))
    await verify(workspace)
    assert (await workspace.read_latest())["version"] == older.version
    assert await get_catalogue_versions(workspace) == (older.version, newer.version)


@pytest.mark.parametrize("body", [None, b"garbage", b'{"version": "another"}'])
async def test_verify_published_lost_latest_json_is_written_again(
    workspace: VersionWorkspace, versions: list[Version], body: bytes | None
) -> None:
    expected = await workspace.read_latest()
    if body is None:
        await workspace.landing.delete(latest_path(KEY))
    else:
        await workspace.landing.put(latest_path(KEY), body)
    await verify(workspace)
    assert await workspace.read_latest() == {**expected, "sequence": expected["sequence"] + 1}


async def test_verify_published_completes_an_interrupted_withdrawal(
    workspace: VersionWorkspace, versions: list[Version]
) -> None:
    older, newer = versions
    await delete_blob(workspace, newer)
    assert await workspace.ledger.versions.change_state(newer, "damaged")
    await verify(workspace)
    assert (await workspace.read_latest())["version"] == older.version
    assert await workspace.read_marker(newer.version) is None


async def test_verify_published_skips_a_key_that_a_run_holds(
    workspace: VersionWorkspace, versions: list[Version]
) -> None:
    await delete_blob(workspace, versions[1])
    await workspace.start_run("aaac")
    before = await workspace.read_state()
    await verify(workspace)
    assert await workspace.read_state() == before
