"""Random orchestrations with a known right answer, undisturbed, and on hosts that are cut off or killed."""

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.host import LocalHost, VirtualClock

from .conftest import MANAGEMENT, ROOT, START, HostProcess, call
from .plans import Planner, all_right, app

PLAN_APP = Path(__file__).parent / "plan_app"
SETTINGS = {
    "PYTHONPATH": str(ROOT)
}  # a worker finds its app's own folder and nothing else: the plans come from here
AT_ONCE = 20
Start = Callable[..., HostProcess]


def run_plans(count: int, seed: int, *, virtual: bool) -> None:
    print(f"seed {seed}")
    planner = Planner(seed)
    with LocalHost(app, clock=VirtualClock(START) if virtual else None) as host:
        for _ in range(count // AT_ONCE):
            plans = {
                host.start_orchestration("plan", nodes): nodes
                for nodes in (planner.plan() for _ in range(AT_ONCE))
            }
            for iid, nodes in plans.items():
                status = host.wait(iid)
                assert all_right(nodes, status), (seed, nodes, status)


@pytest.mark.parametrize("virtual", [True, False])
def test_random_plans(virtual: bool) -> None:
    run_plans(100, random.randrange(10**6), virtual=virtual)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_5000_random_plans(part: int) -> None:
    run_plans(500, random.randrange(10**6), virtual=part % 2 == 0)


def test_random_plans_survive_hosts_that_are_cut_off(tmp_path: Path) -> None:
    """Every few dozen milliseconds the host is cut off, whatever it is doing, and another takes over."""
    planner = Planner(815, retries=False, slow=10)
    plans = {f"plan-{n}": planner.plan() for n in range(30)}
    with LocalHost(app, state_dir=tmp_path) as host:
        for iid, nodes in plans.items():
            host.start_orchestration("plan", nodes, iid)
        host.stop(drain=False)
    for n in range(8):
        cut = threading.Event()
        threading.Timer(0.03 + 0.02 * n, cut.set).start()
        with LocalHost(app, state_dir=tmp_path) as host:
            cut.wait()
            host.stop(drain=False)
    with LocalHost(app, state_dir=tmp_path) as host:
        for iid, nodes in plans.items():
            status = host.wait(iid)
            assert all_right(nodes, status), (nodes, status)


def storm(start_process: Start, kills: int, seed: int) -> None:
    """40 plans at once; kill -9 and start again, now with a worker process and now without. None may come out wrong."""
    print(f"seed {seed}")
    chance, planner = random.Random(seed), Planner(seed, retries=False, slow=75)
    plans = {f"plan-{n}": planner.plan() for n in range(40)}
    for number in range(kills):
        process = start_process(
            *(["--in-process"] if number % 2 else []), settings=SETTINGS, app=PLAN_APP
        )
        url = process.url()
        if number == 0:
            for iid, nodes in plans.items():
                assert (
                    call(
                        url, "POST", f"{MANAGEMENT}/orchestrators/plan/{iid}", json.dumps(nodes)
                    ).status
                    == 202
                )
        time.sleep(chance.uniform(0.05, 0.7))
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    process = start_process(settings=SETTINGS, app=PLAN_APP)
    for iid, nodes in plans.items():
        status = process.wait_for_end(iid)
        assert all_right(nodes, status), (seed, nodes, status)


def test_a_storm_of_kills(start_process: Start) -> None:
    storm(start_process, 8, random.randrange(10**6))


@pytest.mark.long
def test_a_long_storm_of_kills(start_process: Start) -> None:
    storm(start_process, 50, random.randrange(10**6))
