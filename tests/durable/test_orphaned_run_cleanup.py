"""Tests for the orphaned-run cleanup: a timer closes these runs as their last activity would."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.host.errors import FunctionFailedError
from shared.ledger.claims import claim, create_run
from shared.ledger.open_items import OpenItem
from shared.ledger.outcomes import close_run
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
    assert_landed,
    assert_sound,
    create_run_request,
    get_catalogue_entry,
    get_lock,
    key_fields,
)

SLOW = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=300)
PASS_INTERVAL = timedelta(minutes=5)


@pytest.fixture(scope="module")
def shared_env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with open_hooked_environment(azurite, start=datetime(2026, 11, 10, 6, 0, tzinfo=UTC)) as env:
        yield env


@pytest.fixture
def env(shared_env: AppEnvironment) -> Iterator[AppEnvironment]:
    install(shared_env.app)
    yield shared_env
    reset_environment(shared_env)


@pytest.fixture
def key(env: AppEnvironment) -> str:
    """A key whose export has one blob and data that has not landed."""
    key = "unbilled_reconciliation/2026-10/USD/full"
    env.simulator.restate(key)
    return key


def start_waiting_run(env: AppEnvironment, key: str) -> str:
    """Start a run that waits for its export for a long time."""
    env.simulator.behaviour = SLOW
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    return run_id


def clean_up(env: AppEnvironment) -> None:
    env.host.fire_timer("clean_up_orphaned_runs")


def get_run(env: AppEnvironment, run_id: str) -> dict[str, Any]:
    return dict(env.get(f"/api/runs/{run_id}"))


def get_open_item(env: AppEnvironment, item_id: str) -> OpenItem | None:
    async def find() -> OpenItem | None:
        items = [item async for item in env.app.ledger.open_items.list()]
        return next((item for item in items if item.item_id == item_id), None)

    return env.on_loop(find())


def purge(env: AppEnvironment, run_id: str) -> None:
    """Delete the instance of the run, as if the task hub had been lost."""
    env.host.terminate(run_id)
    env.host.wait(run_id)
    assert (
        env.host.request("DELETE", f"/runtime/webhooks/durabletask/instances/{run_id}").status
        == 200
    )
    assert env.host.status(run_id) is None


def assert_closed(env: AppEnvironment, run_id: str, outcome: str, code: str | None) -> None:
    """Verify that the row, catalogue and lock are as they are after a run closes itself."""
    run = get_run(env, run_id)
    assert (run["outcome"], run["code"], run["stage"]) == (outcome, code, "ended")
    entry, lock = get_catalogue_entry(env, run["key"]), get_lock(env, run["key"])
    assert entry is not None and (entry.last_outcome, entry.last_run_id) == (outcome, run_id)
    assert lock is not None and lock.run_id == ""
    assert not get_open_item(env, run_id)


def assert_key_is_free(env: AppEnvironment, key: str) -> None:
    """Verify that the key can land again and that further passes change nothing."""
    env.simulator.behaviour = BEHAVIOUR
    run = env.land(**key_fields(key))
    assert run["outcome"] in ("landed", "unchanged"), run
    assert_landed(env, key, env.simulator.expected(key))
    before = get_state(env, run["run_id"])
    clean_up(env)
    env.host.advance(PASS_INTERVAL)
    clean_up(env)
    assert get_state(env, run["run_id"]) == before


def get_state(env: AppEnvironment, run_id: str) -> dict[str, Any]:
    """Return everything that close_run() writes."""
    run = env.run_row(run_id)
    entry, lock = get_catalogue_entry(env, run.key), get_lock(env, run.key)
    assert lock is not None
    return {"run": run, "entry": entry, "lock": lock}


# -- Detection of orphaned runs


def test_cleanup_terminated_run_closes_it_in_one_pass(env: AppEnvironment, key: str) -> None:
    run_id = start_waiting_run(env, key)
    env.host.terminate(run_id, "by an operator")
    env.host.wait(run_id)
    clean_up(env)
    assert_closed(env, run_id, "failed", "terminated")
    assert_key_is_free(env, key)


def test_retry_of_terminated_run_after_cleanup_lands(env: AppEnvironment, key: str) -> None:
    run_id = start_waiting_run(env, key)
    env.host.terminate(run_id)
    env.host.wait(run_id)
    assert env.post(f"/api/runs/{run_id}/retry", status=409)["code"] == "run_live"
    clean_up(env)
    env.simulator.behaviour = BEHAVIOUR
    assert_retry_lands(env, key, run_id)


def assert_retry_lands(env: AppEnvironment, key: str, run_id: str) -> None:
    """Retry a run that the cleanup has closed, and verify that the new run lands its data."""
    retry = env.post(f"/api/runs/{run_id}/retry")
    assert retry["started"] and retry["run_id"] != run_id
    run = env.finish(retry["run_id"])
    assert (run["outcome"], run["retry_of"]) == ("landed", run_id)
    assert_landed(env, key, env.simulator.expected(key))


def test_terminate_run_stops_requests_of_its_suborchestrations(
    env: AppEnvironment, key: str
) -> None:
    run_id = start_waiting_run(env, key)
    env.host.terminate(run_id)
    env.host.wait(run_id)
    clean_up(env)
    requests_before = len(env.simulator.requests)
    env.host.advance(timedelta(hours=2))
    assert len(env.simulator.requests) == requests_before
    assert not [
        instance
        for instance in env.host.instances()
        if instance["runtimeStatus"] in ("Running", "Pending")
    ]


def test_cleanup_run_without_instance_closes_it_after_the_interval(
    env: AppEnvironment, key: str
) -> None:
    run_id = start_waiting_run(env, key)
    purge(env, run_id)
    clean_up(env)
    assert get_run(env, run_id)["outcome"] is None  # one pass is not enough
    item = get_open_item(env, run_id)
    assert item is not None and item.gone_since
    env.host.advance(PASS_INTERVAL / 2)
    clean_up(env)  # too early; a further pass does not restart the count
    assert get_run(env, run_id)["outcome"] is None
    env.host.advance(PASS_INTERVAL / 2)
    clean_up(env)
    assert_closed(env, run_id, "failed", "run_lost")
    assert_key_is_free(env, key)


def test_cleanup_instance_appears_late_keeps_the_run(env: AppEnvironment, key: str) -> None:
    """The starter was slow between the claim and start_new, so the instance was briefly unknown."""
    request = create_run_request(env, key)
    assert (
        env.on_loop(claim(env.app.ledger, create_run(request, env.clock.now())))["status"]
        == "claimed"
    )  # type: ignore[arg-type]
    clean_up(env)
    env.host.start_orchestration("export_run", request, request["run_id"])
    env.simulator.behaviour = SLOW
    env.host.run_until(lambda: env.run_row(request["run_id"]).polls >= 1)
    clean_up(env)
    lock = get_lock(env, key)
    assert lock is not None and lock.run_id == request["run_id"]
    item = get_open_item(env, request["run_id"])
    assert item is not None and item.gone_since == ""
    env.simulator.behaviour = BEHAVIOUR
    assert env.finish(request["run_id"])["outcome"] == "landed"


def test_cleanup_claim_of_failed_start_closes_the_run(env: AppEnvironment, key: str) -> None:
    request = create_run_request(env, key)
    env.on_loop(claim(env.app.ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    clean_up(env)
    env.host.advance(PASS_INTERVAL)
    clean_up(env)
    assert_closed(env, request["run_id"], "failed", "run_lost")
    assert_key_is_free(env, key)


def test_cleanup_claim_without_run_row_releases_the_lock(env: AppEnvironment, key: str) -> None:
    """The starter stopped after it wrote the lock and before it wrote the run row."""
    run_id, ledger = create_run_request(env, key)["run_id"], env.app.ledger

    async def can_take_over(_: object) -> bool:
        return False

    env.on_loop(
        ledger.locks.acquire(key, run_id, ledger.hub, run_id, env.clock.now(), can_take_over)
    )
    clean_up(env)
    env.host.advance(PASS_INTERVAL)
    clean_up(env)
    env.get(f"/api/runs/{run_id}", status=404)
    lock = get_lock(env, key)
    assert lock is not None and lock.run_id == ""
    assert_key_is_free(env, key)


@pytest.mark.parametrize("operation", ["nothing", "suspend"])
def test_cleanup_live_or_suspended_run_changes_nothing(
    env: AppEnvironment, key: str, operation: str
) -> None:
    run_id = start_waiting_run(env, key)
    if operation != "nothing":
        response = env.host.request(
            "POST", f"/runtime/webhooks/durabletask/instances/{run_id}/{operation}?reason=x"
        )
        assert response.status == 202
    env.host.settle()
    before = get_state(env, run_id)
    for _ in range(3):
        clean_up(env)
    assert get_state(env, run_id) == before and before["run"].outcome == ""
    if operation != "nothing":
        env.host.request(
            "POST", f"/runtime/webhooks/durabletask/instances/{run_id}/resume?reason=x"
        )
    env.simulator.behaviour = BEHAVIOUR
    assert env.finish(run_id)["outcome"] == "landed"


def test_cleanup_run_of_another_hub_closes_it_only_after_its_lease(
    env: AppEnvironment, key: str
) -> None:
    """Two deployments share the tables, but a hub cannot query the instances of another hub."""
    request, ledger = create_run_request(env, key), env.app.ledger
    own_hub, ledger.hub = ledger.hub, "OtherHub"
    try:
        env.on_loop(claim(ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    finally:
        ledger.hub = own_hub
    clean_up(env)
    env.host.advance(timedelta(minutes=55))
    clean_up(env)
    assert env.run_row(request["run_id"]).outcome == ""  # the lease lasts one hour
    env.host.advance(PASS_INTERVAL * 2)
    clean_up(env)
    assert_closed(env, request["run_id"], "failed", "run_lost")
    assert_key_is_free(env, key)


def test_cleanup_run_with_long_wait_keeps_it_beyond_one_lease(
    env: AppEnvironment, key: str
) -> None:
    """Another hub must not close a run that waits for hours because of a Retry-After header."""
    run_id = start_waiting_run(env, key)
    env.simulator.behaviour = replace(SLOW, retry_after_seconds=5 * 3600)
    env.host.run_until(lambda: env.run_row(run_id).polls >= 2)
    ledger = env.app.ledger
    own_hub, ledger.hub = ledger.hub, "OtherHub"
    try:
        for _ in range(4):
            env.host.advance(timedelta(hours=1, minutes=10))
            clean_up(env)
            assert env.run_row(run_id).outcome == ""
    finally:
        ledger.hub = own_hub
    env.simulator.behaviour = BEHAVIOUR
    assert env.finish(run_id)["outcome"] == "landed"


def test_cleanup_terminated_run_with_cancel_request_ends_cancelled(
    env: AppEnvironment, key: str
) -> None:
    run_id = start_waiting_run(env, key)
    env.post(f"/api/runs/{run_id}/cancel")
    env.host.terminate(run_id)
    env.host.wait(run_id)
    clean_up(env)
    assert_closed(env, run_id, "cancelled", "cancelled")
    assert_key_is_free(env, key)


# -- Runs that stopped before they finished


def raise_worker_killed(call: Call) -> Call:
    async def wrapper(**arguments: Any) -> Any:
        raise WorkerKilledError

    return wrapper


def test_cleanup_complete_version_without_outcome_ends_landed(
    env: AppEnvironment, key: str
) -> None:
    with wrap_function(env, "record_outcome", raise_worker_killed):
        run_id = env.start(**key_fields(key))
        assert env.host.wait(run_id)["runtimeStatus"] == "Failed"
    run = get_run(env, run_id)
    assert run["outcome"] is None and run["version"]
    clean_up(env)
    assert_closed(env, run_id, "landed", None)
    expected, run = env.simulator.expected(key), get_run(env, run_id)
    assert run["blobs"] == {"total": 1, "landed": 1, "failed": 0}
    assert (run["bytes"], run["rows"]) == (expected.bytes, expected.rows)
    assert_landed(env, key, expected)
    assert_key_is_free(env, key)


def test_cleanup_failed_run_without_outcome_is_started_again_three_times(
    env: AppEnvironment, key: str
) -> None:
    with (
        wrap_function(env, "record_outcome", raise_worker_killed),
        wrap_function(env, "plan_copy", raise_worker_killed),
    ):
        run_id = env.start(**key_fields(key))
        instances = [run_id, *(f"{run_id}~restart-{number}" for number in (1, 2, 3))]
        for instance_id in instances:
            assert get_run(env, run_id)["ended_at"] is None
            assert env.host.wait(instance_id)["runtimeStatus"] == "Failed"
            clean_up(env)
    assert_closed(env, run_id, "failed", "restart_limit_reached")
    assert get_run(env, run_id)["restarts"] == 3
    assert_sound(env, key)
    assert_retry_lands(env, key, run_id)
    assert_key_is_free(env, key)


def test_cleanup_failed_run_without_outcome_lands_after_restart(env: AppEnvironment) -> None:
    key = "unbilled_usage/2026-10/USD/full"
    env.simulator.restate(key)
    with (
        wrap_function(env, "record_outcome", raise_worker_killed),
        wrap_function(env, "plan_copy", raise_worker_killed),
    ):
        run_id = env.start(**key_fields(key))
        assert env.host.wait(run_id)["runtimeStatus"] == "Failed"
    clean_up(env)
    assert env.host.wait(f"{run_id}~restart-1")["runtimeStatus"] == "Completed"
    assert_closed(env, run_id, "landed", None)
    assert env.run_row(run_id).restarts == 1
    assert_sound(env, key)


def test_cleanup_run_terminated_after_commit_ends_landed(env: AppEnvironment, key: str) -> None:
    """The version is complete and the outcome is missing, so the cleanup records "landed"."""
    run_id = ""

    def terminate_after_call(call: Call) -> Call:
        async def wrapper(**arguments: Any) -> Any:
            result = await call(**arguments)
            env.host.terminate(run_id)
            return result

        return wrapper

    with wrap_function(env, "commit_version", terminate_after_call):
        run_id = env.start(**key_fields(key))
        assert env.host.wait(run_id)["runtimeStatus"] == "Terminated"
    clean_up(env)
    assert_closed(env, run_id, "landed", None)
    assert_landed(env, key, env.simulator.expected(key))


CLOSE_WRITE_COUNT = 3  # run, catalogue and lock; the event is only a log record


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, CLOSE_WRITE_COUNT + 1))
def test_cleanup_partial_close_completes_it(
    env: AppEnvironment,
    key: str,
    nth: int,
    when: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The closing activity fails permanently at each write; the next pass closes the run."""
    writes, end_events, reference_run = 0, [], env.land(**key_fields(key))
    intended = get_state(env, reference_run["run_id"])
    env.host.advance(PASS_INTERVAL)
    env.simulator.restate(key)

    def fail_write(at: str, kind: str, table: str) -> None:
        nonlocal writes
        if at == when and closing:
            writes += 1
            if writes >= nth:
                raise WorkerKilledError

    closing = False

    def mark_closing(call: Call) -> Call:
        async def wrapper(**arguments: Any) -> Any:
            nonlocal closing, writes
            closing, writes = True, 0
            try:
                return await call(**arguments)
            finally:
                closing = False

        return wrapper

    get_hooked_tables(env).hook = fail_write
    with (
        wrap_function(env, "record_outcome", mark_closing),
        caplog.at_level(logging.INFO, "partner_billing.events"),
    ):
        run_id = env.start(**key_fields(key))
        env.host.wait(run_id)
        get_hooked_tables(env).hook = None
        clean_up(env)
    end_events = [
        json.loads(record.message)
        for record in caplog.records
        if f"{run_id}/ended/1" in record.message
    ]
    assert {event["event_id"] for event in end_events} == {f"{run_id}/ended/1"} and {
        event["outcome"] for event in end_events
    } == {"landed"}
    assert_closed(env, run_id, "landed", None)
    actual = get_state(env, run_id)
    assert get_comparable_state(actual) == get_comparable_state(intended)
    clean_up(env)
    assert get_state(env, run_id) == actual  # further passes change nothing
    assert_landed(env, key, env.simulator.expected(key))


