"""Runs that nobody works on any more: judged by one timer, closed as their own last activity would have closed them."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.host.errors import FunctionFailed
from shared.ledger.claims import claim, create_run
from shared.ledger.outcomes import close_run
from shared.services import install
from tests.durable.scene import (
    BEHAVIOUR,
    Call,
    Killed,
    around,
    as_before,
    assert_landed,
    assert_sound,
    catalogue_of,
    export_request,
    fields_of,
    lock_of,
    open_world,
    tables_of,
)
from tests.support.world import World

SLOW = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=300)
PASS = timedelta(minutes=5)  # between two passes of the timer


@pytest.fixture(scope="module")
def shared_world(azurite: Azurite) -> Iterator[World]:
    with open_world(azurite, start=datetime(2026, 11, 10, 6, 0, tzinfo=UTC)) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    install(shared_world.app)
    yield shared_world
    as_before(shared_world)


@pytest.fixture
def key(world: World) -> str:
    """Of one blob, with data that nobody has landed."""
    key = "unbilled_reconciliation/2026-10/USD/full"
    world.simulator.restate(key)
    return key


def waiting_run(world: World, key: str) -> str:
    """A run that waits for Microsoft for a long time."""
    world.simulator.behaviour = SLOW
    run_id = world.start(**fields_of(key))
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    return run_id


def settle(world: World) -> None:
    world.host.fire_timer("clean_up_orphaned_runs")


def view(world: World, run_id: str) -> dict[str, Any]:
    return dict(world.get(f"/api/runs/{run_id}"))


def purge(world: World, run_id: str) -> None:
    """The instance is forgotten by the engine, as when the task hub is lost."""
    world.host.terminate(run_id)
    world.host.wait(run_id)
    assert (
        world.host.request("DELETE", f"/runtime/webhooks/durabletask/instances/{run_id}").status
        == 200
    )
    assert world.host.status(run_id) is None


def assert_closed(world: World, run_id: str, outcome: str, code: str | None) -> None:
    """Row, catalogue and lock, as after a run that closed itself."""
    run = view(world, run_id)
    assert (run["outcome"], run["code"], run["stage"]) == (outcome, code, "ended")
    entry, lock = catalogue_of(world, run["key"]), lock_of(world, run["key"])
    assert entry is not None and (entry.last_outcome, entry.last_run_id) == (outcome, run_id)
    assert lock is not None and (lock.run_id, lock.unknown_since) == ("", "")


def assert_key_is_free(world: World, key: str) -> None:
    """It can be claimed and landed again, and further passes leave everything as it is."""
    world.simulator.behaviour = BEHAVIOUR
    run = world.land(**fields_of(key))
    assert run["outcome"] in ("landed", "unchanged"), run
    assert_landed(world, key, world.simulator.expected(key))
    before = state_of(world, run["run_id"])
    settle(world)
    world.host.advance(PASS)
    settle(world)
    assert state_of(world, run["run_id"]) == before


def state_of(world: World, run_id: str) -> dict[str, Any]:
    """All that close_run() writes."""
    run = world.run_row(run_id)
    entry, lock = catalogue_of(world, run.key), lock_of(world, run.key)
    assert lock is not None
    return {"run": run, "entry": entry, "lock": lock}


# -- who is dead


def test_terminated_by_hand_is_closed_within_one_pass(world: World, key: str) -> None:
    run_id = waiting_run(world, key)
    world.host.terminate(run_id, "by an operator")
    world.host.wait(run_id)
    settle(world)
    assert_closed(world, run_id, "failed", "terminated")
    assert_key_is_free(world, key)


def test_the_children_of_a_terminated_run_ask_microsoft_for_nothing_more(
    world: World, key: str
) -> None:
    run_id = waiting_run(world, key)
    world.host.terminate(run_id)
    settle(world)
    asked = len(world.simulator.requests)
    world.host.advance(timedelta(hours=2))
    assert len(world.simulator.requests) == asked
    assert not [
        one for one in world.host.instances() if one["runtimeStatus"] in ("Running", "Pending")
    ]


def test_lost_by_the_engine_is_closed_by_the_second_pass(world: World, key: str) -> None:
    run_id = waiting_run(world, key)
    purge(world, run_id)
    settle(world)
    assert view(world, run_id)["outcome"] is None  # once unknown is not dead yet
    noted = lock_of(world, key)
    assert noted is not None and noted.unknown_since
    world.host.advance(PASS / 2)
    settle(world)  # too early, and a pass more does not begin the count anew
    assert view(world, run_id)["outcome"] is None
    world.host.advance(PASS / 2)
    settle(world)
    assert_closed(world, run_id, "failed", "run_lost")
    assert_key_is_free(world, key)


def test_known_again_is_alive_again(world: World, key: str) -> None:
    """A starter was slow between its claim and start_new: what was unknown for a moment is not dead."""
    request = export_request(world, key)
    assert (
        world.on_loop(claim(world.app.ledger, create_run(request, world.clock.now())))["status"]
        == "claimed"
    )  # type: ignore[arg-type]
    settle(world)
    world.host.start_orchestration("export_run", request, request["run_id"])
    world.simulator.behaviour = SLOW
    world.host.run_until(lambda: world.run_row(request["run_id"]).polls >= 1)
    settle(world)
    lock = lock_of(world, key)
    assert lock is not None and (lock.run_id, lock.unknown_since) == (request["run_id"], "")
    world.simulator.behaviour = BEHAVIOUR
    assert world.finish(request["run_id"])["outcome"] == "landed"


def test_a_start_that_failed_leaves_a_claim_that_is_settled(world: World, key: str) -> None:
    request = export_request(world, key)
    world.on_loop(claim(world.app.ledger, create_run(request, world.clock.now())))  # type: ignore[arg-type]
    settle(world)
    world.host.advance(PASS)
    settle(world)
    assert_closed(world, request["run_id"], "failed", "run_lost")
    assert_key_is_free(world, key)


def test_a_claim_without_a_row_is_freed(world: World, key: str) -> None:
    """The starter died between the lock's row and the run's."""
    run_id, ledger = export_request(world, key)["run_id"], world.app.ledger

    async def nobody(_: object) -> bool:
        return False

    world.on_loop(ledger.locks.acquire(key, run_id, ledger.hub, world.clock.now(), nobody))
    settle(world)
    world.host.advance(PASS)
    settle(world)
    world.get(f"/api/runs/{run_id}", status=404)
    lock = lock_of(world, key)
    assert lock is not None and lock.run_id == ""
    assert_key_is_free(world, key)


@pytest.mark.parametrize("operation", ["nothing", "suspend"])
def test_the_living_and_the_suspended_stay(world: World, key: str, operation: str) -> None:
    run_id = waiting_run(world, key)
    if operation != "nothing":
        answer = world.host.request(
            "POST", f"/runtime/webhooks/durabletask/instances/{run_id}/{operation}?reason=x"
        )
        assert answer.status == 202
    world.host.settle()
    before = state_of(world, run_id)
    for _ in range(3):
        settle(world)
    assert state_of(world, run_id) == before and before["run"].outcome == ""
    if operation != "nothing":
        world.host.request(
            "POST", f"/runtime/webhooks/durabletask/instances/{run_id}/resume?reason=x"
        )
    world.simulator.behaviour = BEHAVIOUR
    assert world.finish(run_id)["outcome"] == "landed"


def test_a_run_of_another_hub_is_dead_only_when_its_lease_has_passed(
    world: World, key: str
) -> None:
    """Blue and green share the tables: this hub cannot ask the other's engine."""
    request, ledger = export_request(world, key), world.app.ledger
    mine, ledger.hub = ledger.hub, "OtherHub"
    try:
        world.on_loop(claim(ledger, create_run(request, world.clock.now())))  # type: ignore[arg-type]
    finally:
        ledger.hub = mine
    settle(world)
    world.host.advance(timedelta(minutes=55))
    settle(world)
    assert world.run_row(request["run_id"]).outcome == ""  # 55 minutes of an hour
    world.host.advance(PASS * 2)
    settle(world)
    assert_closed(world, request["run_id"], "failed", "run_lost")
    assert_key_is_free(world, key)


