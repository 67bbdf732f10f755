"""Copy plans: pages of missing blobs, and one folder per eTag unless a run uses `force`."""

import json
from unittest.mock import ANY

import pytest

from shared.errors import InfrastructureError, InvalidDataError
from shared.landing.layout import latest_path, marker_path, names_path, version_path
from shared.ledger.outcomes import close_run
from shared.ledger.versions import VersionState
from tests.integration.ledger.ledger_rows import KEY
from tests.integration.versions.version_workspace import (
    ProcessKilledError,
    VersionWorkspace,
    create_manifest,
    part_names,
)


@pytest.mark.parametrize(
    ("count", "widths"),
    [
        (0, []),
        (1, [[1]]),
        (99, [[1] * 99]),
        (100, [[1] * 100]),
        (101, [[1] * 100, [1]]),
        (200, [[1] * 100, [1] * 100]),
        (201, [[10] * 10, [10] * 10, [1]]),
        (215, [[10] * 10, [10] * 10, [10, 5]]),
        (2_500, [[10] * 10] * 25),
    ],
)
async def test_plan_any_blob_count_puts_each_name_on_one_page(
    workspace: VersionWorkspace, count: int, widths: list[list[int]]
) -> None:
    run, names = await workspace.start_run(), part_names(count)
    plan = await workspace.plan(run, create_manifest(names))
    assert (plan.pages, plan.missing, plan.complete) == (len(widths), count, False)
    pages = await workspace.read_pages(run, plan)
    assert [[len(batch) for batch in page["batches"]] for page in pages] == widths
    assert [name for page in pages for batch in page["batches"] for name in batch] == names
    assert all(page["version"] == plan.version.version for page in pages)
    stored = await workspace.landing.read(names_path(run, 1))
    assert stored is not None
    names_file = json.loads(stored[0])
    assert (
        names_file["blobs"] == [[name, "default"] for name in names]
        and names_file["manifest_etag"] == "e1"
    )
    assert "sas" not in stored[0].decode().lower()


async def test_plan_is_recorded_in_run(workspace: VersionWorkspace) -> None:
    run = await workspace.start_run()
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    row = await workspace.get_run(run)
    assert (
        row.stage,
        row.plan,
        row.version,
        row.version_n,
        row.manifest_etag,
        row.blobs_total,
        row.path,
        row.root_directory,
    ) == (
        "copying",
        1,
        plan.version.version,
        1,
        "e1",
        3,
        version_path(KEY, plan.version.version),
        create_manifest([]).root_directory,
    )
    assert plan.version.state == "landing" and plan.version.run_id == run


async def test_plan_repeated_is_identical(workspace: VersionWorkspace) -> None:
    run = await workspace.start_run()
    first = await workspace.plan(run, create_manifest(part_names(3)))
    state = await workspace.read_state()
    second = await workspace.plan(run, create_manifest(part_names(3)))
    assert (second.version.version, second.pages, second.missing) == (first.version.version, 1, 3)
    assert await workspace.read_state() == state


async def test_plan_later_round_contains_only_missing_blobs(
    workspace: VersionWorkspace,
) -> None:
    run = await workspace.start_run()
    first = await workspace.plan(run, create_manifest(part_names(5)))
    await workspace.copy_blobs(run, part_names(5)[:3])
    second = await workspace.plan(run, create_manifest(part_names(5)), 2)
    assert second.version.version == first.version.version and second.missing == 2
    assert (await workspace.read_pages(run, second, 2))[0]["batches"] == [
        [name] for name in part_names(5)[3:]
    ]
    await workspace.copy_blobs(run, part_names(5)[3:])
    third = await workspace.plan(run, create_manifest(part_names(5)), 3)
    assert (third.pages, third.missing, third.complete) == (
        0,
        0,
        False,
    )
    assert (await workspace.commit(run, 3)).missing == 0


async def test_plan_other_run_same_etag_continues_version(workspace: VersionWorkspace) -> None:
    first = await workspace.start_run("aaaa")
    planned = await workspace.plan(first, create_manifest(part_names(4)))
    await workspace.copy_blobs(first, part_names(4)[:2])
    await workspace.ledger.locks.release(str(KEY), first)
    second = await workspace.start_run("bbbb")
    plan = await workspace.plan(second, create_manifest(part_names(4)))
    assert (
        plan.version.version == planned.version.version
        and plan.missing == 2
        and plan.version.run_id == second
    )
    assert len(await workspace.list_versions()) == 1


