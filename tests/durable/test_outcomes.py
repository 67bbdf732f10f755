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
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import (
    BEHAVIOUR,
    Call,
    WorkerKilledError,
    get_hooked_tables,
    open_hooked_environment,
    reset_environment,
    wrap_function,
)
from tests.support.run_state import (
    assert_ended,
    assert_landed,
    assert_sound,
    create_run_request,
    get_catalogue_entry,
    get_container,
    get_lock,
    key_fields,
    list_version_folders,
)


@pytest.fixture(scope="module")
def shared_env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with open_hooked_environment(
        azurite, start=datetime(2026, 11, 10, 6, 0, tzinfo=UTC)
    ) as env:  # long before the month's end
        yield env


@pytest.fixture
def env(shared_env: AppEnvironment) -> Iterator[AppEnvironment]:
    install(shared_env.app)  # a test with its own environment has removed it
    yield shared_env
    reset_environment(shared_env)


def fresh(env: AppEnvironment, dataset: str = "unbilled_usage") -> str:
    """A key of the dataset with data that nobody has landed yet: the last month's, which change only when they are restated."""
    key = [key for key in env.simulator.export_keys() if key.startswith(dataset)][-1]
    env.simulator.restate(key)
    return key


def land(env: AppEnvironment, key: str, **more: Any) -> dict[str, Any]:
    return env.land(**key_fields(key), **more)


def behave(env: AppEnvironment, **changes: Any) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, **changes)


def nothing_more(env: AppEnvironment, key: str, before: dict[str, Any]) -> bool:
    """The key's folders hold what they held before."""
    return {folder: sorted(blobs) for folder, blobs in list_version_folders(env, key).items()} == {
        folder: sorted(blobs) for folder, blobs in before.items()
    }


# -- Completed


def test_landed(env: AppEnvironment) -> None:
    key = fresh(env)
    run, expected = land(env, key), env.simulator.expected(key)
    assert_ended(env, run, "landed")
    assert_landed(env, key, expected)
    entry = get_catalogue_entry(env, key)
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


def test_unchanged(env: AppEnvironment) -> None:
    key = fresh(env)
    first, before = land(env, key), list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "unchanged")
    assert run["version"] == first["version"] and run["blobs"]["landed"] == run["blobs"]["total"]
    assert {name: blob.etag for blobs in before.values() for name, blob in blobs.items()} == {
        name: blob.etag
        for blobs in list_version_folders(env, key).values()
        for name, blob in blobs.items()
    }


@pytest.mark.parametrize("code", ["string", "number"])
def test_no_data_where_the_operation_fails_with_5000(env: AppEnvironment, code: str) -> None:
    key = fresh(env)
    behave(env, operation_end="failed_5000", failure_code=code)
    before = list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "no_data")
    assert run["operations"] == 1 and nothing_more(env, key, before)


def test_no_data_where_the_manifest_has_no_blob(env: AppEnvironment) -> None:
    key = fresh(env)
    behave(env, empty_export="zero_blobs")
    env.simulator.restate(key, share=Decimal(0))
    before = list_version_folders(env, key)
    assert_ended(env, land(env, key), "no_data")
    assert nothing_more(env, key, before)


def test_no_data_where_the_month_is_not_open_yet_and_landed_when_it_is(azurite: Azurite) -> None:
    behaviour = replace(BEHAVIOUR, month_opens_after_hours=6)
    with open_hooked_environment(
        azurite, start=datetime(2026, 12, 1, 2, 0, tzinfo=UTC), behaviour=behaviour
    ) as env:
        key = "unbilled_reconciliation/2026-12/USD/full"
        run = env.land("unbilled_reconciliation")
        assert run["key"] == key
        assert_ended(env, run, "no_data", "month_not_open")
        assert list_version_folders(env, key) == {}
        env.host.advance(timedelta(days=1))
        later = env.land("unbilled_reconciliation")
        assert later["key"] == key and later["outcome"] != "no_data", later