def test_a_long_wait_outlasts_the_lease_of_an_hour(world: World, key: str) -> None:
    """Seen from another hub: hours of Retry-After are not a death."""
    run_id = waiting_run(world, key)
    world.simulator.behaviour = replace(SLOW, retry_after_seconds=5 * 3600)
    world.host.run_until(lambda: world.run_row(run_id).polls >= 2)
    ledger = world.app.ledger
    mine, ledger.hub = ledger.hub, "OtherHub"
    try:
        for _ in range(4):
            world.host.advance(timedelta(hours=1, minutes=10))
            settle(world)
            assert world.run_row(run_id).outcome == ""
    finally:
        ledger.hub = mine
    world.simulator.behaviour = BEHAVIOUR
    assert world.finish(run_id)["outcome"] == "landed"


def test_a_cancelled_run_that_died_is_cancelled(world: World, key: str) -> None:
    run_id = waiting_run(world, key)
    world.post(f"/api/runs/{run_id}/cancel")
    world.host.terminate(run_id)
    world.host.wait(run_id)
    settle(world)
    assert_closed(world, run_id, "cancelled", "cancelled")
    assert_key_is_free(world, key)


# -- what was half done


def failing(call: Call) -> Call:
    async def called(**arguments: Any) -> Any:
        raise Killed

    return called


