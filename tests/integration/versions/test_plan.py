"""What is to be copied: pages of what is missing, one folder for an eTag, a new one only by force."""

import json

import pytest

from shared.landing.layout import latest_path, marker_path, names_path, version_path
from tests.integration.ledger.standing import KEY
from tests.integration.versions.version_workspace import Killed, Scene, manifest, parts


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
async def test_pages_hold_every_name_once(
    scene: Scene, count: int, widths: list[list[int]]
) -> None:
    run, names = await scene.start(), parts(count)
    plan = await scene.plan(run, manifest(names))
    assert (plan.pages, plan.missing, plan.complete) == (len(widths), count, False)
    pages = await scene.pages(run, plan)
    assert [[len(batch) for batch in page["batches"]] for page in pages] == widths
    assert [name for page in pages for batch in page["batches"] for name in batch] == names
    assert all(page["version"] == plan.version.version for page in pages)
    stored = await scene.landing.read(names_path(run, 1))
    assert stored is not None
    told = json.loads(stored[0])
    assert told["blobs"] == [[name, "default"] for name in names] and told["manifest_etag"] == "e1"
    assert "sas" not in stored[0].decode().lower()


async def test_the_run_knows_its_plan(scene: Scene) -> None:
    run = await scene.start()
    plan = await scene.plan(run, manifest(parts(3)))
    row = await scene.run(run)
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
        manifest([]).root_directory,
    )
    assert plan.version.state == "landing" and plan.version.run_id == run


async def test_a_repeated_plan_is_the_same(scene: Scene) -> None:
    run = await scene.start()
    first = await scene.plan(run, manifest(parts(3)))
    state = await scene.state()
    second = await scene.plan(run, manifest(parts(3)))
    assert (second.version.version, second.pages, second.missing) == (first.version.version, 1, 3)
    assert await scene.state() == state


async def test_a_later_round_plans_only_what_is_missing_in_the_same_folder(scene: Scene) -> None:
    run = await scene.start()
    first = await scene.plan(run, manifest(parts(5)))
    await scene.copy(run, parts(5)[:3])
    second = await scene.plan(run, manifest(parts(5)), 2)
    assert second.version.version == first.version.version and second.missing == 2
    assert (await scene.pages(run, second, 2))[0]["batches"] == [[name] for name in parts(5)[3:]]
    await scene.copy(run, parts(5)[3:])
    third = await scene.plan(run, manifest(parts(5)), 3)
    assert (third.pages, third.missing, third.complete) == (
        0,
        0,
        False,
    )  # nothing to copy, and to be finished here
    assert (await scene.commit(run, 3)).missing == 0


async def test_another_run_goes_on_where_the_first_one_ended(scene: Scene) -> None:
    first = await scene.start("aaaa")
    planned = await scene.plan(first, manifest(parts(4)))
    await scene.copy(first, parts(4)[:2])
    await scene.ledger.locks.release(str(KEY), first)
    second = await scene.start("bbbb")
    plan = await scene.plan(second, manifest(parts(4)))
    assert (
        plan.version.version == planned.version.version
        and plan.missing == 2
        and plan.version.run_id == second
    )
    assert len(await scene.versions()) == 1


@pytest.mark.parametrize("change", ["etag", "bytes"])
async def test_a_blob_that_is_not_as_its_row_says_is_missing(scene: Scene, change: str) -> None:
    run = await scene.start()
    plan = await scene.plan(run, manifest(parts(2)))
    await scene.copy(run, parts(2))
    body = b"x" if change == "bytes" else parts(1)[0].encode()
    await scene.landing.put(f"{version_path(KEY, plan.version.version)}/{parts(1)[0]}", body)
    again = await scene.plan(run, manifest(parts(2)), 2)
    assert again.missing == 1 and (await scene.pages(run, again, 2))[0]["batches"] == [
        [parts(1)[0]]
    ]


async def test_a_blob_without_a_row_is_missing_and_so_is_a_row_without_a_blob(scene: Scene) -> None:
    run = await scene.start()
    plan = await scene.plan(run, manifest(parts(3)))
    await scene.copy(run, parts(3))
    await scene.forget_rows(plan.version.version, parts(1))
    await scene.landing.delete(f"{version_path(KEY, plan.version.version)}/{parts(3)[2]}")
    again = await scene.plan(run, manifest(parts(3)), 2)
    assert (await scene.pages(run, again, 2))[0]["batches"] == [[parts(3)[0]], [parts(3)[2]]]


async def test_the_same_data_again_are_unchanged(scene: Scene) -> None:
    version = await scene.land(manifest(parts(3)))
    before = await scene.state()
    run = await scene.start("bbbb")
    plan = await scene.plan(run, manifest(parts(3)))
    assert plan.complete and plan.pages == 0 and plan.version.version == version.version
    versions, _, files = await scene.state()
    assert (versions, files) == (before[0], before[2])  # not even a plan is written
    row = await scene.run(run)
    assert (row.version, row.blobs_total, row.path) == (version.version, 3, version.path)


