"""Every way in which a run can end, each from a cause that is stated: row, catalogue, lock, orchestration and landing."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.faults import FaultResponse, Faults, Match
from shared.clock import parse_iso
from shared.ledger.claims import claim, create_run
from shared.services import install
from tests.durable.scene import (
    BEHAVIOUR,
    Call,
    Killed,
    around,
    as_before,
    assert_ended,
    assert_landed,
    assert_sound,
    catalogue_of,
    container_of,
    export_request,
    fields_of,
    folders_of,
    lock_of,
    open_world,
    tables_of,
)
from tests.support.world import World


@pytest.fixture(scope="module")
def shared_world(azurite: Azurite) -> Iterator[World]:
    with open_world(
        azurite, start=datetime(2026, 11, 10, 6, 0, tzinfo=UTC)
    ) as world:  # long before the month's end
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    install(shared_world.app)  # a test with a world of its own has taken it out
    yield shared_world
    as_before(shared_world)


def fresh(world: World, dataset: str = "unbilled_usage") -> str:
    """A key of the dataset with data that nobody has landed yet: the last month's, which change only when they are restated."""
    key = [key for key in world.simulator.export_keys() if key.startswith(dataset)][-1]
    world.simulator.restate(key)
    return key


def land(world: World, key: str, **more: Any) -> dict[str, Any]:
    return world.land(**fields_of(key), **more)


def behave(world: World, **changes: Any) -> None:
    world.simulator.behaviour = replace(BEHAVIOUR, **changes)


def nothing_more(world: World, key: str, before: dict[str, Any]) -> bool:
    """The key's folders hold what they held before."""
    return {folder: sorted(blobs) for folder, blobs in folders_of(world, key).items()} == {
        folder: sorted(blobs) for folder, blobs in before.items()
    }


# -- Completed


def test_landed(world: World) -> None:
    key = fresh(world)
    run, expected = land(world, key), world.simulator.expected(key)
    assert_ended(world, run, "landed")
    assert_landed(world, key, expected)
    entry = catalogue_of(world, key)
    assert entry is not None and (entry.version, entry.path) == (run["version"], run["path"])
    assert (entry.blobs, entry.bytes, entry.rows) == (
        len(expected.blobs),
        expected.bytes,
        expected.rows,
    )
    assert run["blobs"] == {
        "total": len(expected.blobs),
        "landed": len(expected.blobs),
        "failed": 0,
    }
    assert (run["bytes"], run["rows"], run["posts"], run["operations"]) == (
        expected.bytes,
        expected.rows,
        1,
        1,
    )


def test_unchanged(world: World) -> None:
    key = fresh(world)
    first, before = land(world, key), folders_of(world, key)
    run = land(world, key)
    assert_ended(world, run, "unchanged")
    assert run["version"] == first["version"] and run["blobs"]["landed"] == run["blobs"]["total"]
    assert {name: blob.etag for blobs in before.values() for name, blob in blobs.items()} == {
        name: blob.etag for blobs in folders_of(world, key).values() for name, blob in blobs.items()
    }


@pytest.mark.parametrize("code", ["string", "number"])
def test_no_data_where_the_operation_fails_with_5000(world: World, code: str) -> None:
    key = fresh(world)
    behave(world, operation_end="failed_5000", failure_code=code)
    before = folders_of(world, key)
    run = land(world, key)
    assert_ended(world, run, "no_data")
    assert run["operations"] == 1 and nothing_more(world, key, before)


def test_no_data_where_the_manifest_has_no_blob(world: World) -> None:
    key = fresh(world)
    behave(world, empty_export="zero_blobs")
    world.simulator.restate(key, share=Decimal(0))
    before = folders_of(world, key)
    assert_ended(world, land(world, key), "no_data")
    assert nothing_more(world, key, before)


def test_no_data_where_the_month_is_not_open_yet_and_landed_when_it_is(azurite: Azurite) -> None:
    behaviour = replace(BEHAVIOUR, month_opens_after_hours=6)
    with open_world(
        azurite, start=datetime(2026, 12, 1, 2, 0, tzinfo=UTC), behaviour=behaviour
    ) as world:
        key = "unbilled_reconciliation/2026-12/USD/full"
        run = world.land("unbilled_reconciliation")
        assert run["key"] == key
        assert_ended(world, run, "no_data", "month_not_open")
        assert folders_of(world, key) == {}
        world.host.advance(timedelta(days=1))
        later = world.land("unbilled_reconciliation")
        assert later["key"] == key and later["outcome"] != "no_data", later


