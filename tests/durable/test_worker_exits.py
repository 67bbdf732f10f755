"""The worker process ends during a call, which then fails as on Azure."""

from collections.abc import Iterator

import pytest

from local.host import HostError, TerminationPoint
from tests.support.in_memory import InMemoryEnvironment
from tests.support.run_state import assert_ended, create_run_request, key_fields

KEY = "unbilled_reconciliation/2026-11/USD/full"


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
