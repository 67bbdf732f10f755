"""Commits of versions: the completion marker, latest.json and the row, in this order.

Readers see a version only if it is complete. A commit can be repeated at any time.
"""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import InfrastructureError, PermanentError
from shared.landing.layout import latest_path, marker_path, version_path
from shared.ledger.versions import VersionState
from shared.optimistic_concurrency import MAX_ATTEMPTS
from shared.versions.commit import CommitOutcome
from tests.integration.ledger.ledger_rows import KEY
from tests.integration.versions.version_workspace import (
    ProcessKilledError,
    VersionWorkspace,
    create_manifest,
    part_names,
)


async def start_copied_run(
    workspace: VersionWorkspace,
    suffix: str = "aaaa",
    etag: str = "e1",
    day: int = 8,
    count: int = 2,
) -> str:
    """Start a run and copy all of its blobs; return its ID."""
    run = await workspace.start_run(suffix)
    await workspace.plan(run, create_manifest(part_names(count), etag, day))
    await workspace.copy_blobs(run, part_names(count))
    return run


async def test_commit_complete_version_writes_marker_latest_and_row(
    workspace: VersionWorkspace,
) -> None:
    run = await start_copied_run(workspace)
    version = (await workspace.get_run(run)).version
    committed = await workspace.commit(run)
    assert (committed.row, committed.missing) == (
        (await workspace.list_versions())[0],
        0,
    ) and committed.row.version == version
    [row] = await workspace.list_versions()
    assert (row.state, row.run_id, row.blobs, row.bytes, row.rows, row.proof, row.supersedes) == (
        "complete",
        run,
        2,
        36,
        2,
        "content",
        "",
    )
    marker, latest = await workspace.read_marker(version), await workspace.read_latest()
    assert (
        marker["etag"],
        marker["run_id"],
        marker["totals"],
        marker["request"]["operation_id"],
        marker["request"]["request_ids"],
    ) == ("e1", run, {"blobs": 2, "bytes": 36, "rows": 2}, "o-1", ["r-1", "r-2"])
    assert marker["created_at"] == latest["created_at"] == "2026-11-08T09:37:00Z" and marker[
        "columns"
    ] == ["A", "B"]
    assert (
        latest["version"],
        latest["path"],
        latest["billing_month"],
        latest["supersedes"],
        latest["rows"],
    ) == (version, version_path(KEY, version), "2026-10", None, 2)
    assert marker["path"] == row.path == latest["path"] and "sas" not in str(marker).lower()


async def test_commit_no_blobs_succeeds(workspace: VersionWorkspace) -> None:
    run = await start_copied_run(workspace, count=0)
    assert (await workspace.commit(run)).missing == 0 and (await workspace.read_latest())[
        "blobs"
    ] == 0


@pytest.mark.parametrize("missing", ["row", "blob", "other_etag", "not_proven"])
async def test_commit_missing_blob_is_counted_and_writes_nothing(
    workspace: VersionWorkspace, missing: str
) -> None:
    run = await workspace.start_run()
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    path = f"{version_path(KEY, plan.version.version)}/{part_names(3)[2]}"
    await workspace.copy_blobs(run, part_names(3) if missing != "row" else part_names(2))
    if missing == "blob":
        await workspace.landing.delete(path)
    elif missing == "other_etag":
        await workspace.landing.put(path, part_names(3)[2].encode())
    elif missing == "not_proven":
        row = await workspace.ledger.blobs.get(KEY, plan.version.version, part_names(3)[2])
        assert row is not None
        await workspace.ledger.blobs.record(
            KEY, plan.version.version, [replace(row, ok=False, code="proof_gzip")]
        )
    committed = await workspace.commit(run)
    assert (committed.row.version, committed.missing) == (plan.version.version, 1)
    assert (
        await workspace.read_latest() is None
        and await workspace.read_marker(plan.version.version) is None
    )
    assert (await workspace.list_versions())[0].state == "landing"
    await workspace.copy_blobs(run, part_names(3)[2:])
    assert (await workspace.commit(run)).missing == 0


@pytest.mark.parametrize(
    "name", ["foreign.json.gz", "deep/part-00000.json.gz", "_SUCCESS", "part-00000.json.gz.copy"]
)
async def test_commit_foreign_blob_fails(workspace: VersionWorkspace, name: str) -> None:
    run = await start_copied_run(workspace)
    await workspace.landing.put(
        f"{version_path(KEY, (await workspace.get_run(run)).version)}/{name}", b"x"
    )
    with pytest.raises(PermanentError) as foreign:
        await workspace.commit(run)
    assert (
        foreign.value.code == "foreign_blob"
        and await workspace.read_latest() is None
        and (await workspace.list_versions())[0].state == "landing"
    )


@pytest.mark.parametrize(
    "body", [b'{"etag": "e2", "blobs": []}', b'{"etag": "e1"}', b"garbage", b"[]", b"null"]
)
async def test_commit_invalid_marker_is_replaced(workspace: VersionWorkspace, body: bytes) -> None:
    run = await start_copied_run(workspace)
    version = (await workspace.get_run(run)).version
    await workspace.landing.put(marker_path(KEY, version), body)
    assert (await workspace.commit(run)).missing == 0
    assert (await workspace.read_marker(version))["totals"]["blobs"] == 2
    assert (await workspace.read_latest())["version"] == version