@pytest.mark.parametrize("change", ["etag", "bytes"])
async def test_plan_blob_differs_from_row_is_missing(
    workspace: VersionWorkspace, change: str
) -> None:
    run = await workspace.start_run()
    plan = await workspace.plan(run, create_manifest(part_names(2)))
    await workspace.copy_blobs(run, part_names(2))
    body = b"x" if change == "bytes" else part_names(1)[0].encode()
    await workspace.landing.put(
        f"{version_path(KEY, plan.version.version)}/{part_names(1)[0]}", body
    )
    repeated = await workspace.plan(run, create_manifest(part_names(2)), 2)
    assert repeated.missing == 1 and (await workspace.read_pages(run, repeated, 2))[0][
        "batches"
    ] == [[part_names(1)[0]]]


async def test_plan_blob_without_row_or_row_without_blob_is_missing(
    workspace: VersionWorkspace,
) -> None:
    run = await workspace.start_run()
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    await workspace.copy_blobs(run, part_names(3))
    await workspace.delete_blob_rows(plan.version.version, part_names(1))
    await workspace.landing.delete(f"{version_path(KEY, plan.version.version)}/{part_names(3)[2]}")
    repeated = await workspace.plan(run, create_manifest(part_names(3)), 2)
    assert (await workspace.read_pages(run, repeated, 2))[0]["batches"] == [
        [part_names(3)[0]],
        [part_names(3)[2]],
    ]


async def test_plan_complete_version_is_unchanged(workspace: VersionWorkspace) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    before = await workspace.read_state()
    run = await workspace.start_run("bbbb")
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    assert plan.complete and plan.pages == 0 and plan.version.version == version.version
    versions, _, files = await workspace.read_state()
    assert (versions, files) == (before[0], before[2])  # no plan is written
    row = await workspace.get_run(run)
    assert (row.version, row.blobs_total, row.path) == (version.version, 3, version.path)


async def test_plan_rows_deleted_by_retention_is_unchanged(workspace: VersionWorkspace) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    await workspace.delete_blob_rows(version.version, part_names(3))
    run = await workspace.start_run("bbbb")
    assert (await workspace.plan(run, create_manifest(part_names(3)))).complete


@pytest.mark.parametrize("body", [None, b"garbage"])
async def test_plan_complete_version_restores_latest(
    workspace: VersionWorkspace, body: bytes | None
) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    latest = await workspace.read_latest()
    if body is None:
        await workspace.landing.delete(latest_path(KEY))
    else:
        await workspace.landing.put(latest_path(KEY), body)
    plan = await workspace.plan(await workspace.start_run("bbbb"), create_manifest(part_names(3)))
    assert plan.complete and plan.version.version == version.version
    assert await workspace.read_latest() == {**latest, "sequence": latest["sequence"] + 1}


LOST_BLOBS = ["deleted", "overwritten", "rows_gone_and_overwritten", "rows_gone_and_deleted"]
INVALID_MARKERS = {
    "missing": None,
    "garbage": b"garbage",
    "half": b'{"etag": "e1", "blobs": [{"name": "x"}]}',
    "of_another_version": b'{"etag": "e2", "blobs": []}',
}


async def damage(workspace: VersionWorkspace, version: str, kind: str) -> None:
    """Delete or overwrite the first blob of a version of three blobs."""
    path = f"{version_path(KEY, version)}/{part_names(1)[0]}"
    if kind.startswith("rows_gone"):
        await workspace.delete_blob_rows(version, part_names(3))
    if kind.endswith("deleted"):
        await workspace.landing.delete(path)
    else:  # the same size
        await workspace.landing.put(path, part_names(1)[0][::-1].encode())