def get_comparable_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state without the values that differ between runs: IDs, times and data."""
    run, entry, lock = state["run"], state["entry"], state["lock"]
    names = (
        "outcome",
        "code",
        "stage",
        "next_check_at",
        "blobs_total",
        "blobs_landed",
        "blobs_failed",
        "operations",
        "posts",
        "polls",
    )
    return {
        **{name: getattr(run, name) for name in names},
        "same_version": run.version == entry.version,
        "last": (entry.last_outcome, entry.last_code),
        "ended": run.ended_at == entry.last_ended_at,
        "lock": lock.run_id,
    }


@pytest.mark.parametrize("outcome", ["no_data", "cancelled"])
def test_cleanup_partial_close_keeps_the_written_outcome(
    env: AppEnvironment, key: str, outcome: Any
) -> None:
    run_id = start_waiting_run(env, key)
    ledger = env.app.ledger

    def fail_write(at: str, kind: str, table: str) -> None:
        if table == "catalogue":
            raise WorkerKilledError

    get_hooked_tables(env).hook = fail_write
    with pytest.raises(WorkerKilledError):
        env.on_loop(close_run(ledger, run_id, {"outcome": outcome}))
    get_hooked_tables(env).hook = None
    env.host.terminate(run_id)
    env.host.wait(run_id)
    clean_up(env)
    assert_closed(env, run_id, outcome, None)


def test_close_run_after_cleanup_leaves_catalogue_and_lock_unchanged(
    env: AppEnvironment, key: str
) -> None:
    """The cleanup closed the run, and another run landed the key before its activity ended."""
    run_id = start_waiting_run(env, key)
    env.host.request("POST", f"/runtime/webhooks/durabletask/instances/{run_id}/suspend?reason=x")
    env.host.settle()
    ledger = env.app.ledger
    env.on_loop(close_run(ledger, run_id, {"outcome": "failed", "code": "run_lost"}))
    env.simulator.behaviour = BEHAVIOUR
    later = env.land(**key_fields(key))
    assert later["outcome"] == "landed"
    entry, lock = get_catalogue_entry(env, key), get_lock(env, key)
    env.host.request("POST", f"/runtime/webhooks/durabletask/instances/{run_id}/resume?reason=x")
    ended = env.finish(run_id)
    assert (ended["outcome"], ended["code"]) == ("failed", "run_lost")
    assert (get_catalogue_entry(env, key), get_lock(env, key)) == (entry, lock)
    status = env.host.status(run_id)
    assert (
        status is not None
        and status["runtimeStatus"] == "Failed"
        and "run_lost" in status["output"]
    )


def test_cleanup_without_orphaned_runs_writes_nothing(env: AppEnvironment, key: str) -> None:
    start_waiting_run(env, key)
    writes: list[str] = []
    clean_up(env)
    get_hooked_tables(env).hook = lambda at, kind, table: writes.append(f"{at} {kind} {table}")
    clean_up(env)
    assert writes == []
    get_hooked_tables(env).hook = None
    env.simulator.behaviour = BEHAVIOUR


def test_cleanup_one_lock_fails_still_closes_the_others(env: AppEnvironment, key: str) -> None:
    """The rows of one key must not prevent the cleanup of other keys."""
    first, other = start_waiting_run(env, key), "unbilled_usage/2026-10/USD/full"
    second = start_waiting_run(env, other)
    for run_id in (first, second):
        env.host.terminate(run_id)
        env.host.wait(run_id)

    def fail_write(at: str, kind: str, table: str) -> None:
        nonlocal has_failed
        if at == "before" and not has_failed:
            has_failed = True
            raise WorkerKilledError

    has_failed = False
    get_hooked_tables(env).hook = fail_write
    with pytest.raises(FunctionFailedError):  # the failure is visible to the operator
        clean_up(env)
    get_hooked_tables(env).hook = None
    assert {get_run(env, run_id)["outcome"] for run_id in (first, second)} == {None, "failed"}
    clean_up(env)
    for run_id in (first, second):
        assert_closed(env, run_id, "failed", "terminated")
