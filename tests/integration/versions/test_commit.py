"""All of a version is there, or it is not shown: marker, latest.json and row, in this order, however often it is tried."""

import asyncio
from typing import Any

import pytest

from shared.errors import InfrastructureError, PermanentError
from shared.landing.layout import latest_path, marker_path, version_path
from shared.optimistic_concurrency import MAX_ATTEMPTS
from shared.versions.commit import CommitOutcome
from tests.integration.ledger.standing import KEY
from tests.integration.versions.version_workspace import Killed, Scene, manifest, parts


async def ready(
    scene: Scene, suffix: str = "aaaa", etag: str = "e1", day: int = 8, count: int = 2
) -> str:
    """A run whose blobs are all copied."""
    run = await scene.start(suffix)
    await scene.plan(run, manifest(parts(count), etag, day))
    await scene.copy(run, parts(count))
    return run


async def test_a_whole_version_is_shown(scene: Scene) -> None:
    run = await ready(scene)
    version = (await scene.run(run)).version
    committed = await scene.commit(run)
    assert (committed.row, committed.missing) == (
        (await scene.versions())[0],
        0,
    ) and committed.row.version == version
    [row] = await scene.versions()
    assert (row.state, row.run_id, row.blobs, row.bytes, row.rows, row.proof, row.supersedes) == (
        "complete",
        run,
        2,
        36,
        2,
        "content",
        "",
    )
    marker, latest = await scene.marker(version), await scene.latest()
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


async def test_a_version_without_blobs_may_be_committed(scene: Scene) -> None:
    run = await ready(scene, count=0)
    assert (await scene.commit(run)).missing == 0 and (await scene.latest())["blobs"] == 0


@pytest.mark.parametrize("missing", ["row", "blob", "other_etag", "not_proven"])
async def test_what_is_missing_is_counted_and_nothing_is_shown(scene: Scene, missing: str) -> None:
    run = await scene.start()
    plan = await scene.plan(run, manifest(parts(3)))
    path = f"{version_path(KEY, plan.version.version)}/{parts(3)[2]}"
    await scene.copy(run, parts(3) if missing != "row" else parts(2))
    if missing == "blob":
        await scene.landing.delete(path)
    elif missing == "other_etag":
        await scene.landing.put(path, parts(3)[2].encode())
    elif missing == "not_proven":
        row = await scene.ledger.blobs.get(KEY, plan.version.version, parts(3)[2])
        assert row is not None
        from dataclasses import replace

        await scene.ledger.blobs.record(
            KEY, plan.version.version, [replace(row, ok=False, code="proof_gzip")]
        )
    committed = await scene.commit(run)
    assert (committed.row.version, committed.missing) == (plan.version.version, 1)
    assert await scene.latest() is None and await scene.marker(plan.version.version) is None
    assert (await scene.versions())[0].state == "landing"
    await scene.copy(run, parts(3)[2:])
    assert (await scene.commit(run)).missing == 0


@pytest.mark.parametrize(
    "name", ["foreign.json.gz", "deep/part-00000.json.gz", "_SUCCESS", "part-00000.json.gz.copy"]
)
async def test_a_foreign_file_ends_it(scene: Scene, name: str) -> None:
    run = await ready(scene)
    await scene.landing.put(f"{version_path(KEY, (await scene.run(run)).version)}/{name}", b"x")
    with pytest.raises(PermanentError) as foreign:
        await scene.commit(run)
    assert (
        foreign.value.code == "foreign_blob"
        and await scene.latest() is None
        and (await scene.versions())[0].state == "landing"
    )


@pytest.mark.parametrize(
    "body", [b'{"etag": "e2", "blobs": []}', b'{"etag": "e1"}', b"garbage", b"[]", b"null"]
)
async def test_a_marker_of_somebody_else_ends_it(scene: Scene, body: bytes) -> None:
    run = await ready(scene)
    await scene.landing.put(marker_path(KEY, (await scene.run(run)).version), body)
    with pytest.raises(PermanentError) as foreign:
        await scene.commit(run)
    assert (
        foreign.value.code == "foreign_blob"
        and await scene.latest() is None
        and (await scene.versions())[0].state == "landing"
    )


async def test_without_a_plan_nothing_is_committed(scene: Scene) -> None:
    run = await ready(scene)
    with pytest.raises(InfrastructureError, match="plan_missing"):
        await scene.commit(run, 2)


