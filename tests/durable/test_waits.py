"""How long a run has waited, for Microsoft and between rounds: in its row, the API and its last event, in virtual seconds."""

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


def events(caplog: pytest.LogCaptureFixture, run_id: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "partner_billing.events"
    ]
    return [line for line in lines if line.get("instance_id") == run_id]


@pytest.mark.parametrize("again", [False, True], ids=["once", "each look twice"])
def test_all_waits_together(
    env: AppEnvironment, caplog: pytest.LogCaptureFixture, again: bool
) -> None:
    """60 s before the export is taken, two looks 100 s apart; each wait a second longer, as timers may fire early."""
    caplog.set_level(logging.INFO, "partner_billing.events")
    env.simulator.restate("unbilled_usage/2026-10/USD/full")
    env.simulator.behaviour = replace(BEHAVIOUR, ready_after_polls=2, retry_after_seconds=100)
    env.simulator.faults = Faults()
    env.simulator.faults.add(
        Match(operation="start", nth=(1,)), FaultResponse(status=503, headers={"Retry-After": "60"})
    )
    if again:
        with wrap_function(env, "check_operation", call_twice):
            run = env.land("unbilled_usage", billing_month="last")
    else:
        run = env.land("unbilled_usage", billing_month="last")
    looks = 1 if again else 2  # the simulator counts each look
    waited = 61 + looks * 101
    assert run["outcome"] == "landed" and waited - 3 <= run["waited_seconds"] <= waited + 3
    [ended] = [line for line in events(caplog, run["run_id"]) if line["event"] == "run_ended"]
    assert ended["waited_seconds"] == run["waited_seconds"] <= ended["seconds"] + 3


def test_pauses_between_rounds_count_and_copying_does_not(env: AppEnvironment) -> None:
    key = "unbilled_reconciliation/2026-10/USD/full"
    env.simulator.restate(key)
    env.simulator.behaviour = Behaviour(ready_after_polls=0)
    env.simulator.faults = Faults()
    env.simulator.faults.add(
        Match(operation="blob", method="GET", path="*part-00000*"), FaultResponse(status=404)
    )
    run = env.land("unbilled_reconciliation", billing_month="last")
    assert run["outcome"] == "incomplete"
    assert (
        30 + 60 <= run["waited_seconds"] <= 30 + 60 + 5
    )  # two pauses before the second and the third round


def test_a_run_that_nobody_worked_on_has_not_waited_until_it_was_found(env: AppEnvironment) -> None:
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