def test_cancelled_while_it_waits(world: World) -> None:
    key = fresh(world)
    behave(world, ready_after_seconds=3600, retry_after_seconds=600)
    run_id = world.start(**fields_of(key))
    world.host.run_until(lambda: world.run_row(run_id).polls >= 2)
    answer = world.post(f"/api/runs/{run_id}/cancel")
    looks = len(world.simulator.requests_of("poll"))
    run = world.finish(run_id)
    assert_ended(world, run, "cancelled", "cancelled")
    assert parse_iso(run["ended_at"]) <= parse_iso(answer["effective_by"]) + timedelta(seconds=5)
    assert len(world.simulator.requests_of("poll")) == looks  # nothing more was asked of Microsoft
    assert world.get(f"/api/runs/{run_id}") == run
    assert world.post(f"/api/runs/{run_id}/cancel", status=409)["code"] == "run_ended"


def test_cancelled_while_it_copies_keeps_what_is_proven(world: World) -> None:
    key = fresh(world, "billed_usage")
    expected = world.simulator.expected(key)
    run_id = world.start(**fields_of(key))
    gate = asyncio.Lock()

    def first_only(call: Call) -> Call:
        async def called(request: Any) -> Any:
            async with gate:
                result = await call(request=request)
                await asyncio.to_thread(world.post, f"/api/runs/{run_id}/cancel")
                return result

        return called

    with around(world, "copy_blobs", first_only):
        run = world.finish(run_id)
    assert_ended(world, run, "cancelled", "cancelled")
    assert run["blobs"]["landed"] == 1 and run["blobs"]["total"] == len(expected.blobs)
    assert_sound(world, key, expected)
    reads = len(world.simulator.storage_requests)
    later = land(world, key)
    assert_ended(world, later, "landed")
    assert_landed(world, key, expected)
    again = [one for one in world.simulator.storage_requests[reads:] if one.method == "GET"]
    assert len(again) == len(expected.blobs) - 1


def test_cancelled_before_it_claims(world: World) -> None:
    key = fresh(world)
    request = export_request(world, key)
    ledger = world.app.ledger
    claimed = world.on_loop(claim(ledger, create_run(request, world.clock.now())))  # type: ignore[arg-type]
    assert claimed["status"] == "claimed"
    world.post(f"/api/runs/{request['run_id']}/cancel")
    asked = len(world.simulator.requests)
    world.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(world, world.finish(request["run_id"]), "cancelled", "cancelled")
    assert len(world.simulator.requests) == asked


def test_superseded_where_another_run_holds_the_key(world: World) -> None:
    key = fresh(world)
    behave(world, ready_after_seconds=3600, retry_after_seconds=600)
    live = world.start(**fields_of(key))
    world.host.run_until(lambda: world.run_row(live).polls >= 1)
    late = export_request(world, key)
    world.host.start_orchestration("export_run", late, late["run_id"])
    world.host.settle()
    run = world.get(f"/api/runs/{late['run_id']}")
    assert_ended(world, run, "superseded", own=False)
    assert run["live_run_id"] == live and run["posts"] == 0
    lock = lock_of(world, key)
    assert lock is not None and lock.run_id == live
    assert_ended(world, world.finish(live), "landed")


def test_superseded_where_the_key_was_taken_over_meanwhile(world: World) -> None:
    key = fresh(world)
    behave(world, ready_after_seconds=3600, retry_after_seconds=600)
    run_id = world.start(**fields_of(key))
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    ledger, other = world.app.ledger, export_request(world, key)["run_id"]
    world.on_loop(ledger.locks.release(key, run_id))
    taken = world.on_loop(
        ledger.locks.acquire(key, other, "OtherHub", world.clock.now(), lambda lock: _no())
    )
    assert taken.run_id == other
    before = catalogue_of(world, key)
    run = world.finish(run_id)
    assert_ended(world, run, "superseded", own=False)
    assert run["live_run_id"] == other and catalogue_of(world, key) == before
    assert lock_of(world, key) == taken
    world.on_loop(ledger.locks.release(key, other))


async def _no() -> bool:
    return False


# -- Failed


