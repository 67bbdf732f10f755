"""The worker process ends during a call, which then fails as on Azure."""

from collections.abc import Iterator

import pytest

from local.host import HostError, TerminationPoint
from tests.support.in_memory import InMemoryEnvironment
from tests.support.run_state import assert_ended, create_run_request, key_fields

KEY = "unbilled_reconciliation/2026-11/USD/full"
BACKFILL = {"from": "2026-10", "to": "2026-10", "datasets": ["billed_usage"]}


@pytest.fixture(scope="module")
def env() -> Iterator[InMemoryEnvironment]:
    with InMemoryEnvironment() as environment:
        yield environment


def list_instances(env: InMemoryEnvironment) -> set[str]:
    return {instance["instanceId"] for instance in env.host.instances()}


@pytest.mark.parametrize("point", TerminationPoint)
@pytest.mark.parametrize("activity", ["claim_run", "plan_copy", "record_outcome"])
def test_run_whose_activity_is_interrupted_lands(
    env: InMemoryEnvironment, activity: str, point: TerminationPoint
) -> None:
    env.simulator.restate(KEY)
    exits, services, existing = env.worker_exits, env.app, list_instances(env)
    env.terminate_worker_during(activity, 1, point)
    request = create_run_request(env, KEY)
    run_id = env.host.start_orchestration("export_run", request, request["run_id"])
    assert_ended(env, env.finish(run_id), "landed")
    assert env.worker_exits == exits + 1 and env.app is not services
    assert [
        event["Reason"]
        for instance_id in list_instances(env) - existing
        for event in env.host.history(instance_id)
        if "python exited" in str(event)
    ] == [f"Activity function '{activity}' failed: python exited with code 137 (0x89)"]
    env.assert_landed(KEY)


def test_http_request_in_the_same_worker_fails(env: InMemoryEnvironment) -> None:
    env.terminate_worker_during("start_run")
    assert env.host.request("POST", "/api/runs", json=key_fields(KEY)).status == 500
    assert env.land("unbilled_reconciliation")["outcome"] == "unchanged"


def test_terminate_worker_during_unknown_function_raises(env: InMemoryEnvironment) -> None:
    with pytest.raises(HostError, match="no function named 'copy_files'"):
        env.terminate_worker_during("copy_files")


@pytest.mark.parametrize(
    ("orchestrator", "nth"),
    [
        ("export_cycle", 2),
        ("export_cycle", 3),
        ("cycle_lane", 1),
        ("cycle_lane", 2),
        ("export_run", 1),
        ("export_run", 3),
        ("export_operation", 1),
        ("export_operation", 4),
        ("page_copy", 1),
        ("page_copy", 2),
    ],
)
def test_cycle_with_interrupted_orchestrator_lands_without_intervention(
    orchestrator: str, nth: int
) -> None:
    with InMemoryEnvironment() as env:
        env.terminate_worker_during(orchestrator, nth)
        cycle_id = env.post("/api/cycles")["cycle_id"]
        finish_with_cleanup(env, cycle_id)
        assert env.worker_exits == 1
        cycle = env.get(f"/api/cycles/{cycle_id}")
        assert (cycle["state"], cycle["outcome"]) == ("ended", "complete"), cycle
        assert_all_landed(env, cycle["outcomes"])


@pytest.mark.parametrize(("orchestrator", "nth"), [("backfill", 2), ("backfill_lane", 2)])
def test_backfill_with_interrupted_orchestrator_lands_without_intervention(
    orchestrator: str, nth: int
) -> None:
    with InMemoryEnvironment() as env:
        env.terminate_worker_during(orchestrator, nth)
        backfill_id = env.post("/api/backfills", BACKFILL)["backfill_id"]
        finish_with_cleanup(env, backfill_id)
        assert env.worker_exits == 1
        backfill = env.get(f"/api/backfills/{backfill_id}")
        assert backfill["state"] == "ended"
        assert_all_landed(env, backfill["outcomes"])


@pytest.mark.parametrize("orchestrator", ["export_cycle", "backfill"])
def test_plan_that_is_always_interrupted_shows_code_and_restarts(orchestrator: str) -> None:
    with InMemoryEnvironment() as env:
        env.terminate_worker_during(orchestrator, 2)
        if orchestrator == "export_cycle":
            plan_id = env.post("/api/cycles")["cycle_id"]
            path = f"/api/cycles/{plan_id}"
        else:
            plan_id = env.post("/api/backfills", BACKFILL)["backfill_id"]
            path = f"/api/backfills/{plan_id}"
        for instance_id in [plan_id, *(f"{plan_id}~restart-{n}" for n in range(1, 4))]:
            assert env.host.wait(instance_id)["runtimeStatus"] == "Failed"
            env.terminate_worker_during(orchestrator, 2)
            env.host.fire_timer("clean_up_orphaned_runs")
        plan = env.get(path)
        assert (plan["state"], plan["code"]) == ("failed", "restart_limit_reached")
        assert plan["restarts"] == 3 and plan["cause"] and plan["remedy"]
        if orchestrator == "export_cycle":
            summary = env.get("/api/status")["last_cycle"]
            assert (summary["code"], summary["restarts"]) == ("restart_limit_reached", 3)


def finish_with_cleanup(env: InMemoryEnvironment, item_id: str) -> None:
    """Wait until a cycle or backfill has completed; the cleanup starts it again if it failed."""
    instance_id, restarts = item_id, 0
    while env.host.wait(instance_id)["runtimeStatus"] != "Completed":
        env.host.fire_timer("clean_up_orphaned_runs")
        restarts += 1
        instance_id = f"{item_id}~restart-{restarts}"


def assert_all_landed(env: InMemoryEnvironment, outcomes: dict[str, int]) -> None:
    """Verify that every run has landed its data, and that no lock or open item remains."""
    assert set(outcomes) == {"landed"}, outcomes

    async def list_remaining() -> list[object]:
        locks = [lock async for lock in env.app.ledger.locks.list_held()]
        return [*locks, *[item async for item in env.app.ledger.open_items.list()]]

    assert env.on_loop(list_remaining()) == []
    runs = env.get("/api/runs")["runs"]
    assert len(runs) == sum(outcomes.values())
    for run in runs:
        env.assert_landed(run["key"])
