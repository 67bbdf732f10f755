"""Runs that nobody works on any more: judged by one timer, closed as their own last activity would have closed them."""

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
PASS = timedelta(minutes=5)  # between two passes of the timer


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
    """Of one blob, with data that nobody has landed."""
    key = "unbilled_reconciliation/2026-10/USD/full"
    env.simulator.restate(key)
    return key


def waiting_run(env: AppEnvironment, key: str) -> str:
    """A run that waits for Microsoft for a long time."""
    env.simulator.behaviour = SLOW
    run_id = env.start(**key_fields(key))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    return run_id


def settle(env: AppEnvironment) -> None:
    env.host.fire_timer("clean_up_orphaned_runs")


def view(env: AppEnvironment, run_id: str) -> dict[str, Any]:
    return dict(env.get(f"/api/runs/{run_id}"))


def purge(env: AppEnvironment, run_id: str) -> None:
    """The instance is forgotten by the engine, as when the task hub is lost."""
    env.host.terminate(run_id)
    env.host.wait(run_id)
    assert (
        env.host.request("DELETE", f"/runtime/webhooks/durabletask/instances/{run_id}").status
        == 200
    )
    assert env.host.status(run_id) is None


def assert_closed(env: AppEnvironment, run_id: str, outcome: str, code: str | None) -> None:
    """Row, catalogue and lock, as after a run that closed itself."""
    run = view(env, run_id)
    assert (run["outcome"], run["code"], run["stage"]) == (outcome, code, "ended")
    entry, lock = get_catalogue_entry(env, run["key"]), get_lock(env, run["key"])
    assert entry is not None and (entry.last_outcome, entry.last_run_id) == (outcome, run_id)
    assert lock is not None and (lock.run_id, lock.unknown_since) == ("", "")


def assert_key_is_free(env: AppEnvironment, key: str) -> None:
    """It can be claimed and landed again, and further passes leave everything as it is."""
    env.simulator.behaviour = BEHAVIOUR
    run = env.land(**key_fields(key))
    assert run["outcome"] in ("landed", "unchanged"), run
    assert_landed(env, key, env.simulator.expected(key))
    before = state_of(env, run["run_id"])
    settle(env)
    env.host.advance(PASS)
    settle(env)
    assert state_of(env, run["run_id"]) == before


def state_of(env: AppEnvironment, run_id: str) -> dict[str, Any]:
    """All that close_run() writes."""
    run = env.run_row(run_id)
    entry, lock = get_catalogue_entry(env, run.key), get_lock(env, run.key)
    assert lock is not None
    return {"run": run, "entry": entry, "lock": lock}


# -- who is dead


def test_terminated_by_hand_is_closed_within_one_pass(env: AppEnvironment, key: str) -> None:
    run_id = waiting_run(env, key)
    env.host.terminate(run_id, "by an operator")
    env.host.wait(run_id)
    settle(env)
    assert_closed(env, run_id, "failed", "terminated")
    assert_key_is_free(env, key)


def test_the_children_of_a_terminated_run_ask_microsoft_for_nothing_more(
    env: AppEnvironment, key: str
) -> None:
    run_id = waiting_run(env, key)
    env.host.terminate(run_id)
    settle(env)
    asked = len(env.simulator.requests)
    env.host.advance(timedelta(hours=2))
    assert len(env.simulator.requests) == asked
    assert not [
        one for one in env.host.instances() if one["runtimeStatus"] in ("Running", "Pending")
    ]


def test_lost_by_the_engine_is_closed_by_the_second_pass(env: AppEnvironment, key: str) -> None:
    run_id = waiting_run(env, key)
    purge(env, run_id)
    settle(env)
    assert view(env, run_id)["outcome"] is None  # once unknown is not dead yet
    noted = get_lock(env, key)
    assert noted is not None and noted.unknown_since
    env.host.advance(PASS / 2)
    settle(env)  # too early, and a pass more does not begin the count anew
    assert view(env, run_id)["outcome"] is None
    env.host.advance(PASS / 2)
    settle(env)
    assert_closed(env, run_id, "failed", "run_lost")
    assert_key_is_free(env, key)


def test_known_again_is_alive_again(env: AppEnvironment, key: str) -> None:
    """A starter was slow between its claim and start_new: what was unknown for a moment is not dead."""
    request = create_run_request(env, key)
    assert (
        env.on_loop(claim(env.app.ledger, create_run(request, env.clock.now())))["status"]
        == "claimed"
    )  # type: ignore[arg-type]
    settle(env)
    env.host.start_orchestration("export_run", request, request["run_id"])
    env.simulator.behaviour = SLOW
    env.host.run_until(lambda: env.run_row(request["run_id"]).polls >= 1)
    settle(env)
    lock = get_lock(env, key)
    assert lock is not None and (lock.run_id, lock.unknown_since) == (request["run_id"], "")
    env.simulator.behaviour = BEHAVIOUR
    assert env.finish(request["run_id"])["outcome"] == "landed"