@pytest.mark.parametrize("kind", LOST_BLOBS)
async def test_plan_version_with_lost_blob_is_damaged_until_repaired(
    workspace: VersionWorkspace, kind: str
) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    marker, latest = await workspace.read_marker(version.version), await workspace.read_latest()
    await damage(workspace, version.version, kind)
    workspace.clock.advance(hours=1)
    run = await workspace.start_run("bbbb")
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    assert (plan.complete, plan.version.version, plan.version.state, plan.missing) == (
        False,
        version.version,
        "damaged",
        1,
    )
    # Readers must not use the version during the repair.
    assert await workspace.read_marker(version.version) is None
    assert await workspace.read_latest() is None
    entry = await workspace.ledger.catalogue.get(KEY)
    assert entry is not None
    assert (entry.version, entry.rows, entry.damaged_version, entry.damaged_at) == (
        "",
        0,
        version.version,
        "2026-11-21T07:00:00Z",
    )
    pages = await workspace.read_pages(run, plan)
    await workspace.copy_blobs(
        run, [name for page in pages for batch in page["batches"] for name in batch]
    )
    assert (await workspace.commit(run)).missing == 0
    await workspace.end_run(run)
    [repaired] = await workspace.list_versions()
    assert (repaired.state, repaired.run_id, repaired.landed_at) == (
        "complete",
        run,
        version.landed_at,
    )
    assert await workspace.read_latest() == {**latest, "sequence": latest["sequence"] + 1}
    repeated = await workspace.read_marker(version.version)
    assert repeated == {**marker, "run_id": run}
    entry = await workspace.ledger.catalogue.get(KEY)
    assert entry is not None and (entry.version, entry.damaged_version) == (version.version, "")


@pytest.mark.parametrize("kind", LOST_BLOBS)
async def test_plan_version_with_lost_blob_points_readers_to_previous_version(
    workspace: VersionWorkspace, kind: str
) -> None:
    first = await workspace.land_version(create_manifest(part_names(2), "e0", 6), "aaab")
    second = await workspace.land_version(create_manifest(part_names(3), "e1", 7), "aaac")
    third = await workspace.land_version(create_manifest(part_names(3), "e2", 8), "aaad")
    assert (await workspace.read_latest())["sequence"] == 3
    await damage(workspace, second.version, "deleted")  # not found yet
    await damage(workspace, third.version, kind)
    run = await workspace.start_run("bbbb")
    await workspace.plan(run, create_manifest(part_names(3), "e2", 8))
    latest = await workspace.read_latest()
    assert (latest["version"], latest["sequence"], latest["rows"], latest["billing_month"]) == (
        first.version,
        4,
        2,
        "2026-10",
    )
    assert [version.state for version in await workspace.list_versions()] == [
        "complete",
        "damaged",
        "damaged",
    ]
    assert await workspace.read_marker(second.version) is None
    entry = await workspace.ledger.catalogue.get(KEY)
    assert entry is not None
    assert (entry.version, entry.damaged_version) == (first.version, third.version)
    result = await close_run(
        workspace.ledger, run, {"outcome": "incomplete", "code": "blobs_missing"}
    )
    assert result == {"outcome": "incomplete", "code": "version_damaged"}
    entry = await workspace.ledger.catalogue.get(KEY)
    assert entry is not None
    assert (entry.version, entry.damaged_version, entry.last_code) == (
        first.version,
        third.version,
        "version_damaged",
    )


@pytest.mark.parametrize("kind", list(INVALID_MARKERS))
async def test_plan_version_with_invalid_marker_is_repaired_without_copy(
    workspace: VersionWorkspace, kind: str
) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    marker, latest = await workspace.read_marker(version.version), await workspace.read_latest()
    path, body = marker_path(KEY, version.version), INVALID_MARKERS[kind]
    if body is None:
        await workspace.landing.delete(path)
    else:
        await workspace.landing.put(path, body)
    run = await workspace.start_run("bbbb")
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    assert (plan.complete, plan.missing, plan.version.state) == (False, 0, "damaged")
    assert (await workspace.commit(run)).missing == 0
    assert await workspace.read_latest() == latest
    assert await workspace.read_marker(version.version) == {**marker, "run_id": run}


async def test_plan_marker_with_other_hashes_than_the_rows_is_replaced(
    workspace: VersionWorkspace,
) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    marker = await workspace.read_marker(version.version)
    changed = json.loads(json.dumps(marker))
    changed["blobs"][1]["sha256"] = "0" * 64
    path = marker_path(KEY, version.version)
    await workspace.landing.put(path, json.dumps(changed).encode())
    run = await workspace.start_run("bbbb")
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    assert (plan.complete, plan.missing) == (False, 0)
    assert (await workspace.commit(run)).missing == 0
    assert await workspace.read_marker(version.version) == {**marker, "run_id": run}