def test_cancelled_while_it_waits(env: AppEnvironment) -> None:
    key = fresh(env)
    behave(env, ready_after_seconds=3600, retry_after_seconds=600)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 2)
    answer = env.post(f"/api/runs/{run_id}/cancel")
    looks = len(env.simulator.requests_of("poll"))
    run = env.finish(run_id)
    assert_ended(env, run, "cancelled", "cancelled")
    assert parse_iso(run["ended_at"]) <= parse_iso(answer["effective_by"]) + timedelta(seconds=5)
    assert len(env.simulator.requests_of("poll")) == looks  # nothing more was asked of Microsoft
    assert env.get(f"/api/runs/{run_id}") == run
    assert env.post(f"/api/runs/{run_id}/cancel", status=409)["code"] == "run_ended"


def test_cancelled_while_it_copies_keeps_what_is_proven(env: AppEnvironment) -> None:
    key = fresh(env, "billed_usage")
    expected = env.simulator.expected(key)
    run_id = env.start(**key_fields(key))
    gate = asyncio.Lock()

    def first_only(call: Call) -> Call:
        async def called(request: Any) -> Any:
            async with gate:
                result = await call(request=request)
                await asyncio.to_thread(env.post, f"/api/runs/{run_id}/cancel")
                return result

        return called

    with wrap_function(env, "copy_blobs", first_only):
        run = env.finish(run_id)
    assert_ended(env, run, "cancelled", "cancelled")
    assert run["blobs"]["landed"] == 1 and run["blobs"]["total"] == len(expected.blobs)
    assert_sound(env, key, expected)
    reads = len(env.simulator.storage_requests)
    later = land(env, key)
    assert_ended(env, later, "landed")
    assert_landed(env, key, expected)
    again = [one for one in env.simulator.storage_requests[reads:] if one.method == "GET"]
    assert len(again) == len(expected.blobs) - 1


def test_cancelled_before_it_claims(env: AppEnvironment) -> None:
    key = fresh(env)
    request = create_run_request(env, key)
    ledger = env.app.ledger
    claimed = env.on_loop(claim(ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    assert claimed["status"] == "claimed"
    env.post(f"/api/runs/{request['run_id']}/cancel")
    asked = len(env.simulator.requests)
    env.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(env, env.finish(request["run_id"]), "cancelled", "cancelled")
    assert len(env.simulator.requests) == asked


def test_superseded_where_another_run_holds_the_key(env: AppEnvironment) -> None:
    key = fresh(env)
    behave(env, ready_after_seconds=3600, retry_after_seconds=600)
    live = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(live).polls >= 1)
    late = create_run_request(env, key)
    env.host.start_orchestration("export_run", late, late["run_id"])
    env.host.settle()
    run = env.get(f"/api/runs/{late['run_id']}")
    assert_ended(env, run, "superseded", own=False)
    assert run["live_run_id"] == live and run["posts"] == 0
    lock = get_lock(env, key)
    assert lock is not None and lock.run_id == live
    assert_ended(env, env.finish(live), "landed")


def test_superseded_where_the_key_was_taken_over_meanwhile(env: AppEnvironment) -> None:
    key = fresh(env)
    behave(env, ready_after_seconds=3600, retry_after_seconds=600)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    ledger, other = env.app.ledger, create_run_request(env, key)["run_id"]
    env.on_loop(ledger.locks.release(key, run_id))
    taken = env.on_loop(
        ledger.locks.acquire(key, other, "OtherHub", env.clock.now(), lambda lock: _no())
    )
    assert taken.run_id == other
    before = get_catalogue_entry(env, key)
    run = env.finish(run_id)
    assert_ended(env, run, "superseded", own=False)
    assert run["live_run_id"] == other and get_catalogue_entry(env, key) == before
    assert get_lock(env, key) == taken
    env.on_loop(ledger.locks.release(key, other))


async def _no() -> bool:
    return False


# -- Failed


def test_incomplete_keeps_what_is_proven_and_a_later_run_copies_just_the_rest(
    env: AppEnvironment,
) -> None:
    key = fresh(env, "billed_usage")
    expected = env.simulator.expected(key)
    stuck = expected.blobs[2].name
    env.simulator.faults.add(Match(operation="blob", path=f"*{stuck}"), FaultResponse(status=404))
    run = land(env, key)
    assert_ended(env, run, "incomplete", "blobs_missing")
    assert run["blobs"] == {
        "total": len(expected.blobs),
        "landed": len(expected.blobs) - 1,
        "failed": 1,
    }
    assert_sound(env, key, expected)
    folder = run["path"].rsplit("/", 1)[-1]
    kept = list_version_folders(env, key)[folder]
    assert sorted(kept) == sorted(
        blob.name for blob in expected.blobs if blob.name != stuck
    )  # and no marker
    env.simulator.faults, reads = Faults(), len(env.simulator.storage_requests)
    later = land(env, key)
    assert_ended(env, later, "landed")
    assert_landed(env, key, expected)
    read = {one.path.rsplit("/", 1)[-1] for one in env.simulator.storage_requests[reads:]}
    assert read == {stuck} and later["version"] == run["version"]
    now = list_version_folders(env, key)[folder]
    assert all(now[name].etag == blob.etag for name, blob in kept.items())


def test_graph_bad_request(env: AppEnvironment) -> None:
    run = env.land("billed_usage", invoice_id="G099999999")
    assert_ended(env, run, "failed", "graph_bad_request")
    assert run["posts"] == 1 and run["operations"] == 0 and len(run["request_ids"]) == 1
    assert list_version_folders(env, run["key"]) == {}


@pytest.mark.parametrize(
    ("status", "code"), [(401, "graph_unauthorized"), (404, "graph_not_found")]
)
def test_graph_refuses_the_post(env: AppEnvironment, status: int, code: str) -> None:
    key = fresh(env)
    env.simulator.faults.add(Match(operation="start"), FaultResponse(status=status))
    before = list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "failed", code)
    assert run["posts"] == 1 and nothing_more(env, key, before)


