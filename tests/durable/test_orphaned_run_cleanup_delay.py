"""Tests that verify how soon the scheduled cleanup closes orphaned runs, with a virtual clock.

The tests do not fire the timer themselves. `moments` lists the times, within the five minutes
between two passes, at which the run stops. They include times just after a pass and just before the
next one.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from local.azurite import Azurite
from shared.clock import parse_iso
from shared.ledger.claims import claim, create_run
from tests.support.app_environment import AppEnvironment
from tests.support.hooked_environment import BEHAVIOUR
from tests.support.run_state import create_run_request, get_lock

KEY = "unbilled_usage/2026-11/USD/full"
MAX_DELAY = timedelta(minutes=10)
moments = pytest.mark.parametrize(
    "moment",
    [timedelta(seconds=1), timedelta(minutes=2), timedelta(minutes=4, seconds=59)],
    ids=str,
)


@pytest.fixture
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    slow = replace(BEHAVIOUR, operation_end="never", retry_after_seconds=3_600)
    with AppEnvironment(azurite, behaviour=slow, timers=True) as env:
        yield env


def start_waiting_run(env: AppEnvironment, moment: timedelta) -> str:
    run_id = env.start("unbilled_usage")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    env.host.advance(timedelta(minutes=5) + moment)  # the environment starts on a full hour
    return run_id


def assert_closed(env: AppEnvironment, run_id: str, code: str) -> None:
    run, lock = env.get(f"/api/runs/{run_id}"), get_lock(env, KEY)
    assert (
        (run["outcome"], run["code"]) == ("failed", code) and lock is not None and lock.run_id == ""
    )


@moments
def test_cleanup_terminated_run_closes_it_in_time(env: AppEnvironment, moment: timedelta) -> None:
    run_id = start_waiting_run(env, moment)
    env.host.terminate(run_id)
    env.host.advance(MAX_DELAY)
    assert_closed(env, run_id, "terminated")


@moments
def test_cleanup_run_missing_from_its_hub_closes_it_in_time(
    env: AppEnvironment, moment: timedelta
) -> None:
    run_id = start_waiting_run(env, moment)
    env.host.terminate(run_id)
    env.host.wait(run_id)
    assert (
        env.host.request("DELETE", f"/runtime/webhooks/durabletask/instances/{run_id}").status
        == 200
    )
    env.host.advance(MAX_DELAY)
    assert_closed(env, run_id, "run_lost")


@moments
def test_cleanup_run_of_another_hub_closes_it_after_its_lease(
    env: AppEnvironment, moment: timedelta
) -> None:
    request, ledger = create_run_request(env, KEY), env.app.ledger
    own_hub, ledger.hub = ledger.hub, "OtherHub"
    env.host.advance(moment)
    env.on_loop(claim(ledger, create_run(request, env.clock.now())))  # type: ignore[arg-type]
    ledger.hub = own_hub
    lock = get_lock(env, KEY)
    assert lock is not None and lock.hub == "OtherHub"
    lease = parse_iso(lock.lease_until)
    env.host.advance(lease - env.clock.now())
    # The run counts as live until its lease ends.
    assert env.run_row(request["run_id"]).outcome == ""
    env.host.advance(MAX_DELAY)
    assert_closed(env, request["run_id"], "run_lost")