def test_incomplete_keeps_what_is_proven_and_a_later_run_copies_just_the_rest(world: World) -> None:
    key = fresh(world, "billed_usage")
    expected = world.simulator.expected(key)
    stuck = expected.blobs[2].name
    world.simulator.faults.add(Match(operation="blob", path=f"*{stuck}"), FaultResponse(status=404))
    run = land(world, key)
    assert_ended(world, run, "incomplete", "blobs_missing")
    assert run["blobs"] == {
        "total": len(expected.blobs),
        "landed": len(expected.blobs) - 1,
        "failed": 1,
    }
    assert_sound(world, key, expected)
    folder = run["path"].rsplit("/", 1)[-1]
    kept = folders_of(world, key)[folder]
    assert sorted(kept) == sorted(
        blob.name for blob in expected.blobs if blob.name != stuck
    )  # and no marker
    world.simulator.faults, reads = Faults(), len(world.simulator.storage_requests)
    later = land(world, key)
    assert_ended(world, later, "landed")
    assert_landed(world, key, expected)
    read = {one.path.rsplit("/", 1)[-1] for one in world.simulator.storage_requests[reads:]}
    assert read == {stuck} and later["version"] == run["version"]
    now = folders_of(world, key)[folder]
    assert all(now[name].etag == blob.etag for name, blob in kept.items())


def test_graph_bad_request(world: World) -> None:
    run = world.land("billed_usage", invoice_id="G099999999")
    assert_ended(world, run, "failed", "graph_bad_request")
    assert run["posts"] == 1 and run["operations"] == 0 and len(run["request_ids"]) == 1
    assert folders_of(world, run["key"]) == {}


@pytest.mark.parametrize(
    ("status", "code"), [(401, "graph_unauthorized"), (404, "graph_not_found")]
)
def test_graph_refuses_the_post(world: World, status: int, code: str) -> None:
    key = fresh(world)
    world.simulator.faults.add(Match(operation="start"), FaultResponse(status=status))
    before = folders_of(world, key)
    run = land(world, key)
    assert_ended(world, run, "failed", code)
    assert run["posts"] == 1 and nothing_more(world, key, before)


def test_graph_forbidden_while_it_waits(world: World) -> None:
    key = fresh(world)
    run_id = world.start(**fields_of(key))
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    behave(world, permission="denied")
    run = world.finish(run_id)
    assert_ended(world, run, "failed", "graph_forbidden")
    assert run["operations"] == 1


def test_operation_failed_three_times_over(world: World) -> None:
    key = fresh(world)
    behave(world, operation_end="failed_other")
    before = folders_of(world, key)
    run = land(world, key)
    assert_ended(world, run, "failed", "operation_failed")
    assert (run["posts"], run["operations"]) == (3, 3) and nothing_more(world, key, before)


@pytest.mark.parametrize("status", ["404", "410"])
def test_operation_gone_three_times_over(world: World, status: str) -> None:
    key = fresh(world)
    behave(world, operation_lifetime_reads=1, gone=status)
    run = land(world, key)
    assert_ended(world, run, "failed", "operation_gone")
    assert (run["posts"], run["operations"]) == (3, 3)


def test_not_served(world: World) -> None:
    """A month that the HTTP door would refuse, as one that a run finds closed after a long wait."""
    assert (
        world.post("/api/runs", fields_of("unbilled_usage/2026-09/USD/full"), status=400)["code"]
        == "request_invalid"
    )
    request = export_request(world, "unbilled_usage/2026-09/USD/full")
    world.host.start_orchestration("export_run", request, request["run_id"])
    run = world.finish(request["run_id"])
    assert_ended(world, run, "failed", "not_served")
    assert run["posts"] == 0


HOSTILE = {  # the others are told apart without an app: tests/unit
    "manifest_rejected": ["foreign_host", "query_in_root", "dot_dot", "count_too_high"],
    "manifest_mismatch": ["other_tenant", "other_currency"],
    "graph_malformed": ["no_sas"],
}


@pytest.mark.parametrize(
    ("hostile", "code"), [(one, code) for code, all_of in HOSTILE.items() for one in all_of]
)
def test_a_hostile_manifest_ends_the_run_and_nothing_of_it_is_fetched(
    world: World, hostile: str, code: str
) -> None:
    key = fresh(world)
    behave(world, hostile_manifest=hostile, ready_after_polls=0)
    before, reads = folders_of(world, key), len(world.simulator.storage_requests)
    run = land(world, key)
    assert_ended(world, run, "failed", code)
    assert len(world.simulator.storage_requests) == reads and nothing_more(world, key, before)
    assert code == "graph_malformed" or (run["detail"] and run["request_ids"])