def test_graph_forbidden_while_it_waits(env: AppEnvironment) -> None:
    key = fresh(env)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    behave(env, permission="denied")
    run = env.finish(run_id)
    assert_ended(env, run, "failed", "graph_forbidden")
    assert run["operations"] == 1


def test_operation_failed_three_times_over(env: AppEnvironment) -> None:
    key = fresh(env)
    behave(env, operation_end="failed_other")
    before = list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "failed", "operation_failed")
    assert (run["posts"], run["operations"]) == (3, 3) and nothing_more(env, key, before)


@pytest.mark.parametrize("status", ["404", "410"])
def test_operation_gone_three_times_over(env: AppEnvironment, status: str) -> None:
    key = fresh(env)
    behave(env, operation_lifetime_reads=1, gone=status)
    run = land(env, key)
    assert_ended(env, run, "failed", "operation_gone")
    assert (run["posts"], run["operations"]) == (3, 3)


def test_not_served(env: AppEnvironment) -> None:
    """A month that the HTTP door would refuse, as one that a run finds closed after a long wait."""
    assert (
        env.post("/api/runs", key_fields("unbilled_usage/2026-09/USD/full"), status=400)["code"]
        == "request_invalid"
    )
    request = create_run_request(env, "unbilled_usage/2026-09/USD/full")
    env.host.start_orchestration("export_run", request, request["run_id"])
    run = env.finish(request["run_id"])
    assert_ended(env, run, "failed", "not_served")
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
    env: AppEnvironment, hostile: str, code: str
) -> None:
    key = fresh(env)
    behave(env, hostile_manifest=hostile, ready_after_polls=0)
    before, reads = list_version_folders(env, key), len(env.simulator.storage_requests)
    run = land(env, key)
    assert_ended(env, run, "failed", code)
    assert len(env.simulator.storage_requests) == reads and nothing_more(env, key, before)
    assert code == "graph_malformed" or (run["detail"] and run["request_ids"])