@pytest.mark.parametrize("member", ["bytes", "md5", "sha256", "name"])
async def test_commit_marker_of_other_content_is_replaced(
    workspace: VersionWorkspace, member: str
) -> None:
    """The marker of an interrupted repair lists the blobs as they were before."""
    run = await start_copied_run(workspace)
    version = (await workspace.get_run(run)).version
    with workspace.kill_after_write(2), pytest.raises(ProcessKilledError):
        await workspace.commit(run)
    marker = await workspace.read_marker(version)
    changed = json.loads(json.dumps(marker))
    changed["blobs"][0][member] = 1 if member == "bytes" else "other"
    await workspace.landing.put(marker_path(KEY, version), json.dumps(changed).encode())
    assert (await workspace.commit(run)).missing == 0
    assert await workspace.read_marker(version) == marker


@pytest.mark.parametrize("state", ["pruned", "abandoned"])
async def test_commit_removed_version_is_not_completed(
    workspace: VersionWorkspace, state: VersionState
) -> None:
    """Retention removes the version between the plan and the commit of a slow run."""
    run = await start_copied_run(workspace)
    [version] = await workspace.list_versions()
    if state == "pruned":
        complete = await workspace.ledger.versions.change_state(version, "complete")
        assert complete is not None
        version = complete
    assert await workspace.ledger.versions.change_state(version, state)
    assert (await workspace.commit(run)).missing == 1
    assert [version.state for version in await workspace.list_versions()] == [state]
    assert await workspace.read_latest() is None
    assert await workspace.read_marker(version.version) is None


async def test_commit_missing_plan_fails(workspace: VersionWorkspace) -> None:
    run = await start_copied_run(workspace)
    with pytest.raises(InfrastructureError, match="plan_missing"):
        await workspace.commit(run, 2)


@pytest.mark.parametrize("older", [False, True])
async def test_commit_killed_after_any_write_repeat_has_same_result(
    workspace: VersionWorkspace, older: bool
) -> None:
    """Commit new versions; kill each commit one write later, until one commit completes."""
    if older:
        await workspace.land_version(create_manifest(part_names(2), "e0", 7), "zzzz")
    expected = None
    for number in range(1, 20):
        etag = f"e{number}"
        run = await start_copied_run(
            workspace, f"aaa{'abcdefghijklmnopqrst'[number]}", etag, 8 + number
        )
        killed = False
        try:
            with workspace.kill_after_write(number):
                await workspace.commit(run)
        except ProcessKilledError:
            killed = True
            assert (await workspace.commit(run)).missing == 0
        await workspace.end_run(run)
        version = (await workspace.list_versions())[-1]
        latest, marker = await workspace.read_latest(), await workspace.read_marker(version.version)
        summary = [
            version.state,
            version.blobs,
            version.bytes,
            version.rows,
            version.run_id == run,
            latest["version"] == version.version,
            latest["etag"],
            marker["etag"],
            marker["totals"],
            marker["supersedes"] == latest["supersedes"] == (version.supersedes or None),
            len(marker["blobs"]),
        ]
        summary = ["e" if value == etag else value for value in summary]
        expected = expected or summary
        assert summary == expected
        if not killed:
            break
    assert not killed and number >= 4


async def test_commit_lost_response_of_any_write_has_same_result(
    workspace: VersionWorkspace,
) -> None:
    for number in range(1, 6):
        run = await start_copied_run(
            workspace, f"aaa{'abcdefgh'[number]}", f"e{number}", 8 + number
        )
        with workspace.lose_response_of_write(number):
            assert (await workspace.commit(run)).missing == 0
        await workspace.end_run(run)
        version = (await workspace.list_versions())[-1]
        assert (
            version.state == "complete"
            and (await workspace.read_latest())["version"] == version.version
        )
        assert (await workspace.read_marker(version.version))["etag"] == f"e{number}"


async def test_commit_repeated_changes_nothing(workspace: VersionWorkspace) -> None:
    run = await start_copied_run(workspace)
    await workspace.commit(run)
    state = await workspace.read_state()
    workspace.clock.advance(hours=1)
    assert (await workspace.commit(run)).missing == 0 and await workspace.read_state() == state


async def test_commit_older_version_does_not_update_latest(
    workspace: VersionWorkspace,
) -> None:
    slow = await start_copied_run(workspace, "aaaa", "e1", 8)
    await workspace.ledger.locks.release(str(KEY), slow)
    newer = await workspace.land_version(create_manifest(part_names(2), "e2", 9), "bbbb")
    latest = await workspace.read_latest()
    workspace.clock.advance(hours=1)
    assert (await workspace.commit(slow)).missing == 0
    assert (
        await workspace.read_latest() == latest
        and latest["version"] == newer.version
        and latest["supersedes"] is None
    )
    first, second = await workspace.list_versions()
    assert (first.state, second.state) == ("complete", "complete")
    assert (
        first.supersedes == ""
        and (await workspace.read_marker(first.version))["supersedes"] is None
    )