@pytest.mark.parametrize("names", [part_names(2), part_names(4), ["other.json.gz"]])
@pytest.mark.parametrize("state", ["complete", "damaged"])
async def test_plan_same_etag_with_other_names_is_rejected_and_changes_nothing(
    workspace: VersionWorkspace, names: list[str], state: str
) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    if state == "damaged":
        assert await workspace.ledger.versions.change_state(version, "damaged")
    versions, _, files = await workspace.read_state()
    with pytest.raises(InvalidDataError, match="manifest_inconsistent") as rejected:
        await workspace.plan(await workspace.start_run("bbbb"), create_manifest(names))
    assert rejected.value.code == "manifest_inconsistent"
    assert await workspace.read_state() == (versions, [ANY, ANY], files)
    workspace.clock.advance(hours=1)
    await workspace.end_run((await workspace.get_run_ids())[-1])
    forced = await workspace.plan(
        await workspace.start_run("cccc", force=True), create_manifest(names)
    )
    assert forced.version.version == f"{version.version}-2"


async def test_plan_same_etag_with_other_names_uses_new_folder_while_landing(
    workspace: VersionWorkspace,
) -> None:
    run = await workspace.start_run()
    first = await workspace.plan(run, create_manifest(part_names(2)))
    second = await workspace.plan(run, create_manifest(part_names(3)), 2)
    assert second.version.version == f"{first.version.version}-2"
    await workspace.copy_blobs(run, part_names(3))
    assert (await workspace.commit(run, 2)).missing == 0


@pytest.mark.parametrize("earlier_state", ["complete", "landing"])
async def test_plan_data_that_returns_after_other_data_lands_again(
    workspace: VersionWorkspace, earlier_state: str
) -> None:
    earlier = create_manifest(part_names(2), "e1", 8)
    if earlier_state == "complete":
        await workspace.land_version(earlier, "aaab")
    else:
        run = await workspace.start_run("aaab")
        await workspace.plan(run, earlier)
        await workspace.ledger.locks.release(str(KEY), run)
    first = (await workspace.list_versions())[0]
    second = await workspace.land_version(create_manifest(part_names(3), "e2", 9), "aaac")
    stale = await workspace.start_run("aaad")
    repeated = await workspace.plan(stale, earlier)  # an outdated response of Microsoft
    assert repeated.version.version == first.version
    assert (await workspace.read_latest())["version"] == second.version
    await workspace.end_run(stale)
    workspace.clock.advance(hours=1)
    third = await workspace.land_version(create_manifest(part_names(2), "e1", 10), "aaae")
    assert third.version == "20261110T093700Z" + first.version[16:] + "-2"
    assert (third.state, third.supersedes) == ("complete", second.version)
    assert (await workspace.read_latest())["version"] == third.version
    entry = await workspace.ledger.catalogue.get(KEY)
    assert entry is not None and entry.version == third.version
    run = await workspace.start_run("aaaf")
    again = await workspace.plan(run, create_manifest(part_names(2), "e1", 11))
    assert (again.complete, again.version.version) == (True, third.version)


async def test_plan_forced_same_etag_creates_new_folder(
    workspace: VersionWorkspace,
) -> None:
    first = await workspace.land_version(create_manifest(part_names(2)))
    workspace.clock.advance(hours=1)
    run = await workspace.start_run("bbbb", force=True)
    plan = await workspace.plan(run, create_manifest(part_names(2)))
    assert plan.version.version == f"{first.version}-2" and (plan.version.n, plan.missing) == (2, 2)
    repeated = await workspace.plan(run, create_manifest(part_names(2)), 2)
    # Not "-3": a later round uses the same folder.
    assert repeated.version.version == plan.version.version
    await workspace.copy_blobs(run, part_names(2))
    assert (await workspace.commit(run, 2)).missing == 0
    latest = await workspace.read_latest()
    assert (latest["version"], latest["supersedes"]) == (plan.version.version, first.version)
    completed = await workspace.plan(run, create_manifest(part_names(2)), 3)
    assert completed.complete  # by the same run
    await workspace.end_run(run)
    workspace.clock.advance(hours=1)
    third = await workspace.plan(
        await workspace.start_run("cccc", force=True), create_manifest(part_names(2))
    )
    assert third.version.version == f"{first.version}-3"
    assert [version.state for version in await workspace.list_versions()] == [
        "complete",
        "complete",
        "landing",
    ]


