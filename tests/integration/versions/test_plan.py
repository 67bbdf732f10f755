"""Copy plans: pages of missing blobs, and one folder per eTag unless a run uses `force`."""

import json

import pytest

from shared.landing.layout import latest_path, marker_path, names_path, version_path
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


DAMAGES = [
    "latest_deleted",
    "latest_garbage",
    "deleted",
    "overwritten",
    "marker_deleted",
    "marker_garbage",
    "marker_half",
    "marker_of_another",
    "rows_gone_and_overwritten",
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_plan_damaged_complete_version_is_repaired_in_place(
    workspace: VersionWorkspace, damage: str
) -> None:
    version = await workspace.land_version(create_manifest(part_names(3)))
    marker, latest = await workspace.read_marker(version.version), await workspace.read_latest()
    folder, first = version_path(KEY, version.version), part_names(1)[0]
    match damage:
        case "latest_deleted":
            await workspace.landing.delete(latest_path(KEY))
        case "latest_garbage":
            await workspace.landing.put(latest_path(KEY), b"garbage")
        case "deleted":
            await workspace.landing.delete(f"{folder}/{first}")
        case "overwritten":
            await workspace.landing.put(f"{folder}/{first}", b"something else")
        case "marker_deleted":
            await workspace.landing.delete(marker_path(KEY, version.version))
        case "marker_garbage":
            await workspace.landing.put(marker_path(KEY, version.version), b"garbage")
        case "marker_half":
            await workspace.landing.put(
                marker_path(KEY, version.version), b'{"etag": "e1", "blobs": [{"name": "x"}]}'
            )
        case "marker_of_another":
            await workspace.landing.put(
                marker_path(KEY, version.version), b'{"etag": "e2", "blobs": []}'
            )
        case "rows_gone_and_overwritten":
            await workspace.delete_blob_rows(version.version, part_names(3))
            await workspace.landing.put(f"{folder}/{first}", first[::-1].encode())  # the same size
    workspace.clock.advance(hours=1)
    run = await workspace.start_run("bbbb")
    plan = await workspace.plan(run, create_manifest(part_names(3)))
    assert (
        not plan.complete
        and plan.version.version == version.version
        and plan.version.state == "landing"
    )
    # Readers must not use the version during the repair.
    assert await workspace.landing.read(marker_path(KEY, version.version)) is None
    pages = await workspace.read_pages(run, plan)
    await workspace.copy_blobs(
        run, [name for page in pages for batch in page["batches"] for name in batch]
    )
    assert (await workspace.commit(run)).missing == 0
    [repaired] = await workspace.list_versions()
    assert (repaired.state, repaired.run_id, repaired.landed_at) == (
        "complete",
        run,
        version.landed_at,
    )
    assert await workspace.read_latest() == latest
    repeated = await workspace.read_marker(version.version)
    assert {**repeated, "run_id": ""} == {**marker, "run_id": ""} and repeated["run_id"] == run


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
    workspace: VersionWorkspace, state: str
) -> None:
    version = await workspace.land_version(create_manifest(part_names(1)))
    assert await workspace.ledger.versions.update(version, state=state)
    plan = await workspace.plan(await workspace.start_run("bbbb"), create_manifest(part_names(1)))
    assert plan.version.version == f"{version.version}-2" and plan.missing == 1


@pytest.mark.parametrize("situation", ["new", "landing", "damaged"])
async def test_plan_killed_after_any_write_repeat_has_same_result(
    workspace: VersionWorkspace, situation: str
) -> None:
    planned, number = create_manifest(part_names(3)), 0
    if situation == "damaged":
        await workspace.land_version(planned)
    run = await workspace.start_run("bbbb")
    if situation == "landing":
        await workspace.plan(run, planned)
        await workspace.copy_blobs(run, part_names(1))
    while True:
        if situation == "damaged":
            [version] = await workspace.list_versions()
            await workspace.copy_blobs(run, []) if not (
                await workspace.get_run(run)
            ).version else None
            await workspace.landing.delete(
                f"{version_path(KEY, version.version)}/{part_names(1)[0]}"
            )
        number += 1
        try:
            with workspace.kill_after_write(number) as writes:
                await workspace.plan(run, planned)
        except ProcessKilledError:
            plan = await workspace.plan(run, planned)
            assert plan.missing == {"new": 3, "landing": 2, "damaged": 1}[situation]
            assert (await workspace.read_pages(run, plan))[0]["version"] == plan.version.version
            assert (
                len(await workspace.list_versions()) == 1
                and (await workspace.get_run(run)).version == plan.version.version
            )
            continue
        break
    assert writes.count < number >= 4


async def test_plan_lost_response_of_any_write_creates_one_folder(
    workspace: VersionWorkspace,
) -> None:
    run = await workspace.start_run("aaaa")
    for number in range(1, 6):
        with workspace.lose_response_of_write(number):
            plan = await workspace.plan(run, create_manifest(part_names(2)))
        assert plan.missing == 2 and len(await workspace.list_versions()) == 1
