"""Random orchestrations with known results on hosts that run normally, stop or are killed."""

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.host import LocalHost, VirtualClock

from .plans import PlanGenerator, app, is_completed_correctly
from .sample_host import ROOT, START, HostClient, HostProcess

PLAN_APP = Path(__file__).parent / "plan_app"
# A worker can import only from the folder of its app, but `plan_app` imports `tests.host.plans`.
SETTINGS = {"PYTHONPATH": str(ROOT)}
CONCURRENT_PLANS = 20
StartProcess = Callable[..., HostProcess]


def run_plans(count: int, seed: int, *, virtual: bool) -> None:
    print(f"seed {seed}")
    generator = PlanGenerator(seed)
    with LocalHost(app, clock=VirtualClock(START) if virtual else None) as host:
        for _ in range(count // CONCURRENT_PLANS):
            plans = {
                host.start_orchestration("plan", nodes): nodes
                for nodes in (generator.create_plan() for _ in range(CONCURRENT_PLANS))
            }
            for instance_id, nodes in plans.items():
                status = host.wait(instance_id)
                assert is_completed_correctly(nodes, status), (seed, nodes, status)


@pytest.mark.parametrize("virtual", [True, False])
def test_random_plans_complete_correctly(virtual: bool) -> None:
    run_plans(100, random.randrange(10**6), virtual=virtual)


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_many_random_plans_complete_correctly(part: int) -> None:
    run_plans(500, random.randrange(10**6), virtual=part % 2 == 0)


def test_random_plans_on_interrupted_hosts_complete_correctly(tmp_path: Path) -> None:
    """Stop the host after a few dozen milliseconds without draining it, and start the next one."""
    generator = PlanGenerator(815, retries=False, delay_factor=10)
    plans = {f"plan-{n}": generator.create_plan() for n in range(30)}
    with LocalHost(app, state_dir=tmp_path) as host:
        for instance_id, nodes in plans.items():
            host.start_orchestration("plan", nodes, instance_id)
        host.stop(drain=False)
    for n in range(8):
        interrupt = threading.Event()
        threading.Timer(0.03 + 0.02 * n, interrupt.set).start()
        with LocalHost(app, state_dir=tmp_path) as host:
            interrupt.wait()
            host.stop(drain=False)
    with LocalHost(app, state_dir=tmp_path) as host:
        for instance_id, nodes in plans.items():
            status = host.wait(instance_id)
            assert is_completed_correctly(nodes, status), (nodes, status)


def run_plans_on_killed_hosts(start_process: StartProcess, kill_count: int, seed: int) -> None:
    """Run 40 plans while the host is repeatedly killed with SIGKILL and restarted.

    Every second host runs without a worker process.
    """
    print(f"seed {seed}")
    rng, generator = random.Random(seed), PlanGenerator(seed, retries=False, delay_factor=75)
    plans = {f"plan-{n}": generator.create_plan() for n in range(40)}
    for kill_index in range(kill_count):
        process = start_process(
            *(["--in-process"] if kill_index % 2 else []), settings=SETTINGS, app=PLAN_APP
        )
        client = HostClient(process.url())
        if kill_index == 0:
            for instance_id, nodes in plans.items():
                path = f"orchestrators/plan/{instance_id}"
                assert client.manage("POST", path, json.dumps(nodes)).status == 202
        time.sleep(rng.uniform(0.05, 0.7))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    process = start_process(settings=SETTINGS, app=PLAN_APP)
    for instance_id, nodes in plans.items():
        status = process.wait_for_completion(instance_id)
        assert is_completed_correctly(nodes, status), (seed, nodes, status)


def test_random_plans_on_killed_hosts_complete_correctly(start_process: StartProcess) -> None:
    run_plans_on_killed_hosts(start_process, 8, random.randrange(10**6))


@pytest.mark.long
def test_random_plans_on_many_killed_hosts_complete_correctly(start_process: StartProcess) -> None:
    run_plans_on_killed_hosts(start_process, 50, random.randrange(10**6))