def test_a_start_that_failed_leaves_a_claim_that_is_settled(env: AppEnvironment, key: str) -> None:
    request = create_run_request(env, key)
    env.on_loop(claim(env.app.ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    settle(env)
    env.host.advance(PASS)
    settle(env)
    assert_closed(env, request["run_id"], "failed", "run_lost")
    assert_key_is_free(env, key)


def test_a_claim_without_a_row_is_freed(env: AppEnvironment, key: str) -> None:
    """The starter died between the lock's row and the run's."""
    run_id, ledger = create_run_request(env, key)["run_id"], env.app.ledger

    async def nobody(_: object) -> bool:
        return False

    env.on_loop(ledger.locks.acquire(key, run_id, ledger.hub, env.clock.now(), nobody))
    settle(env)
    env.host.advance(PASS)
    settle(env)
    env.get(f"/api/runs/{run_id}", status=404)
    lock = get_lock(env, key)
    assert lock is not None and lock.run_id == ""
    assert_key_is_free(env, key)


@pytest.mark.parametrize("operation", ["nothing", "suspend"])
def test_the_living_and_the_suspended_stay(env: AppEnvironment, key: str, operation: str) -> None:
    run_id = waiting_run(env, key)
    if operation != "nothing":
        answer = env.host.request(
            "POST", f"/runtime/webhooks/durabletask/instances/{run_id}/{operation}?reason=x"
        )
        assert answer.status == 202
    env.host.settle()
    before = state_of(env, run_id)
    for _ in range(3):
        settle(env)
    assert state_of(env, run_id) == before and before["run"].outcome == ""
    if operation != "nothing":
        env.host.request(
            "POST", f"/runtime/webhooks/durabletask/instances/{run_id}/resume?reason=x"
        )
    env.simulator.behaviour = BEHAVIOUR
    assert env.finish(run_id)["outcome"] == "landed"


def test_a_run_of_another_hub_is_dead_only_when_its_lease_has_passed(
    env: AppEnvironment, key: str
) -> None:
    """Blue and green share the tables: this hub cannot ask the other's engine."""
    request, ledger = create_run_request(env, key), env.app.ledger
    mine, ledger.hub = ledger.hub, "OtherHub"
    try:
        env.on_loop(claim(ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    finally:
        ledger.hub = mine
    settle(env)
    env.host.advance(timedelta(minutes=55))
    settle(env)
    assert env.run_row(request["run_id"]).outcome == ""  # 55 minutes of an hour
    env.host.advance(PASS * 2)
    settle(env)
    assert_closed(env, request["run_id"], "failed", "run_lost")
    assert_key_is_free(env, key)


def test_a_long_wait_outlasts_the_lease_of_an_hour(env: AppEnvironment, key: str) -> None:
    """Seen from another hub: hours of Retry-After are not a death."""
    run_id = waiting_run(env, key)
    env.simulator.behaviour = replace(SLOW, retry_after_seconds=5 * 3600)
    env.host.run_until(lambda: env.run_row(run_id).polls >= 2)
    ledger = env.app.ledger
    mine, ledger.hub = ledger.hub, "OtherHub"
    try:
        for _ in range(4):
            env.host.advance(timedelta(hours=1, minutes=10))
            settle(env)
            assert env.run_row(run_id).outcome == ""
    finally:
        ledger.hub = mine
    env.simulator.behaviour = BEHAVIOUR
    assert env.finish(run_id)["outcome"] == "landed"


def test_a_cancelled_run_that_died_is_cancelled(env: AppEnvironment, key: str) -> None:
    run_id = waiting_run(env, key)
    env.post(f"/api/runs/{run_id}/cancel")
    env.host.terminate(run_id)
    env.host.wait(run_id)
    settle(env)
    assert_closed(env, run_id, "cancelled", "cancelled")
    assert_key_is_free(env, key)


# -- what was half done


def failing(call: Call) -> Call:
    async def called(**arguments: Any) -> Any:
        raise WorkerKilledError

    return called


def test_a_run_whose_last_word_failed_three_times_has_landed_all_the_same(
    env: AppEnvironment, key: str
) -> None:
    with wrap_function(env, "record_outcome", failing):
        run_id = env.start(**key_fields(key))
        assert env.host.wait(run_id)["runtimeStatus"] == "Failed"
    run = view(env, run_id)
    assert run["outcome"] is None and run["version"]
    settle(env)
    assert_closed(env, run_id, "landed", None)
    expected, run = env.simulator.expected(key), view(env, run_id)
    assert run["blobs"] == {"total": 1, "landed": 1, "failed": 0}
    assert (run["bytes"], run["rows"]) == (expected.bytes, expected.rows)
    assert_landed(env, key, expected)
    assert_key_is_free(env, key)


def test_a_run_that_ended_badly_and_could_not_say_so_is_closed(
    env: AppEnvironment, key: str
) -> None:
    with wrap_function(env, "record_outcome", failing), wrap_function(env, "plan_copy", failing):
        run_id = env.start(**key_fields(key))
        assert env.host.wait(run_id)["runtimeStatus"] == "Failed"
    settle(env)
    assert_closed(env, run_id, "failed", "platform_fault")
    assert_sound(env, key)
    assert_key_is_free(env, key)


def test_terminated_between_the_version_and_the_outcome_is_landed(
    env: AppEnvironment, key: str
) -> None:
    """Version complete, outcome missing: whoever closes it says landed."""
    run_id = ""

    def terminated(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            result = await call(**arguments)
            env.host.terminate(run_id)
            return result

        return called

    with wrap_function(env, "commit_version", terminated):
        run_id = env.start(**key_fields(key))
        assert env.host.wait(run_id)["runtimeStatus"] == "Terminated"
    settle(env)
    assert_closed(env, run_id, "landed", None)
    assert_landed(env, key, env.simulator.expected(key))


WRITES_OF_A_CLOSE = 3  # run, catalogue, lock; the event between the last two is a log line


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, WRITES_OF_A_CLOSE + 1))
def test_a_half_done_close_is_finished(
    env: AppEnvironment,
    key: str,
    nth: int,
    when: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The closing activity dies at each of its writes, for good; what a pass makes of it is what was meant to be."""
    writes, ends, undisturbed = 0, [], env.land(**key_fields(key))
    meant = state_of(env, undisturbed["run_id"])
    env.host.advance(PASS)
    env.simulator.restate(key)

    def kill(at: str, kind: str, table: str) -> None:
        nonlocal writes
        if at == when and closing:
            writes += 1
            if writes >= nth:
                raise WorkerKilledError

    closing = False

    def only_there(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            nonlocal closing, writes
            closing, writes = True, 0
            try:
                return await call(**arguments)
            finally:
                closing = False

        return called

    get_hooked_tables(env).hook = kill
    with (
        wrap_function(env, "record_outcome", only_there),
        caplog.at_level(logging.INFO, "partner_billing.events"),
    ):
        run_id = env.start(**key_fields(key))
        env.host.wait(run_id)
        get_hooked_tables(env).hook = None
        settle(env)
    ends = [
        json.loads(record.message)
        for record in caplog.records
        if f"{run_id}/ended/1" in record.message
    ]
    assert {one["event_id"] for one in ends} == {f"{run_id}/ended/1"} and {
        one["outcome"] for one in ends
    } == {"landed"}
    assert_closed(env, run_id, "landed", None)
    found = state_of(env, run_id)
    assert comparable(found) == comparable(meant)
    settle(env)
    assert state_of(env, run_id) == found  # further passes change nothing
    assert_landed(env, key, env.simulator.expected(key))


def comparable(state: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run: ids, times, data."""
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
        "lock": (lock.run_id, lock.unknown_since),
    }


@pytest.mark.parametrize("outcome", ["no_data", "cancelled"])
def test_an_outcome_that_was_written_is_kept_by_whoever_finishes_the_close(
    env: AppEnvironment, key: str, outcome: Any
) -> None:
    run_id = waiting_run(env, key)
    ledger = env.app.ledger

    def kill(at: str, kind: str, table: str) -> None:
        if table == "catalogue":
            raise WorkerKilledError

    get_hooked_tables(env).hook = kill
    with pytest.raises(WorkerKilledError):
        env.on_loop(close_run(ledger, run_id, {"outcome": outcome}))
    get_hooked_tables(env).hook = None
    env.host.terminate(run_id)
    env.host.wait(run_id)
    settle(env)
    assert_closed(env, run_id, outcome, None)


def test_a_run_that_is_closed_late_says_nothing_new_in_the_catalogue(
    env: AppEnvironment, key: str
) -> None:
    """It was taken for dead, another run landed the key, and then its own activity comes to its end."""
    run_id = waiting_run(env, key)
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


def test_a_pass_with_nothing_to_do_writes_nothing(env: AppEnvironment, key: str) -> None:
    waiting_run(env, key)
    writes: list[str] = []
    settle(env)
    get_hooked_tables(env).hook = lambda at, kind, table: writes.append(f"{at} {kind} {table}")
    settle(env)
    assert writes == []
    get_hooked_tables(env).hook = None
    env.simulator.behaviour = BEHAVIOUR


def test_one_lock_that_cannot_be_judged_does_not_keep_the_others_from_it(
    env: AppEnvironment, key: str
) -> None:
    """Nothing that one key's rows hold may leave the dead of other keys unburied."""
    first, other = waiting_run(env, key), "unbilled_usage/2026-10/USD/full"
    second = waiting_run(env, other)
    for run_id in (first, second):
        env.host.terminate(run_id)
        env.host.wait(run_id)

    def kill(at: str, kind: str, table: str) -> None:
        nonlocal killed
        if at == "before" and not killed:
            killed = True
            raise WorkerKilledError

    killed = False
    get_hooked_tables(env).hook = kill
    with pytest.raises(FunctionFailedError):  # the operator is told
        settle(env)
    get_hooked_tables(env).hook = None
    assert {view(env, run_id)["outcome"] for run_id in (first, second)} == {None, "failed"}
    settle(env)
    for run_id in (first, second):
        assert_closed(env, run_id, "failed", "terminated")
