"""Tests for each possible outcome of a run.

Each test causes one outcome and verifies the run row, the catalogue, the lock, the orchestration
and the landed blobs.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from azure.data.tables import TableClient

from local.azurite import Azurite
from local.simulator.faults import FaultResponse, Faults, Match
from local.simulator.partner import Partner
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
    # The start is long before the end of the month.
    with open_hooked_environment(azurite, start=datetime(2026, 11, 10, 6, 0, tzinfo=UTC)) as env:
        yield env


@pytest.fixture
def env(shared_env: AppEnvironment) -> Iterator[AppEnvironment]:
    install(shared_env.app)  # tests with their own environment replace these services
    yield shared_env
    reset_environment(shared_env)


def restate_key(env: AppEnvironment, dataset: str = "unbilled_usage") -> str:
    """Restate the last key of the dataset so that it has new data, and return the key.

    The data of this key changes only when a test restates it.
    """
    key = [key for key in env.simulator.export_keys() if key.startswith(dataset)][-1]
    env.simulator.restate(key)
    return key


def land(env: AppEnvironment, key: str, **more: Any) -> dict[str, Any]:
    return env.land(**key_fields(key), **more)


def set_behaviour(env: AppEnvironment, **changes: Any) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, **changes)


def has_same_folders(env: AppEnvironment, key: str, before: dict[str, Any]) -> bool:
    """Return whether the version folders of the key contain the same blobs as before."""
    return {folder: sorted(blobs) for folder, blobs in list_version_folders(env, key).items()} == {
        folder: sorted(blobs) for folder, blobs in before.items()
    }


# -- Completed runs


def test_run_with_new_data_ends_landed(env: AppEnvironment) -> None:
    key = restate_key(env)
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


def test_run_without_new_data_ends_unchanged(env: AppEnvironment) -> None:
    key = restate_key(env)
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
def test_run_operation_fails_with_5000_ends_no_data(env: AppEnvironment, code: str) -> None:
    key = restate_key(env)
    set_behaviour(env, operation_end="failed_5000", failure_code=code)
    before = list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "no_data")
    assert run["operations"] == 1 and has_same_folders(env, key, before)


@pytest.mark.parametrize("hostile", ["none", "null_members"])
def test_run_manifest_without_blobs_ends_no_data(env: AppEnvironment, hostile: str) -> None:
    key = restate_key(env)
    set_behaviour(env, empty_export="zero_blobs", hostile_manifest=hostile)
    env.simulator.restate(key, share=Decimal(0))
    before = list_version_folders(env, key)
    assert_ended(env, land(env, key), "no_data")
    assert has_same_folders(env, key, before)


def test_run_month_not_open_ends_no_data_until_the_month_opens(azurite: Azurite) -> None:
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


@pytest.mark.parametrize("proof", ["content", "transfer"])
def test_run_root_without_month_lands_only_data_whose_lines_confirm_the_month(
    azurite: Azurite, proof: str
) -> None:
    behaviour = replace(
        BEHAVIOUR, ready_after_polls=0, month_opens_after_hours=6, reconciliation_root="opaque"
    )
    with open_hooked_environment(
        azurite,
        start=datetime(2026, 12, 1, 5, 0, tzinfo=UTC),
        behaviour=behaviour,
        simulated_partner=Partner(rows_per_blob=20),
        PROOF=proof,
    ) as env:
        december, november = (f"unbilled_reconciliation/2026-{n}/USD/full" for n in (12, 11))
        for key in (december, november):  # Microsoft returns the data of the month before
            for _ in range(2):
                run = land(env, key)
                assert_ended(env, run, "no_data", "month_not_open")
                [folder] = list_version_folders(env, key).values()
                assert "_manifest.json" not in folder
        env.host.advance_to(datetime(2026, 12, 1, 12, 0, tzinfo=UTC))
        assert_ended(env, land(env, november), "landed")
        assert_sound(env, november, env.simulator.expected(november))
        env.host.advance_to(datetime(2026, 12, 3, 5, 0, tzinfo=UTC))
        run = land(env, december)
        assert_ended(env, run, "landed")
        assert_sound(env, december, env.simulator.expected(december))
        assert (run["rows"] is None) == (proof == "transfer")
        # The repair of a confirmed version, of which only the completion marker lists the blobs.
        remove_blob_rows(env)
        with get_container(env) as container:
            container.delete_blob(f"{run['path']}/{env.simulator.expected(december).blobs[0].name}")
        assert_ended(env, land(env, december), "landed")
        env.simulator.behaviour = replace(behaviour, month_opens_after_hours=72)
        run = land(env, december)
        assert_ended(env, run, "no_data", "month_not_open")
        assert env.run_row(run["run_id"]).plan == 0  # the eTag has landed as November


def remove_blob_rows(env: AppEnvironment) -> None:
    """Remove all blob rows, as retention does after a long time."""
    table = f"{env.app.settings.landing_table_prefix}blobs"
    connection_string = env.azurite.landing.connection_string
    with TableClient.from_connection_string(connection_string, table) as client:
        for row in list(client.list_entities()):
            client.delete_entity(row)


def test_cancel_while_run_waits_ends_cancelled_without_further_polls(env: AppEnvironment) -> None:
    key = restate_key(env)
    set_behaviour(env, ready_after_seconds=3600, retry_after_seconds=600)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 2)
    cancellation = env.post(f"/api/runs/{run_id}/cancel")
    polls = len(env.simulator.requests_of("poll"))
    run = env.finish(run_id)
    assert_ended(env, run, "cancelled", "cancelled")
    effective_by = parse_iso(cancellation["effective_by"])
    assert parse_iso(run["ended_at"]) <= effective_by + timedelta(seconds=5)
    assert len(env.simulator.requests_of("poll")) == polls  # no further request to Graph
    assert env.get(f"/api/runs/{run_id}") == run
    assert env.post(f"/api/runs/{run_id}/cancel", status=409)["code"] == "run_ended"


def test_cancel_while_run_copies_keeps_verified_blobs(env: AppEnvironment) -> None:
    key = restate_key(env, "billed_usage")
    expected = env.simulator.expected(key)
    run_id = env.start(**key_fields(key))
    gate = asyncio.Lock()

    def cancel_after_first_copy(call: Call) -> Call:
        async def wrapper(request: Any) -> Any:
            async with gate:
                result = await call(request=request)
                await asyncio.to_thread(env.post, f"/api/runs/{run_id}/cancel")
                return result

        return wrapper

    with wrap_function(env, "copy_blobs", cancel_after_first_copy):
        run = env.finish(run_id)
    assert_ended(env, run, "cancelled", "cancelled")
    assert run["blobs"]["landed"] == 1 and run["blobs"]["total"] == len(expected.blobs)
    assert_sound(env, key, expected)
    reads = len(env.simulator.storage_requests)
    later = land(env, key)
    assert_ended(env, later, "landed")
    assert_landed(env, key, expected)
    repeated_reads = [
        request for request in env.simulator.storage_requests[reads:] if request.method == "GET"
    ]
    assert len(repeated_reads) == len(expected.blobs) - 1


def test_cancel_before_run_starts_sends_no_request(env: AppEnvironment) -> None:
    key = restate_key(env)
    request = create_run_request(env, key)
    ledger = env.app.ledger
    claimed = env.on_loop(claim(ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    assert claimed["status"] == "claimed"
    env.post(f"/api/runs/{request['run_id']}/cancel")
    requests_before = len(env.simulator.requests)
    env.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(env, env.finish(request["run_id"]), "cancelled", "cancelled")
    assert len(env.simulator.requests) == requests_before


def test_run_key_held_by_another_run_ends_superseded(env: AppEnvironment) -> None:
    key = restate_key(env)
    set_behaviour(env, ready_after_seconds=3600, retry_after_seconds=600)
    live_run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(live_run_id).polls >= 1)
    late_request = create_run_request(env, key)
    env.host.start_orchestration("export_run", late_request, late_request["run_id"])
    env.host.settle()
    run = env.get(f"/api/runs/{late_request['run_id']}")
    assert_ended(env, run, "superseded", own=False)
    assert run["live_run_id"] == live_run_id and run["posts"] == 0
    lock = get_lock(env, key)
    assert lock is not None and lock.run_id == live_run_id
    assert_ended(env, env.finish(live_run_id), "landed")


def test_run_key_taken_over_while_it_waits_ends_superseded(env: AppEnvironment) -> None:
    key = restate_key(env)
    set_behaviour(env, ready_after_seconds=3600, retry_after_seconds=600)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    ledger, other = env.app.ledger, create_run_request(env, key)["run_id"]
    env.on_loop(ledger.locks.release(key, run_id))
    taken = env.on_loop(
        ledger.locks.acquire(
            key, other, "OtherHub", other, env.clock.now(), lambda lock: can_take_over()
        )
    )
    assert taken.run_id == other
    before = get_catalogue_entry(env, key)
    run = env.finish(run_id)
    assert_ended(env, run, "superseded", own=False)
    assert run["live_run_id"] == other and get_catalogue_entry(env, key) == before
    assert get_lock(env, key) == taken
    env.on_loop(ledger.locks.release(key, other))


async def can_take_over() -> bool:
    return False


# -- Failed runs


def test_run_blob_missing_ends_incomplete_and_next_run_copies_only_that_blob(
    env: AppEnvironment,
) -> None:
    key = restate_key(env, "billed_usage")
    expected = env.simulator.expected(key)
    missing_blob = expected.blobs[2].name
    env.simulator.faults.add(
        Match(operation="blob", path=f"*{missing_blob}"), FaultResponse(status=404)
    )
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
    # The folder contains no completion marker.
    assert sorted(kept) == sorted(blob.name for blob in expected.blobs if blob.name != missing_blob)
    env.simulator.faults, reads = Faults(), len(env.simulator.storage_requests)
    later = land(env, key)
    assert_ended(env, later, "landed")
    assert_landed(env, key, expected)
    read = {request.path.rsplit("/", 1)[-1] for request in env.simulator.storage_requests[reads:]}
    assert read == {missing_blob} and later["version"] == run["version"]
    now = list_version_folders(env, key)[folder]
    assert all(now[name].etag == blob.etag for name, blob in kept.items())


def test_run_unknown_invoice_ends_graph_bad_request(env: AppEnvironment) -> None:
    run = env.land("billed_usage", invoice_id="G099999999")
    assert_ended(env, run, "failed", "graph_bad_request")
    assert run["posts"] == 1 and run["operations"] == 0 and len(run["request_ids"]) == 1
    assert list_version_folders(env, run["key"]) == {}


@pytest.mark.parametrize(
    ("status", "code"), [(401, "graph_unauthorized"), (404, "graph_not_found")]
)
def test_run_graph_rejects_start_request_ends_failed(
    env: AppEnvironment, status: int, code: str
) -> None:
    key = restate_key(env)
    env.simulator.faults.add(Match(operation="start"), FaultResponse(status=status))
    before = list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "failed", code)
    assert run["posts"] == 1 and has_same_folders(env, key, before)


def test_run_permission_denied_while_it_waits_ends_graph_forbidden(env: AppEnvironment) -> None:
    key = restate_key(env)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    set_behaviour(env, permission="denied")
    run = env.finish(run_id)
    assert_ended(env, run, "failed", "graph_forbidden")
    assert run["operations"] == 1


def test_run_operation_fails_three_times_ends_operation_failed(env: AppEnvironment) -> None:
    key = restate_key(env)
    set_behaviour(env, operation_end="failed_other")
    before = list_version_folders(env, key)
    run = land(env, key)
    assert_ended(env, run, "failed", "operation_failed")
    assert (run["posts"], run["operations"]) == (3, 3) and has_same_folders(env, key, before)


@pytest.mark.parametrize("status", ["404", "410"])
def test_run_operation_gone_three_times_ends_operation_gone(
    env: AppEnvironment, status: str
) -> None:
    key = restate_key(env)
    set_behaviour(env, operation_lifetime_reads=1, gone=status)
    run = land(env, key)
    assert_ended(env, run, "failed", "operation_gone")
    assert (run["posts"], run["operations"]) == (3, 3)


def test_run_month_out_of_range_ends_not_served(env: AppEnvironment) -> None:
    """The API rejects this month, but a month can also close while a run waits for a long time."""
    assert (
        env.post("/api/runs", key_fields("unbilled_usage/2026-09/USD/full"), status=400)["code"]
        == "request_invalid"
    )
    request = create_run_request(env, "unbilled_usage/2026-09/USD/full")
    env.host.start_orchestration("export_run", request, request["run_id"])
    run = env.finish(request["run_id"])
    assert_ended(env, run, "failed", "not_served")
    assert run["posts"] == 0


HOSTILE = {  # the unit tests cover the other hostile manifests
    "manifest_rejected": ["foreign_host", "query_in_root", "dot_dot", "count_too_high"],
    "manifest_mismatch": ["other_tenant", "other_currency"],
}


@pytest.mark.parametrize(
    ("hostile", "code"),
    [(hostile, code) for code, manifests in HOSTILE.items() for hostile in manifests],
)
def test_run_hostile_manifest_ends_failed_without_reading_blobs(
    env: AppEnvironment, hostile: str, code: str
) -> None:
    key = restate_key(env)
    set_behaviour(env, hostile_manifest=hostile, ready_after_polls=0)
    before, reads = list_version_folders(env, key), len(env.simulator.storage_requests)
    run = land(env, key)
    assert_ended(env, run, "failed", code)
    assert len(env.simulator.storage_requests) == reads and has_same_folders(env, key, before)
    assert run["detail"] and run["request_ids"] and run["posts"] == 1


@pytest.mark.parametrize(
    ("manifest", "hostile", "member"),
    [("inline", "null_name", "blobs[0].name"), ("link", "no_sas", "sasToken")],
)
def test_run_malformed_manifest_three_times_ends_manifest_malformed(
    env: AppEnvironment, manifest: str, hostile: str, member: str
) -> None:
    key = restate_key(env)
    set_behaviour(env, hostile_manifest=hostile, manifest=manifest, ready_after_polls=0)
    before, reads = list_version_folders(env, key), len(env.simulator.storage_requests)
    run = land(env, key)
    assert_ended(env, run, "failed", "manifest_malformed")
    assert (run["posts"], run["operations"]) == (3, 3) and run["detail"].startswith(f"{member} ")
    assert run["waited_seconds"] >= 30 + 60  # between the requests
    assert len(env.simulator.storage_requests) == reads and has_same_folders(env, key, before)


def test_run_malformed_manifest_once_requests_a_new_export_and_lands(env: AppEnvironment) -> None:
    key = restate_key(env)
    set_behaviour(env, hostile_manifest="null_name", ready_after_polls=0)
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).last_code == "manifest_malformed")
    assert "blobs[0].name" in env.run_row(run_id).detail
    set_behaviour(env)
    run = env.finish(run_id)
    assert_ended(env, run, "landed")
    assert (run["posts"], run["operations"], run["detail"]) == (2, 2, None)
    assert_landed(env, key, env.simulator.expected(key))


def test_run_malformed_manifest_while_planning_requests_a_new_export(env: AppEnvironment) -> None:
    """The poll returns a valid manifest, and the plan step a malformed one."""
    key = restate_key(env)
    set_behaviour(env, ready_after_polls=0)
    manifests = iter(["null_name"])

    def plan_with_malformed_manifest(call: Call) -> Call:
        async def wrapper(request: Any) -> Any:
            set_behaviour(env, hostile_manifest=next(manifests, "none"), ready_after_polls=0)
            result = await call(request=request)
            set_behaviour(env, ready_after_polls=0)
            return result

        return wrapper

    with wrap_function(env, "plan_copy", plan_with_malformed_manifest):
        run = land(env, key)
    assert_ended(env, run, "landed")
    assert (run["posts"], run["operations"], run["last_code"]) == (2, 2, "manifest_malformed")


def test_run_manifest_of_another_invoice_ends_manifest_mismatch(env: AppEnvironment) -> None:
    key = restate_key(env, "billed_usage")
    set_behaviour(env, hostile_manifest="other_invoice")
    assert_ended(env, land(env, key), "failed", "manifest_mismatch")


def test_run_foreign_blob_in_folder_ends_foreign_blob_and_keeps_it(env: AppEnvironment) -> None:
    key = restate_key(env, "billed_usage")
    expected = env.simulator.expected(key)
    env.simulator.faults.add(
        Match(operation="blob", path=f"*{expected.blobs[0].name}"), FaultResponse(status=404)
    )
    first = land(env, key)
    assert first["outcome"] == "incomplete"
    env.simulator.faults = Faults()
    with get_container(env) as container:
        container.upload_blob(f"{first['path']}/notes.txt", b"unrelated notes")
        assert_ended(env, land(env, key), "failed", "foreign_blob")
        folder = list_version_folders(env, key)[first["path"].rsplit("/", 1)[-1]]
        assert "notes.txt" in folder and "_manifest.json" not in folder
        container.delete_blob(f"{first['path']}/notes.txt")
    assert_ended(env, land(env, key), "landed")
    assert_landed(env, key, expected)


def test_run_foreign_blob_with_expected_name_is_not_overwritten(env: AppEnvironment) -> None:
    key = restate_key(env, "billed_usage")
    expected = env.simulator.expected(key)
    name = expected.blobs[0].name
    env.simulator.faults.add(Match(operation="blob", path=f"*{name}"), FaultResponse(status=404))
    first = land(env, key)
    env.simulator.faults = Faults()
    with get_container(env) as container:
        container.upload_blob(f"{first['path']}/{name}", b"other content")
        run = land(env, key)
        assert_ended(env, run, "incomplete", "blobs_missing")
        assert (
            container.download_blob(f"{first['path']}/{name}", decompress=False).readall()
            == b"other content"
        )
        container.delete_blob(f"{first['path']}/{name}")
    assert_ended(env, land(env, key), "landed")


def test_run_table_writes_fail_three_times_ends_platform_fault(env: AppEnvironment) -> None:
    key = restate_key(env)
    before = list_version_folders(env, key)

    def fail_write(when: str, kind: str, table: str) -> None:
        if table == "versions":
            raise WorkerKilledError

    get_hooked_tables(env).hook = fail_write
    run = land(env, key)
    get_hooked_tables(env).hook = None
    assert_ended(env, run, "failed", "platform_fault")
    assert has_same_folders(env, key, before)
    assert_ended(env, land(env, key), "landed")


def test_run_activity_fails_three_times_ends_platform_fault(env: AppEnvironment) -> None:
    key = restate_key(env)

    def raise_worker_killed(call: Call) -> Call:
        async def wrapper(request: Any) -> Any:
            raise WorkerKilledError

        return wrapper

    with wrap_function(env, "commit_version", raise_worker_killed):
        run = land(env, key)
    assert_ended(env, run, "failed", "platform_fault")
    # The verified blobs remain, but the version is not published.
    assert run["blobs"]["landed"] == run["blobs"]["total"] > 0
    assert_sound(env, key)
    later = land(env, key)
    assert_ended(env, later, "landed")
    assert later["version"] == run["version"]


def with_changes(**changes: Any) -> Any:
    return lambda request: {**request, **changes}


@pytest.mark.parametrize(
    "change_request",
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
def test_run_invalid_input_ends_input_invalid(env: AppEnvironment, change_request: Any) -> None:
    """A caller with the host key can start an orchestration with any input.

    For invalid input, the run acquires no lock, sends no request and writes no row.
    """
    request = create_run_request(env, restate_key(env))
    requests_before = len(env.simulator.requests)
    invalid_request = change_request(request)
    env.host.start_orchestration("export_run", invalid_request, request["run_id"])
    status = env.host.wait(request["run_id"])
    assert status["runtimeStatus"] == "Failed" and "failed (input_invalid)" in status["output"]
    assert len(env.simulator.requests) == requests_before
    env.get(f"/api/runs/{request['run_id']}", status=404)
    lock = get_lock(env, request["key"])
    assert lock is None or lock.run_id == ""


def test_restart_with_new_id_fails_and_keeps_the_outcome(env: AppEnvironment) -> None:
    key = restate_key(env)
    run = land(env, key)
    before, entry = list_version_folders(env, key), get_catalogue_entry(env, key)
    response = env.host.request(
        "POST",
        f"/runtime/webhooks/durabletask/instances/{run['run_id']}/restart?restartWithNewInstanceId=true",
    )
    assert response.status == 202, response.body
    new_id = json.loads(response.body)["id"]
    assert new_id != run["run_id"]
    status = env.host.wait(new_id)
    assert (
        status["runtimeStatus"] == "Failed" and "failed (instance_id_mismatch)" in status["output"]
    )
    assert env.get(f"/api/runs/{run['run_id']}") == run
    assert has_same_folders(env, key, before) and get_catalogue_entry(env, key) == entry


def test_restart_with_same_id_returns_same_outcome_without_requests(
    env: AppEnvironment,
) -> None:
    key = restate_key(env)
    run, requests_before = land(env, key), len(env.simulator.requests)
    env.simulator.restate(key)
    response = env.host.request(
        "POST",
        f"/runtime/webhooks/durabletask/instances/{run['run_id']}/restart?restartWithNewInstanceId=false",
    )
    assert response.status == 202, response.body
    assert env.finish(run["run_id"]) == run
    assert len(env.simulator.requests) == requests_before
    assert_ended(env, run, "landed")


# -- Runs that reach the deadline


def test_run_wait_crosses_deadline_polls_once_more_and_ends_timed_out(
    env: AppEnvironment,
) -> None:
    key = restate_key(env)
    set_behaviour(env, operation_end="never", retry_after_seconds=5 * 3600)
    start, earlier_polls, before = (
        env.clock.now(),
        len(env.simulator.requests_of("poll")),
        list_version_folders(env, key),
    )
    run = land(env, key)
    assert_ended(env, run, "timed_out", "deadline_passed")
    polls = [poll.clock - start for poll in env.simulator.requests_of("poll")[earlier_polls:]]
    deadline = parse_iso(run["deadline"]) - start
    assert deadline == timedelta(hours=24)
    assert polls[-2] < deadline < polls[-1]  # the full wait, then one last poll
    assert polls[-1] - polls[-2] >= timedelta(hours=5)
    assert parse_iso(run["ended_at"]) - start < polls[-1] + timedelta(minutes=1)
    assert has_same_folders(env, key, before)


def test_run_export_ready_at_last_poll_after_deadline_ends_landed(env: AppEnvironment) -> None:
    key = restate_key(env, "billed_usage")
    set_behaviour(
        env, ready_after_polls=0, ready_after_seconds=25 * 3600, retry_after_seconds=9 * 3600
    )
    run = land(env, key)
    assert_ended(env, run, "landed")
    assert parse_iso(run["ended_at"]) > parse_iso(run["deadline"])
    assert_landed(env, key, env.simulator.expected(key))


def test_run_graph_always_throttles_ends_timed_out(env: AppEnvironment) -> None:
    key = restate_key(env)
    env.simulator.faults.add(
        Match(operation="start"), FaultResponse(status=429, headers={"Retry-After": "14400"})
    )
    run = land(env, key)
    assert_ended(env, run, "timed_out", "deadline_passed")
    assert run["operations"] == 0 and run["last_code"] == "graph_throttled"
    env.host.advance(timedelta(hours=4))  # the Retry-After that applies to the whole app


def test_run_deadline_in_the_past_still_polls_once(env: AppEnvironment) -> None:
    key = restate_key(env)
    set_behaviour(env, ready_after_polls=0)
    request = create_run_request(env, key)
    request["limits"]["deadline"] = (env.clock.now() - timedelta(days=2)).isoformat()
    env.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(env, env.finish(request["run_id"]), "landed")


# -- Runs with the "force" option


def test_force_same_data_lands_a_second_version(env: AppEnvironment) -> None:
    key = restate_key(env)
    first = land(env, key)
    run = land(env, key, force=True)
    assert_ended(env, run, "landed")
    assert run["version"] == first["version"] + "-2"
    assert_landed(env, key, env.simulator.expected(key))
    assert (
        len(
            [
                folder
                for folder in list_version_folders(env, key)
                if folder.startswith(f"version={first['version']}")
            ]
        )
        == 2
    )
