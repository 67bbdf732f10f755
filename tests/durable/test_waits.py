"""Tests for the wait time of a run in its row, in the API and in its last event.

The wait time includes the waits for Microsoft Graph and between copy rounds, in virtual seconds.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import (
    BEHAVIOUR,
    call_twice,
    open_hooked_environment,
    reset_environment,
    wrap_function,
)


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
    """The run waits 60 s before Graph accepts the export and 100 s before each of two polls.

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
    expected_seconds = 61 + polls * 101
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
    # The pauses before the second and the third round take 30 s and 60 s.
    assert 30 + 60 <= run["waited_seconds"] <= 30 + 60 + 5


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