async def test_plan_not_forced_uses_newest_complete_version_of_etag(
    workspace: VersionWorkspace,
) -> None:
    await workspace.land_version(create_manifest(part_names(2)))
    workspace.clock.advance(hours=1)
    second = await workspace.land_version(create_manifest(part_names(2)), "bbbb", force=True)
    plan = await workspace.plan(await workspace.start_run("cccc"), create_manifest(part_names(2)))
    assert plan.complete and plan.version.version == second.version


@pytest.mark.parametrize("state", ["pruned", "abandoned"])
async def test_plan_deleted_version_same_etag_creates_new_folder(
    workspace: VersionWorkspace, state: VersionState
) -> None:
    if state == "pruned":
        version = await workspace.land_version(create_manifest(part_names(1)))
    else:
        run = await workspace.start_run()
        version = (await workspace.plan(run, create_manifest(part_names(1)))).version
        await workspace.ledger.locks.release(str(KEY), run)
    assert await workspace.ledger.versions.change_state(version, state)
    plan = await workspace.plan(await workspace.start_run("bbbb"), create_manifest(part_names(1)))
    assert plan.version.version == f"{version.version}-2" and plan.missing == 1


@pytest.mark.parametrize("situation", ["new", "landing"])
async def test_plan_killed_after_any_write_repeat_has_same_result(
    workspace: VersionWorkspace, situation: str
) -> None:
    planned, number = create_manifest(part_names(3)), 0
    run = await workspace.start_run("bbbb")
    if situation == "landing":
        await workspace.plan(run, planned)
        await workspace.copy_blobs(run, part_names(1))
    while True:
        number += 1
        try:
            with workspace.kill_after_write(number) as writes:
                await workspace.plan(run, planned)
        except ProcessKilledError:
            plan = await workspace.plan(run, planned)
            assert plan.missing == {"new": 3, "landing": 2}[situation]
            assert (await workspace.read_pages(run, plan))[0]["version"] == plan.version.version
            assert (
                len(await workspace.list_versions()) == 1
                and (await workspace.get_run(run)).version == plan.version.version
            )
            continue
        break
    assert writes.count < number >= 4


@pytest.mark.parametrize("has_previous", [False, True])
@pytest.mark.parametrize("interruption", ["killed", "lost"])
async def test_plan_of_damaged_version_interrupted_after_any_write_repeat_has_same_result(
    workspace: VersionWorkspace, has_previous: bool, interruption: str
) -> None:
    """Damage the newest version again for each interruption, which is one write later."""
    previous = (
        (await workspace.land_version(create_manifest(part_names(2), "e0", 7), "aaab")).version
        if has_previous
        else None
    )
    planned, sequence = create_manifest(part_names(3)), 0
    version = await workspace.land_version(planned, "aaac")
    run = await workspace.start_run("bbbb")
    for number in range(1, 15):
        latest = await workspace.read_latest()
        assert latest["version"] == version.version and latest["sequence"] > sequence
        sequence = latest["sequence"]
        await workspace.delete_blob_rows(version.version, part_names(3))
        await damage(workspace, version.version, "deleted")
        interceptor = (
            workspace.kill_after_write(number)
            if interruption == "killed"
            else workspace.lose_response_of_write(number)
        )
        is_interrupted = True
        try:
            with interceptor as writes:
                plan = await workspace.plan(run, planned)
                is_interrupted = writes.count >= number
        except (ProcessKilledError, InfrastructureError):
            plan = await workspace.plan(run, planned)
        assert (plan.missing, plan.version.state) == (1, "damaged")
        assert await workspace.read_marker(version.version) is None
        latest = await workspace.read_latest()
        assert (latest and latest["version"]) == previous
        assert latest is None or latest["sequence"] > sequence
        entry = await workspace.ledger.catalogue.get(KEY)
        assert entry is not None
        assert (entry.version, entry.damaged_version) == (previous or "", version.version)
        await workspace.copy_blobs(run, part_names(1))
        assert (await workspace.commit(run)).missing == 0
        if not is_interrupted:
            break
    assert not is_interrupted and number >= 6


async def test_plan_lost_response_of_any_write_creates_one_folder(
    workspace: VersionWorkspace,
) -> None:
    run = await workspace.start_run("aaaa")
    for number in range(1, 6):
        with workspace.lose_response_of_write(number):
            plan = await workspace.plan(run, create_manifest(part_names(2)))
        assert plan.missing == 2 and len(await workspace.list_versions()) == 1