def test_the_manifest_of_another_invoice_is_a_mismatch(world: World) -> None:
    key = fresh(world, "billed_usage")
    behave(world, hostile_manifest="other_invoice")
    assert_ended(world, land(world, key), "failed", "manifest_mismatch")


def test_a_foreign_blob_in_the_folder_is_left_alone_and_named(world: World) -> None:
    key = fresh(world, "billed_usage")
    expected = world.simulator.expected(key)
    world.simulator.faults.add(
        Match(operation="blob", path=f"*{expected.blobs[0].name}"), FaultResponse(status=404)
    )
    first = land(world, key)
    assert first["outcome"] == "incomplete"
    world.simulator.faults = Faults()
    with container_of(world) as container:
        container.upload_blob(f"{first['path']}/notes.txt", b"somebody's notes")
        assert_ended(world, land(world, key), "failed", "foreign_blob")
        folder = folders_of(world, key)[first["path"].rsplit("/", 1)[-1]]
        assert "notes.txt" in folder and "_manifest.json" not in folder
        container.delete_blob(f"{first['path']}/notes.txt")
    assert_ended(world, land(world, key), "landed")
    assert_landed(world, key, expected)


def test_a_foreign_blob_under_a_blobs_own_name_is_never_overwritten(world: World) -> None:
    key = fresh(world, "billed_usage")
    expected = world.simulator.expected(key)
    name = expected.blobs[0].name
    world.simulator.faults.add(Match(operation="blob", path=f"*{name}"), FaultResponse(status=404))
    first = land(world, key)
    world.simulator.faults = Faults()
    with container_of(world) as container:
        container.upload_blob(f"{first['path']}/{name}", b"not what it says")
        run = land(world, key)
        assert_ended(world, run, "incomplete", "blobs_missing")
        assert (
            container.download_blob(f"{first['path']}/{name}", decompress=False).readall()
            == b"not what it says"
        )
        container.delete_blob(f"{first['path']}/{name}")
    assert_ended(world, land(world, key), "landed")


def test_platform_fault_where_the_tables_fail_three_times(world: World) -> None:
    key = fresh(world)
    before = folders_of(world, key)

    def refuse(when: str, kind: str, table: str) -> None:
        if table == "versions":
            raise Killed

    tables_of(world).hook = refuse
    run = land(world, key)
    tables_of(world).hook = None
    assert_ended(world, run, "failed", "platform_fault")
    assert nothing_more(world, key, before)
    assert_ended(world, land(world, key), "landed")


def test_platform_fault_where_an_activity_dies_three_times(world: World) -> None:
    key = fresh(world)

    def dying(call: Call) -> Call:
        async def called(request: Any) -> Any:
            raise Killed

        return called

    with around(world, "commit_version", dying):
        run = land(world, key)
    assert_ended(world, run, "failed", "platform_fault")
    assert (
        run["blobs"]["landed"] == run["blobs"]["total"] > 0
    )  # proven, kept, and not shown as good
    assert_sound(world, key)
    later = land(world, key)
    assert_ended(world, later, "landed")
    assert later["version"] == run["version"]


def with_changes(**changes: Any) -> Any:
    return lambda request: {**request, **changes}


@pytest.mark.parametrize(
    "spoil",
    [
        with_changes(key="unbilled_usage/2026-13/USD/full"),
        with_changes(key="unbilled_usage/2026-11/usd/full"),
        with_changes(key="billed_usage/G016907411/full"),
        with_changes(limits={}),
        with_changes(
            limits={
                "deadline": "2026-11-22T00:00:00Z",
                "max_rounds": 1000,
                "max_concurrent_pages": 4,
            }
        ),
        with_changes(reason="x" * 501),
        lambda request: {"run_id": request["run_id"]},
    ],
)
def test_input_invalid(world: World, spoil: Any) -> None:
    """Whoever has the host's own key can start anything; nothing is claimed, asked or written for it."""
    request = export_request(world, fresh(world))
    asked = len(world.simulator.requests)
    given = spoil(request)
    world.host.start_orchestration("export_run", given, request["run_id"])
    status = world.host.wait(request["run_id"])
    assert status["runtimeStatus"] == "Failed" and "failed (input_invalid)" in status["output"]
    assert len(world.simulator.requests) == asked
    world.get(f"/api/runs/{request['run_id']}", status=404)
    lock = lock_of(world, request["key"])
    assert lock is None or lock.run_id == ""