@pytest.mark.parametrize("older", [False, True])
async def test_killed_behind_any_write_the_repeat_ends_as_if_undisturbed(
    scene: Scene, older: bool
) -> None:
    """One version after the other, each killed one write later, until none is left to be killed behind."""
    if older:
        await scene.land(manifest(parts(2), "e0", 7), "zzzz")
    expected = None
    for number in range(1, 20):
        etag = f"e{number}"
        run = await ready(scene, f"aaa{'abcdefghijklmnopqrst'[number]}", etag, 8 + number)
        killed = False
        try:
            with scene.kill_behind(number):
                await scene.commit(run)
        except Killed:
            killed = True
            assert (await scene.commit(run)).missing == 0
        await scene.end(run)
        version = (await scene.versions())[-1]
        latest, marker = await scene.latest(), await scene.marker(version.version)
        shown = [
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
        shown = ["e" if value == etag else value for value in shown]
        expected = expected or shown
        assert shown == expected
        if not killed:
            break
    assert not killed and number >= 4


async def test_lost_answers_change_nothing(scene: Scene) -> None:
    for number in range(1, 6):
        run = await ready(scene, f"aaa{'abcdefgh'[number]}", f"e{number}", 8 + number)
        with scene.lose_answer_of(number):
            assert (await scene.commit(run)).missing == 0
        await scene.end(run)
        version = (await scene.versions())[-1]
        assert version.state == "complete" and (await scene.latest())["version"] == version.version
        assert (await scene.marker(version.version))["etag"] == f"e{number}"


async def test_committed_again_nothing_changes(scene: Scene) -> None:
    run = await ready(scene)
    await scene.commit(run)
    state = await scene.state()
    scene.clock.pass_by(hours=1)
    assert (await scene.commit(run)).missing == 0 and await scene.state() == state


async def test_an_older_version_that_finishes_later_leaves_latest_alone(scene: Scene) -> None:
    slow = await ready(scene, "aaaa", "e1", 8)
    await scene.ledger.locks.release(str(KEY), slow)
    newer = await scene.land(manifest(parts(2), "e2", 9), "bbbb")
    latest = await scene.latest()
    scene.clock.pass_by(hours=1)
    assert (await scene.commit(slow)).missing == 0
    assert (
        await scene.latest() == latest
        and latest["version"] == newer.version
        and latest["supersedes"] is None
    )
    first, second = await scene.versions()
    assert (first.state, second.state) == ("complete", "complete")
    assert (
        first.supersedes == "" and (await scene.marker(first.version))["supersedes"] is None
    )  # an older one supersedes no newer one


async def test_versions_tell_what_they_supersede(scene: Scene) -> None:
    first = await scene.land(manifest(parts(1), "e1", 8), "aaaa")
    second = await scene.land(manifest(parts(1), "e2", 9), "bbbb")
    third = await scene.land(manifest(parts(1), "e3", 10), "cccc")
    assert [version.supersedes for version in await scene.versions()] == [
        "",
        first.version,
        second.version,
    ]
    assert (await scene.latest())["version"] == third.version


@pytest.mark.parametrize("committers", [2, 5])
async def test_committers_that_race_end_with_one_version(scene: Scene, committers: int) -> None:
    run = await ready(scene)
    results = await asyncio.gather(
        *(scene.commit(run) for _ in range(committers)), return_exceptions=True
    )
    assert all(isinstance(result, CommitOutcome) and result.missing == 0 for result in results), (
        results
    )
    [version] = await scene.versions()
    assert version.state == "complete" and (await scene.latest())["version"] == version.version


async def test_two_runs_that_race_end_with_one_version(scene: Scene) -> None:
    first = await ready(scene, "aaaa")
    await scene.ledger.locks.release(str(KEY), first)
    second = await scene.start("bbbb")
    assert (await scene.plan(second, manifest(parts(2)))).missing == 0
    results = await asyncio.gather(scene.commit(first), scene.commit(second))
    assert [result.missing for result in results] == [0, 0]
    [version] = await scene.versions()
    assert version.state == "complete" and version.run_id in (first, second)
    assert (await scene.marker(version.version))["etag"] == "e1" and (await scene.latest())[
        "version"
    ] == version.version


async def interrupted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, bodies: list[bytes]
) -> list[str]:
    """Before each swap of latest.json somebody else writes it, as long as there are bodies. The paths swapped."""
    real, swapped = scene.landing.put_if_match, []

    async def put_if_match(path: str, body: bytes, etag: str | None, **more: Any) -> str | None:
        if path == latest_path(KEY):
            swapped.append(path)
            if bodies:
                await scene.landing.put(path, bodies.pop(0))
        return await real(path, body, etag, **more)

    monkeypatch.setattr(scene.landing, "put_if_match", put_if_match)
    return swapped


def pointer(day: int) -> bytes:
    return (
        b'{"version": "other", "created_at": "2026-11-%02dT00:00:00Z", "first_seen": "2026-11-21T00:00:00Z"}'
        % day
    )


async def test_latest_is_swapped_until_nobody_was_faster(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ready(scene)
    swapped = await interrupted(scene, monkeypatch, [pointer(1), pointer(2), pointer(3)])
    assert (await scene.commit(run)).missing == 0
    assert len(swapped) == 4 and (await scene.latest())["version"] == (await scene.run(run)).version


async def test_latest_stays_where_somebody_with_newer_data_was_faster(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ready(scene)
    swapped = await interrupted(scene, monkeypatch, [pointer(1), pointer(20)])
    assert (await scene.commit(run)).missing == 0
    assert len(swapped) == 2 and (await scene.latest())["version"] == "other"
    assert (await scene.versions())[0].state == "complete"


async def test_who_never_gets_through_says_so_and_a_repeat_ends_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ready(scene)
    with monkeypatch.context() as patch:
        patch.setattr("shared.optimistic_concurrency.backoff_seconds", lambda conflicts: 0.0)
        await interrupted(scene, patch, [pointer(1)] * (MAX_ATTEMPTS + 5))
        with pytest.raises(InfrastructureError, match="latest_contended"):
            await scene.commit(run)
    assert (await scene.versions())[0].state == "landing"
    assert (await scene.commit(run)).missing == 0 and (await scene.versions())[
        0
    ].state == "complete"


@pytest.mark.parametrize(
    "body", [b"garbage", b"{}", b"[]", b'{"version": 5, "created_at": "soon", "first_seen": ""}']
)
async def test_a_latest_that_nobody_can_read_is_written_anew(scene: Scene, body: bytes) -> None:
    await scene.landing.put(latest_path(KEY), body)
    run = await ready(scene)
    assert (await scene.commit(run)).missing == 0
    assert (await scene.latest())["version"] == (await scene.run(run)).version