def test_a_run_whose_last_word_failed_three_times_has_landed_all_the_same(
    world: World, key: str
) -> None:
    with around(world, "record_outcome", failing):
        run_id = world.start(**fields_of(key))
        assert world.host.wait(run_id)["runtimeStatus"] == "Failed"
    run = view(world, run_id)
    assert run["outcome"] is None and run["version"]
    settle(world)
    assert_closed(world, run_id, "landed", None)
    expected, run = world.simulator.expected(key), view(world, run_id)
    assert run["blobs"] == {"total": 1, "landed": 1, "failed": 0}
    assert (run["bytes"], run["rows"]) == (expected.bytes, expected.rows)
    assert_landed(world, key, expected)
    assert_key_is_free(world, key)


def test_a_run_that_ended_badly_and_could_not_say_so_is_closed(world: World, key: str) -> None:
    with around(world, "record_outcome", failing), around(world, "plan_copy", failing):
        run_id = world.start(**fields_of(key))
        assert world.host.wait(run_id)["runtimeStatus"] == "Failed"
    settle(world)
    assert_closed(world, run_id, "failed", "platform_fault")
    assert_sound(world, key)
    assert_key_is_free(world, key)


def test_terminated_between_the_version_and_the_outcome_is_landed(world: World, key: str) -> None:
    """Version complete, outcome missing: whoever closes it says landed."""
    run_id = ""

    def terminated(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            result = await call(**arguments)
            world.host.terminate(run_id)
            return result

        return called

    with around(world, "commit_version", terminated):
        run_id = world.start(**fields_of(key))
        assert world.host.wait(run_id)["runtimeStatus"] == "Terminated"
    settle(world)
    assert_closed(world, run_id, "landed", None)
    assert_landed(world, key, world.simulator.expected(key))


WRITES_OF_A_CLOSE = 3  # run, catalogue, lock; the event between the last two is a log line


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, WRITES_OF_A_CLOSE + 1))
def test_a_half_done_close_is_finished(
    world: World,
    key: str,
    nth: int,
    when: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The closing activity dies at each of its writes, for good; what a pass makes of it is what was meant to be."""
    writes, ends, undisturbed = 0, [], world.land(**fields_of(key))
    meant = state_of(world, undisturbed["run_id"])
    world.host.advance(PASS)
    world.simulator.restate(key)

    def kill(at: str, kind: str, table: str) -> None:
        nonlocal writes
        if at == when and closing:
            writes += 1
            if writes >= nth:
                raise Killed

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

    tables_of(world).hook = kill
    with (
        around(world, "record_outcome", only_there),
        caplog.at_level(logging.INFO, "partner_billing.events"),
    ):
        run_id = world.start(**fields_of(key))
        world.host.wait(run_id)
        tables_of(world).hook = None
        settle(world)
    ends = [
        json.loads(record.message)
        for record in caplog.records
        if f"{run_id}/ended/1" in record.message
    ]
    assert {one["event_id"] for one in ends} == {f"{run_id}/ended/1"} and {
        one["outcome"] for one in ends
    } == {"landed"}
    assert_closed(world, run_id, "landed", None)
    found = state_of(world, run_id)
    assert comparable(found) == comparable(meant)
    settle(world)
    assert state_of(world, run_id) == found  # further passes change nothing
    assert_landed(world, key, world.simulator.expected(key))


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
    world: World, key: str, outcome: Any
) -> None:
    run_id = waiting_run(world, key)
    ledger = world.app.ledger

    def kill(at: str, kind: str, table: str) -> None:
        if table == "catalogue":
            raise Killed

    tables_of(world).hook = kill
    with pytest.raises(Killed):
        world.on_loop(close_run(ledger, run_id, {"outcome": outcome}))
    tables_of(world).hook = None
    world.host.terminate(run_id)
    world.host.wait(run_id)
    settle(world)
    assert_closed(world, run_id, outcome, None)


def test_a_run_that_is_closed_late_says_nothing_new_in_the_catalogue(
    world: World, key: str
) -> None:
    """It was taken for dead, another run landed the key, and then its own activity comes to its end."""
    run_id = waiting_run(world, key)
    world.host.request("POST", f"/runtime/webhooks/durabletask/instances/{run_id}/suspend?reason=x")
    world.host.settle()
    ledger = world.app.ledger
    world.on_loop(close_run(ledger, run_id, {"outcome": "failed", "code": "run_lost"}))
    world.simulator.behaviour = BEHAVIOUR
    later = world.land(**fields_of(key))
    assert later["outcome"] == "landed"
    entry, lock = catalogue_of(world, key), lock_of(world, key)
    world.host.request("POST", f"/runtime/webhooks/durabletask/instances/{run_id}/resume?reason=x")
    ended = world.finish(run_id)
    assert (ended["outcome"], ended["code"]) == ("failed", "run_lost")
    assert (catalogue_of(world, key), lock_of(world, key)) == (entry, lock)
    status = world.host.status(run_id)
    assert (
        status is not None
        and status["runtimeStatus"] == "Failed"
        and "run_lost" in status["output"]
    )


def test_a_pass_with_nothing_to_do_writes_nothing(world: World, key: str) -> None:
    waiting_run(world, key)
    writes: list[str] = []
    settle(world)
    tables_of(world).hook = lambda at, kind, table: writes.append(f"{at} {kind} {table}")
    settle(world)
    assert writes == []
    tables_of(world).hook = None
    world.simulator.behaviour = BEHAVIOUR


def test_one_lock_that_cannot_be_judged_does_not_keep_the_others_from_it(
    world: World, key: str
) -> None:
    """Nothing that one key's rows hold may leave the dead of other keys unburied."""
    first, other = waiting_run(world, key), "unbilled_usage/2026-10/USD/full"
    second = waiting_run(world, other)
    for run_id in (first, second):
        world.host.terminate(run_id)
        world.host.wait(run_id)

    def kill(at: str, kind: str, table: str) -> None:
        nonlocal killed
        if at == "before" and not killed:
            killed = True
            raise Killed

    killed = False
    tables_of(world).hook = kill
    with pytest.raises(FunctionFailed):  # the operator is told
        settle(world)
    tables_of(world).hook = None
    assert {view(world, run_id)["outcome"] for run_id in (first, second)} == {None, "failed"}
    settle(world)
    for run_id in (first, second):
        assert_closed(world, run_id, "failed", "terminated")