def test_a_restart_under_a_new_id_is_refused_and_the_run_keeps_its_end(world: World) -> None:
    key = fresh(world)
    run = land(world, key)
    before, entry = folders_of(world, key), catalogue_of(world, key)
    answer = world.host.request(
        "POST",
        f"/runtime/webhooks/durabletask/instances/{run['run_id']}/restart?restartWithNewInstanceId=true",
    )
    assert answer.status == 202, answer.body
    new_id = json.loads(answer.body)["id"]
    assert new_id != run["run_id"]
    status = world.host.wait(new_id)
    assert (
        status["runtimeStatus"] == "Failed" and "failed (instance_id_mismatch)" in status["output"]
    )
    assert world.get(f"/api/runs/{run['run_id']}") == run
    assert nothing_more(world, key, before) and catalogue_of(world, key) == entry


def test_a_restart_under_the_same_id_gives_the_same_end_and_does_nothing(world: World) -> None:
    key = fresh(world)
    run, asked = land(world, key), len(world.simulator.requests)
    world.simulator.restate(key)
    answer = world.host.request(
        "POST",
        f"/runtime/webhooks/durabletask/instances/{run['run_id']}/restart?restartWithNewInstanceId=false",
    )
    assert answer.status == 202, answer.body
    assert world.finish(run["run_id"]) == run
    assert len(world.simulator.requests) == asked
    assert_ended(world, run, "landed")


# -- Failed: the deadline


def test_timed_out_after_a_wait_that_crossed_the_deadline_and_one_last_look(world: World) -> None:
    key = fresh(world)
    behave(world, operation_end="never", retry_after_seconds=5 * 3600)
    start, looked, before = (
        world.clock.now(),
        len(world.simulator.requests_of("poll")),
        folders_of(world, key),
    )
    run = land(world, key)
    assert_ended(world, run, "timed_out", "deadline_passed")
    looks = [one.clock - start for one in world.simulator.requests_of("poll")[looked:]]
    deadline = parse_iso(run["deadline"]) - start
    assert deadline == timedelta(hours=24)
    assert looks[-2] < deadline < looks[-1]  # served in full, then one last look
    assert looks[-1] - looks[-2] >= timedelta(hours=5)
    assert parse_iso(run["ended_at"]) - start < looks[-1] + timedelta(minutes=1)
    assert nothing_more(world, key, before)


def test_the_last_look_behind_the_deadline_may_find_it_ready(world: World) -> None:
    key = fresh(world, "billed_usage")
    behave(world, ready_after_polls=0, ready_after_seconds=25 * 3600, retry_after_seconds=9 * 3600)
    run = land(world, key)
    assert_ended(world, run, "landed")
    assert parse_iso(run["ended_at"]) > parse_iso(run["deadline"])
    assert_landed(world, key, world.simulator.expected(key))


def test_timed_out_where_graph_only_ever_throttles(world: World) -> None:
    key = fresh(world)
    world.simulator.faults.add(
        Match(operation="start"), FaultResponse(status=429, headers={"Retry-After": "14400"})
    )
    run = land(world, key)
    assert_ended(world, run, "timed_out", "deadline_passed")
    assert run["operations"] == 0 and run["last_code"] == "graph_throttled"
    world.host.advance(timedelta(hours=4))  # what the whole app was asked to wait


def test_a_deadline_in_the_past_still_gives_one_look(world: World) -> None:
    key = fresh(world)
    behave(world, ready_after_polls=0)
    request = export_request(world, key)
    request["limits"]["deadline"] = (world.clock.now() - timedelta(days=2)).isoformat()
    world.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(world, world.finish(request["run_id"]), "landed")


# -- force


def test_force_lands_the_same_data_again_beside_it(world: World) -> None:
    key = fresh(world)
    first = land(world, key)
    run = land(world, key, force=True)
    assert_ended(world, run, "landed")
    assert run["version"] == first["version"] + "-2"
    assert_landed(world, key, world.simulator.expected(key))
    assert (
        len(
            [one for one in folders_of(world, key) if one.startswith(f"version={first['version']}")]
        )
        == 2
    )