async def test_commit_successive_versions_record_superseded_version(
    workspace: VersionWorkspace,
) -> None:
    first = await workspace.land_version(create_manifest(part_names(1), "e1", 8), "aaaa")
    second = await workspace.land_version(create_manifest(part_names(1), "e2", 9), "bbbb")
    third = await workspace.land_version(create_manifest(part_names(1), "e3", 10), "cccc")
    assert [version.supersedes for version in await workspace.list_versions()] == [
        "",
        first.version,
        second.version,
    ]
    assert (await workspace.read_latest())["version"] == third.version


@pytest.mark.parametrize("committers", [2, 5])
async def test_commit_concurrent_commits_of_run_complete_one_version(
    workspace: VersionWorkspace, committers: int
) -> None:
    run = await start_copied_run(workspace)
    results = await asyncio.gather(
        *(workspace.commit(run) for _ in range(committers)), return_exceptions=True
    )
    assert all(isinstance(result, CommitOutcome) and result.missing == 0 for result in results), (
        results
    )
    [version] = await workspace.list_versions()
    assert (
        version.state == "complete"
        and (await workspace.read_latest())["version"] == version.version
    )


async def test_commit_concurrent_runs_complete_one_version(workspace: VersionWorkspace) -> None:
    first = await start_copied_run(workspace, "aaaa")
    await workspace.ledger.locks.release(str(KEY), first)
    second = await workspace.start_run("bbbb")
    assert (await workspace.plan(second, create_manifest(part_names(2)))).missing == 0
    results = await asyncio.gather(workspace.commit(first), workspace.commit(second))
    assert [result.missing for result in results] == [0, 0]
    [version] = await workspace.list_versions()
    assert version.state == "complete" and version.run_id in (first, second)
    assert (await workspace.read_marker(version.version))["etag"] == "e1" and (
        await workspace.read_latest()
    )["version"] == version.version


async def write_before_updates(
    workspace: VersionWorkspace, monkeypatch: pytest.MonkeyPatch, bodies: list[bytes]
) -> list[str]:
    """Write each of `bodies` to latest.json before the file is updated.

    Returns:
        The paths of the updates; the list grows during the test.
    """
    original, updates = workspace.landing.put_if_match, []

    async def put_if_match(path: str, body: bytes, etag: str | None, **kwargs: Any) -> str | None:
        if path == latest_path(KEY):
            updates.append(path)
            if bodies:
                await workspace.landing.put(path, bodies.pop(0))
        return await original(path, body, etag, **kwargs)

    monkeypatch.setattr(workspace.landing, "put_if_match", put_if_match)
    return updates


def build_latest(day: int) -> bytes:
    return (
        b'{"version": "other", "created_at": "2026-11-%02dT00:00:00Z", '
        b'"first_seen": "2026-11-21T00:00:00Z"}' % day
    )


async def test_commit_concurrent_updates_of_latest_retries(
    workspace: VersionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await start_copied_run(workspace)
    updates = await write_before_updates(
        workspace, monkeypatch, [build_latest(1), build_latest(2), build_latest(3)]
    )
    assert (await workspace.commit(run)).missing == 0
    assert (
        len(updates) == 4
        and (await workspace.read_latest())["version"] == (await workspace.get_run(run)).version
    )


async def test_commit_concurrent_newer_latest_is_kept(
    workspace: VersionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await start_copied_run(workspace)
    updates = await write_before_updates(
        workspace, monkeypatch, [build_latest(1), build_latest(20)]
    )
    assert (await workspace.commit(run)).missing == 0
    assert len(updates) == 2 and (await workspace.read_latest())["version"] == "other"
    assert (await workspace.list_versions())[0].state == "complete"


async def test_commit_contended_latest_fails_and_repeat_succeeds(
    workspace: VersionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await start_copied_run(workspace)
    with monkeypatch.context() as patch:
        patch.setattr("shared.optimistic_concurrency.backoff_seconds", lambda conflicts: 0.0)
        await write_before_updates(workspace, patch, [build_latest(1)] * (MAX_ATTEMPTS + 5))
        with pytest.raises(InfrastructureError, match="latest_contended"):
            await workspace.commit(run)
    assert (await workspace.list_versions())[0].state == "landing"
    assert (await workspace.commit(run)).missing == 0 and (await workspace.list_versions())[
        0
    ].state == "complete"


@pytest.mark.parametrize(
    "body", [b"garbage", b"{}", b"[]", b'{"version": 5, "created_at": "soon", "first_seen": ""}']
)
async def test_commit_invalid_latest_is_replaced(workspace: VersionWorkspace, body: bytes) -> None:
    await workspace.landing.put(latest_path(KEY), body)
    run = await start_copied_run(workspace)
    assert (await workspace.commit(run)).missing == 0
    assert (await workspace.read_latest())["version"] == (await workspace.get_run(run)).version
