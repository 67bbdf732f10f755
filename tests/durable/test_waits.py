"""Tests for the wait time of a run in its row, in the API and in its last event.

The wait time includes the waits for Microsoft Graph and between copy rounds, in virtual seconds.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.clock import parse_iso
from shared.errors import ThrottledError
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import (
    BEHAVIOUR,
    call_twice,
    get_hooked_tables,
    open_hooked_environment,
    reset_environment,
    wrap_function,
)
from tests.support.run_state import assert_ended, assert_landed, get_lock


@pytest.fixture(scope="module")
def shared_env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with open_hooked_environment(azurite, early_timers=False) as env:
        yield env


@pytest.fixture
def env(shared_env: AppEnvironment) -> Iterator[AppEnvironment]:
    yield shared_env
    reset_environment(shared_env)


def list_events(caplog: pytest.LogCaptureFixture, run_id: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "partner_billing.events"
    ]
    return [line for line in lines if line.get("instance_id") == run_id]


@pytest.mark.parametrize("repeat", [False, True], ids=["once", "each_poll_twice"])
def test_waited_seconds_retry_and_polls_adds_all_waits(
    env: AppEnvironment, caplog: pytest.LogCaptureFixture, repeat: bool
) -> None:
    """The run waits 60 s before Graph accepts the export, 10 s, and 100 s before each of two polls.

    Each wait is one second longer than requested, because timers might fire early.
    """
    caplog.set_level(logging.INFO, "partner_billing.events")
    env.simulator.restate("unbilled_usage/2026-10/USD/full")
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=2, retry_after_seconds=100)
    env.simulator.faults = Faults()
    env.simulator.faults.add(
        Match(operation="start", nth=(1,)), FaultResponse(status=503, headers={"Retry-After": "60"})
    )
    if repeat:
        with wrap_function(env, "check_operation", call_twice):
            run = env.land("unbilled_usage", billing_month="last")
    else:
        run = env.land("unbilled_usage", billing_month="last")
    polls = 1 if repeat else 2  # the simulator counts each poll
    expected_seconds = 61 + 11 + polls * 101  # the first poll is POLL_MIN_SECONDS after the POST
    assert (
        run["outcome"] == "landed"
        and expected_seconds - 3 <= run["waited_seconds"] <= expected_seconds + 3
    )
    [end_event] = [
        line for line in list_events(caplog, run["run_id"]) if line["event"] == "run_ended"
    ]
    assert end_event["waited_seconds"] == run["waited_seconds"] <= end_event["seconds"] + 3


def test_waited_seconds_copy_rounds_counts_only_the_pauses(env: AppEnvironment) -> None:
    key = "unbilled_reconciliation/2026-10/USD/full"
    env.simulator.restate(key)
    env.simulator.behaviour = Behaviour(ready_after_polls=0)
    env.simulator.faults = Faults()
    env.simulator.faults.add(
        Match(operation="blob", method="GET", path="*part-00000*"), FaultResponse(status=404)
    )
    run = env.land("unbilled_reconciliation", billing_month="last")
    assert run["outcome"] == "incomplete"
    # 10 s before the first poll; 30 s and 60 s before the second and the third round.
    assert 10 + 30 + 60 <= run["waited_seconds"] <= 10 + 30 + 60 + 5


def test_waited_seconds_orphaned_run_excludes_time_until_cleanup(env: AppEnvironment) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=600)
    run_id = env.start("unbilled_usage", attribute_set="basic")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 2)
    before = env.run_row(run_id).waited_seconds
    assert before >= 600
    env.host.terminate(run_id)
    env.host.wait(run_id)
    env.host.fire_timer("clean_up_orphaned_runs")
    run = env.get(f"/api/runs/{run_id}")
    assert (run["outcome"], run["waited_seconds"]) == ("failed", before)


def get_request_times(env: AppEnvironment, operation: str, since: int) -> list[timedelta]:
    """Return the times of the requests after the first `since`, relative to the first one."""
    clocks = [request.clock for request in env.simulator.requests_of(operation)[since:]]
    return [clock - clocks[0] for clock in clocks]


def land_restated(env: AppEnvironment, key: str = "unbilled_usage/2026-10/USD/full") -> Any:
    env.simulator.restate(key)
    return env.land(key.split("/")[0], billing_month="last")


@pytest.mark.parametrize(
    ("behaviour", "seconds"),
    [
        ({"start_retry_after": "seconds", "retry_after_seconds": 200}, 200),
        ({"start_retry_after": "seconds", "retry_after_seconds": 1}, 10),
        ({"start_retry_after": "absent"}, 10),
    ],
)
def test_first_poll_follows_after_retry_after_of_accepted_request(
    env: AppEnvironment, behaviour: dict[str, Any], seconds: int
) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=0, **behaviour)
    polls = len(env.simulator.requests_of("poll"))
    run = land_restated(env)
    assert run["outcome"] == "landed"
    post, poll = (
        env.simulator.requests_of("start")[-1].clock,
        env.simulator.requests_of("poll")[polls].clock,
    )
    assert timedelta(seconds=seconds) <= poll - post <= timedelta(seconds=seconds + 2)


def test_retry_after_date_is_relative_to_date_of_response(env: AppEnvironment) -> None:
    """The clock of Graph is an hour behind the clock of the app."""
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=0)
    env.simulator.faults = Faults().add(
        Match(operation="start", nth=(1,)),
        FaultResponse(
            status=503,
            headers={
                "Date": "Mon, 02 Nov 2026 05:00:00 GMT",
                "Retry-After": "Mon, 02 Nov 2026 05:07:00 GMT",
            },
        ),
    )
    posts = len(env.simulator.requests_of("start"))
    assert land_restated(env)["outcome"] == "landed"
    _, wait = get_request_times(env, "start", posts)
    assert timedelta(minutes=7) <= wait <= timedelta(minutes=7, seconds=5)


@pytest.mark.parametrize("hours", [3, 24])
def test_run_throttled_during_planning_ends_at_its_deadline(
    env: AppEnvironment, hours: int
) -> None:
    """Each wait extends the lease and is visible in the run row, as a wait between polls."""
    env.simulator.behaviour = replace(BEHAVIOUR, manifest="link")
    env.simulator.faults = Faults().add(
        Match(operation="manifest", from_nth=2),
        FaultResponse(status=429, headers={"Retry-After": str(hours * 3600)}),
    )
    key = "unbilled_usage/2026-10/USD/full"
    env.simulator.restate(key)
    run_id = env.start("unbilled_usage", billing_month="last")
    env.host.run_until(lambda: env.run_row(run_id).last_code == "graph_throttled")
    waiting, lock, now = env.run_row(run_id), get_lock(env, key), env.clock.now()
    assert waiting.stage == "planning"
    assert parse_iso(waiting.next_check_at) - now >= timedelta(hours=hours, minutes=-1)
    assert lock is not None
    assert parse_iso(lock.lease_until) > parse_iso(waiting.next_check_at) + timedelta(minutes=29)
    run = env.finish(run_id)
    assert_ended(env, run, "timed_out", "deadline_passed")
    overtime = parse_iso(run["ended_at"]) - parse_iso(run["deadline"])
    assert timedelta(0) <= overtime <= timedelta(hours=hours, minutes=1)
    env.host.advance(timedelta(hours=hours))  # the Retry-After that applies to the whole app


def test_commit_waits_as_landing_account_requests(env: AppEnvironment) -> None:
    """The landing account rejects the completion marker four times, and latest.json once."""
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=0)
    env.simulator.faults = Faults()
    key = "unbilled_usage/2026-10/USD/full"
    env.simulator.restate(key)
    rejected = list[timedelta]()
    start = env.clock.now()

    def reject(when: str, kind: str, table: str) -> None:
        writes = (when, kind, table) == ("before", "put_if_match", "landing")
        if writes and len(rejected) < 4:
            rejected.append(env.clock.now() - start)
            raise ThrottledError("storage_busy", retry_after_seconds=400, http_status=503)

    get_hooked_tables(env).hook = reject
    run_id = env.start("unbilled_usage", billing_month="last")
    env.host.run_until(lambda: env.run_row(run_id).last_code == "storage_busy")
    waiting = env.run_row(run_id)
    assert waiting.stage == "proving" and waiting.next_check_at
    run = env.finish(run_id)
    assert_ended(env, run, "landed")
    assert_landed(env, key, env.simulator.expected(key))
    waits = [later - earlier for earlier, later in pairwise(rejected)]
    assert all(timedelta(seconds=400) <= wait < timedelta(seconds=405) for wait in waits)
    assert env.run_row(run_id).plan == 1


def test_commit_that_is_always_throttled_ends_at_the_deadline(env: AppEnvironment) -> None:
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=0)
    env.simulator.faults = Faults()

    def reject(when: str, kind: str, table: str) -> None:
        if (when, kind, table) == ("before", "put_if_match", "landing"):
            raise ThrottledError("storage_busy", retry_after_seconds=60, http_status=503)

    get_hooked_tables(env).hook = reject
    run = land_restated(env)
    assert_ended(env, run, "timed_out", "deadline_passed")
    assert run["last_code"] == "storage_busy"


def test_pause_between_rounds_after_the_deadline_ends_timed_out(env: AppEnvironment) -> None:
    key = "unbilled_reconciliation/2026-10/USD/full"
    env.simulator.behaviour = Behaviour(ready_after_polls=0)
    env.simulator.faults = Faults().add(
        Match(operation="blob", method="GET", path="*part-00000*"),
        FaultResponse(status=503, headers={"Retry-After": str(30 * 3600)}),
    )
    run = land_restated(env, key)
    assert_ended(env, run, "timed_out", "deadline_passed")
    assert env.run_row(run["run_id"]).plan == 2