async def test_rows_that_retention_removed_are_no_damage(scene: Scene) -> None:
    version = await scene.land(manifest(parts(3)))
    await scene.forget_rows(version.version, parts(3))
    assert (await scene.plan(await scene.start("bbbb"), manifest(parts(3)))).complete


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
async def test_a_damaged_complete_version_is_repaired_in_its_place(
    scene: Scene, damage: str
) -> None:
    version = await scene.land(manifest(parts(3)))
    marker, latest = await scene.marker(version.version), await scene.latest()
    folder, first = version_path(KEY, version.version), parts(1)[0]
    match damage:
        case "latest_deleted":
            await scene.landing.delete(latest_path(KEY))
        case "latest_garbage":
            await scene.landing.put(latest_path(KEY), b"garbage")
        case "deleted":
            await scene.landing.delete(f"{folder}/{first}")
        case "overwritten":
            await scene.landing.put(f"{folder}/{first}", b"something else")
        case "marker_deleted":
            await scene.landing.delete(marker_path(KEY, version.version))
        case "marker_garbage":
            await scene.landing.put(marker_path(KEY, version.version), b"garbage")
        case "marker_half":
            await scene.landing.put(
                marker_path(KEY, version.version), b'{"etag": "e1", "blobs": [{"name": "x"}]}'
            )
        case "marker_of_another":
            await scene.landing.put(
                marker_path(KEY, version.version), b'{"etag": "e2", "blobs": []}'
            )
        case "rows_gone_and_overwritten":
            await scene.forget_rows(version.version, parts(3))
            await scene.landing.put(f"{folder}/{first}", first[::-1].encode())  # of the same size
    scene.clock.pass_by(hours=1)
    run = await scene.start("bbbb")
    plan = await scene.plan(run, manifest(parts(3)))
    assert (
        not plan.complete
        and plan.version.version == version.version
        and plan.version.state == "landing"
    )
    assert (
        await scene.landing.read(marker_path(KEY, version.version)) is None
    )  # nobody takes it for whole meanwhile
    pages = await scene.pages(run, plan)
    await scene.copy(run, [name for page in pages for batch in page["batches"] for name in batch])
    assert (await scene.commit(run)).missing == 0
    [repaired] = await scene.versions()
    assert (repaired.state, repaired.run_id, repaired.landed_at) == (
        "complete",
        run,
        version.landed_at,
    )
    assert await scene.latest() == latest
    again = await scene.marker(version.version)
    assert {**again, "run_id": ""} == {**marker, "run_id": ""} and again["run_id"] == run


async def test_by_force_the_same_data_get_a_folder_of_their_own(scene: Scene) -> None:
    first = await scene.land(manifest(parts(2)))
    scene.clock.pass_by(hours=1)
    run = await scene.start("bbbb", force=True)
    plan = await scene.plan(run, manifest(parts(2)))
    assert plan.version.version == f"{first.version}-2" and (plan.version.n, plan.missing) == (2, 2)
    repeated = await scene.plan(run, manifest(parts(2)), 2)
    assert repeated.version.version == plan.version.version  # not -3: a later round goes on with it
    await scene.copy(run, parts(2))
    assert (await scene.commit(run, 2)).missing == 0
    assert (await scene.latest())["version"] == plan.version.version and (await scene.latest())[
        "supersedes"
    ] == first.version
    assert (await scene.plan(run, manifest(parts(2)), 3)).complete  # the very run that completed it
    await scene.end(run)
    scene.clock.pass_by(hours=1)
    third = await scene.plan(await scene.start("cccc", force=True), manifest(parts(2)))
    assert third.version.version == f"{first.version}-3"
    assert [version.state for version in await scene.versions()] == [
        "complete",
        "complete",
        "landing",
    ]


async def test_without_force_the_newest_complete_one_of_an_etag_counts(scene: Scene) -> None:
    await scene.land(manifest(parts(2)))
    scene.clock.pass_by(hours=1)
    second = await scene.land(manifest(parts(2)), "bbbb", force=True)
    plan = await scene.plan(await scene.start("cccc"), manifest(parts(2)))
    assert plan.complete and plan.version.version == second.version


@pytest.mark.parametrize("state", ["pruned", "abandoned"])
async def test_a_version_whose_folder_is_gone_is_landed_anew(scene: Scene, state: str) -> None:
    version = await scene.land(manifest(parts(1)))
    assert await scene.ledger.versions.update(version, state=state)
    plan = await scene.plan(await scene.start("bbbb"), manifest(parts(1)))
    assert plan.version.version == f"{version.version}-2" and plan.missing == 1


@pytest.mark.parametrize("situation", ["new", "landing", "damaged"])
async def test_killed_behind_any_write_the_repeat_ends_the_same(
    scene: Scene, situation: str
) -> None:
    planned, number = manifest(parts(3)), 0
    if situation == "damaged":
        await scene.land(planned)
    run = await scene.start("bbbb")
    if situation == "landing":
        await scene.plan(run, planned)
        await scene.copy(run, parts(1))
    while True:
        if situation == "damaged":
            [version] = await scene.versions()
            await scene.copy(run, []) if not (await scene.run(run)).version else None
            await scene.landing.delete(f"{version_path(KEY, version.version)}/{parts(1)[0]}")
        number += 1
        try:
            with scene.kill_behind(number) as writes:
                await scene.plan(run, planned)
        except Killed:
            plan = await scene.plan(run, planned)
            assert plan.missing == {"new": 3, "landing": 2, "damaged": 1}[situation]
            assert (await scene.pages(run, plan))[0]["version"] == plan.version.version
            assert (
                len(await scene.versions()) == 1
                and (await scene.run(run)).version == plan.version.version
            )
            continue
        break
    assert writes.count < number >= 4  # every write of it was tried


async def test_lost_answers_make_no_second_folder(scene: Scene) -> None:
    run = await scene.start("aaaa")
    for number in range(1, 6):
        with scene.lose_answer_of(number):
            plan = await scene.plan(run, manifest(parts(2)))
        assert plan.missing == 2 and len(await scene.versions()) == 1