def test_the_manifest_of_another_invoice_is_a_mismatch(env: AppEnvironment) -> None:
    key = fresh(env, "billed_usage")
    behave(env, hostile_manifest="other_invoice")
    assert_ended(env, land(env, key), "failed", "manifest_mismatch")


def test_a_foreign_blob_in_the_folder_is_left_alone_and_named(env: AppEnvironment) -> None:
    key = fresh(env, "billed_usage")
    expected = env.simulator.expected(key)
    env.simulator.faults.add(
        Match(operation="blob", path=f"*{expected.blobs[0].name}"), FaultResponse(status=404)
    )
    first = land(env, key)
    assert first["outcome"] == "incomplete"
    env.simulator.faults = Faults()
    with get_container(env) as container:
        container.upload_blob(f"{first['path']}/notes.txt", b"somebody's notes")
        assert_ended(env, land(env, key), "failed", "foreign_blob")
        folder = list_version_folders(env, key)[first["path"].rsplit("/", 1)[-1]]
        assert "notes.txt" in folder and "_manifest.json" not in folder
        container.delete_blob(f"{first['path']}/notes.txt")
    assert_ended(env, land(env, key), "landed")
    assert_landed(env, key, expected)


def test_a_foreign_blob_under_a_blobs_own_name_is_never_overwritten(env: AppEnvironment) -> None:
    key = fresh(env, "billed_usage")
    expected = env.simulator.expected(key)
    name = expected.blobs[0].name
    env.simulator.faults.add(Match(operation="blob", path=f"*{name}"), FaultResponse(status=404))
    first = land(env, key)
    env.simulator.faults = Faults()
    with get_container(env) as container:
        container.upload_blob(f"{first['path']}/{name}", b"not what it says")
        run = land(env, key)
        assert_ended(env, run, "incomplete", "blobs_missing")
        assert (
            container.download_blob(f"{first['path']}/{name}", decompress=False).readall()
            == b"not what it says"
        )
        container.delete_blob(f"{first['path']}/{name}")
    assert_ended(env, land(env, key), "landed")


def test_platform_fault_where_the_tables_fail_three_times(env: AppEnvironment) -> None:
    key = fresh(env)
    before = list_version_folders(env, key)

    def refuse(when: str, kind: str, table: str) -> None:
        if table == "versions":
            raise WorkerKilledError

    get_hooked_tables(env).hook = refuse
    run = land(env, key)
    get_hooked_tables(env).hook = None
    assert_ended(env, run, "failed", "platform_fault")
    assert nothing_more(env, key, before)
    assert_ended(env, land(env, key), "landed")


def test_platform_fault_where_an_activity_dies_three_times(env: AppEnvironment) -> None:
    key = fresh(env)

    def dying(call: Call) -> Call:
        async def called(request: Any) -> Any:
            raise WorkerKilledError

        return called

    with wrap_function(env, "commit_version", dying):
        run = land(env, key)
    assert_ended(env, run, "failed", "platform_fault")
    assert (
        run["blobs"]["landed"] == run["blobs"]["total"] > 0
    )  # proven, kept, and not shown as good
    assert_sound(env, key)
    later = land(env, key)
    assert_ended(env, later, "landed")
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
def test_input_invalid(env: AppEnvironment, spoil: Any) -> None:
    """Whoever has the host's own key can start anything; nothing is claimed, asked or written for it."""
    request = create_run_request(env, fresh(env))
    asked = len(env.simulator.requests)
    given = spoil(request)
    env.host.start_orchestration("export_run", given, request["run_id"])
    status = env.host.wait(request["run_id"])
    assert status["runtimeStatus"] == "Failed" and "failed (input_invalid)" in status["output"]
    assert len(env.simulator.requests) == asked
    env.get(f"/api/runs/{request['run_id']}", status=404)
    lock = get_lock(env, request["key"])
    assert lock is None or lock.run_id == ""


def test_a_restart_under_a_new_id_is_refused_and_the_run_keeps_its_end(env: AppEnvironment) -> None:
    key = fresh(env)
    run = land(env, key)
    before, entry = list_version_folders(env, key), get_catalogue_entry(env, key)
    answer = env.host.request(
        "POST",
        f"/runtime/webhooks/durabletask/instances/{run['run_id']}/restart?restartWithNewInstanceId=true",
    )
    assert answer.status == 202, answer.body
    new_id = json.loads(answer.body)["id"]
    assert new_id != run["run_id"]
    status = env.host.wait(new_id)
    assert (
        status["runtimeStatus"] == "Failed" and "failed (instance_id_mismatch)" in status["output"]
    )
    assert env.get(f"/api/runs/{run['run_id']}") == run
    assert nothing_more(env, key, before) and get_catalogue_entry(env, key) == entry


def test_a_restart_under_the_same_id_gives_the_same_end_and_does_nothing(
    env: AppEnvironment,
) -> None:
    key = fresh(env)
    run, asked = land(env, key), len(env.simulator.requests)
    env.simulator.restate(key)
    answer = env.host.request(
        "POST",
        f"/runtime/webhooks/durabletask/instances/{run['run_id']}/restart?restartWithNewInstanceId=false",
    )
    assert answer.status == 202, answer.body
    assert env.finish(run["run_id"]) == run
    assert len(env.simulator.requests) == asked
    assert_ended(env, run, "landed")


# -- Failed: the deadline


def test_timed_out_after_a_wait_that_crossed_the_deadline_and_one_last_look(
    env: AppEnvironment,
) -> None:
    key = fresh(env)
    behave(env, operation_end="never", retry_after_seconds=5 * 3600)
    start, looked, before = (
        env.clock.now(),
        len(env.simulator.requests_of("poll")),
        list_version_folders(env, key),
    )
    run = land(env, key)
    assert_ended(env, run, "timed_out", "deadline_passed")
    looks = [one.clock - start for one in env.simulator.requests_of("poll")[looked:]]
    deadline = parse_iso(run["deadline"]) - start
    assert deadline == timedelta(hours=24)
    assert looks[-2] < deadline < looks[-1]  # served in full, then one last look
    assert looks[-1] - looks[-2] >= timedelta(hours=5)
    assert parse_iso(run["ended_at"]) - start < looks[-1] + timedelta(minutes=1)
    assert nothing_more(env, key, before)


def test_the_last_look_behind_the_deadline_may_find_it_ready(env: AppEnvironment) -> None:
    key = fresh(env, "billed_usage")
    behave(env, ready_after_polls=0, ready_after_seconds=25 * 3600, retry_after_seconds=9 * 3600)
    run = land(env, key)
    assert_ended(env, run, "landed")
    assert parse_iso(run["ended_at"]) > parse_iso(run["deadline"])
    assert_landed(env, key, env.simulator.expected(key))


def test_timed_out_where_graph_only_ever_throttles(env: AppEnvironment) -> None:
    key = fresh(env)
    env.simulator.faults.add(
        Match(operation="start"), FaultResponse(status=429, headers={"Retry-After": "14400"})
    )
    run = land(env, key)
    assert_ended(env, run, "timed_out", "deadline_passed")
    assert run["operations"] == 0 and run["last_code"] == "graph_throttled"
    env.host.advance(timedelta(hours=4))  # what the whole app was asked to wait


def test_a_deadline_in_the_past_still_gives_one_look(env: AppEnvironment) -> None:
    key = fresh(env)
    behave(env, ready_after_polls=0)
    request = create_run_request(env, key)
    request["limits"]["deadline"] = (env.clock.now() - timedelta(days=2)).isoformat()
    env.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(env, env.finish(request["run_id"]), "landed")


# -- force


def test_force_lands_the_same_data_again_beside_it(env: AppEnvironment) -> None:
    key = fresh(env)
    first = land(env, key)
    run = land(env, key, force=True)
    assert_ended(env, run, "landed")
    assert run["version"] == first["version"] + "-2"
    assert_landed(env, key, env.simulator.expected(key))
    assert (
        len(
            [
                one
                for one in list_version_folders(env, key)
                if one.startswith(f"version={first['version']}")
            ]
        )
        == 2
    )
