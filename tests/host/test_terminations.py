"""Interrupted calls of a running app, compared with recordings of the original engine.

Most scenarios run in this process, where the host simulates the termination. Some also run with a
worker process, which is killed.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.host import LocalHost, Termination, TerminationPoint, VirtualClock
from local.host.__main__ import main
from local.host.history import EventType
from local.host.isolation import Isolation
from tests.host.sample_host import MANAGEMENT_PATH, START

from .golden.condense import TERMINATION_TRACES
from .golden.player import EVENT_NUMBERS, normalize, read_traces

APP = Path(__file__).parent / "terminating_app"
TRACES = {trace["scenario"]: trace for trace in read_traces(TERMINATION_TRACES)}
# The calls during which the worker process ends.
TERMINATIONS = {
    "wd_first": [("wd_first", 1)],
    "wd_later": [("wd_later", 2)],
    "wd_last": [("wd_last", 2)],
    "wd_after_timer": [("wd_after_timer", 2)],
    "wd_act": [("die", 1)],
    "wd_act_caught": [("die", 1)],
    "wd_act_retry": [("die", 1)],
    "wd_act_retry_exhausted": [("die", 1), ("die", 2)],
    **{f"wd_sub_first_{how}": [("wd_first", 1)] for how in ("plain", "caught", "retry")},
    **{f"wd_sub_later_{how}": [("wd_later", 2)] for how in ("plain", "caught", "retry")},
    **{f"wd_sub_act_{how}": [("die", 1)] for how in ("plain", "caught", "retry")},
    "wd_rewind_first": [("wd_first", 1)],
    "wd_rewind_later": [("wd_later", 2)],
    "wd_rewind_act": [("die", 1)],
}
worker_ended = threading.Event()
WITH_WORKER = ("wd_first", "wd_act_retry", "wd_rewind_later")


@pytest.fixture(scope="module")
def simulating_host() -> Iterator[LocalHost]:
    clock = VirtualClock(START)
    with LocalHost(APP, clock=clock, on_termination=worker_ended.set) as host:
        yield host


@pytest.fixture(scope="module")
def isolating_host() -> Iterator[LocalHost]:
    with LocalHost(APP, isolated=Isolation(), on_termination=worker_ended.set) as host:
        yield host


def start_scenario(host: LocalHost, scenario: str) -> str:
    """Start the instance of a recording, and return its ID."""
    trace = TRACES[scenario]
    status = trace["instances"][trace["main"]]["status"]
    content = json.loads(status["input"]) if status["input"] else None
    return host.start_orchestration(status["name"], content, trace["main"])


def assert_matches_recording(host: LocalHost, scenario: str, instance_id: str) -> None:
    """Assert that status, output and history of an instance are the recorded ones."""
    recorded = TRACES[scenario]["instances"][instance_id]
    status = host.wait(instance_id)
    assert (status["runtimeStatus"], normalize(status["output"])) == (
        recorded["status"]["runtimeStatus"],
        normalize(recorded["status"]["output"]),
    )
    (execution,) = recorded["executions"]
    events = [*execution["history"], *execution["rest"]]
    assert count_events(host.history(instance_id)) == count_events(events)


def count_events(events: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Count the events, except for those whose number depends on the timing."""
    counted = Counter(
        (EVENT_NUMBERS.get(event["EventType"], event["EventType"]), event["EventId"])
        for event in events
    )
    for variable in (EventType.ORCHESTRATOR_STARTED, EventType.ORCHESTRATOR_COMPLETED):
        counted.pop((variable, -1), None)
    return counted


def run_scenario(host: LocalHost, scenario: str) -> None:
    for name, nth in TERMINATIONS[scenario]:
        host.terminate_worker_during(name, nth)
    instance_id = start_scenario(host, scenario)
    if scenario.startswith("wd_rewind"):
        assert host.wait(instance_id)["runtimeStatus"] == "Failed"
        path = f"{MANAGEMENT_PATH}/instances/{instance_id}/rewind?reason=again"
        assert host.request("POST", path).status == 202
    assert_matches_recording(host, scenario, instance_id)


@pytest.mark.parametrize("scenario", TERMINATIONS)
def test_simulated_termination_matches_recording(simulating_host: LocalHost, scenario: str) -> None:
    run_scenario(simulating_host, scenario)


@pytest.mark.parametrize("scenario", WITH_WORKER)
def test_killed_worker_matches_recording(isolating_host: LocalHost, scenario: str) -> None:
    run_scenario(isolating_host, scenario)


@pytest.mark.parametrize("kind", ["simulating_host", "isolating_host"])
class TestOtherCalls:
    """Calls of other functions in the same process."""

    @pytest.fixture
    def host(self, kind: str, request: pytest.FixtureRequest) -> LocalHost:
        host: LocalHost = request.getfixturevalue(kind)
        return host

    def test_running_activity_fails_and_completed_activity_does_not(self, host: LocalHost) -> None:
        host.terminate_worker_during("die", 1, TerminationPoint.AFTER)
        instance_id = start_scenario(host, "wd_all_caught")
        host.run_until(lambda: EventType.TASK_COMPLETED in event_types(host, instance_id))
        assert host.request("POST", "/api/release").status == 500
        assert_matches_recording(host, "wd_all_caught", instance_id)

    def test_activity_of_another_instance_fails(self, host: LocalHost) -> None:
        instance_id = start_scenario(host, "wd_bystander")
        host.run_until(lambda: EventType.TASK_SCHEDULED in event_types(host, instance_id))
        host.terminate_worker_during("die")
        host.start_orchestration("wd_act", None, "g-wd-by-2")
        for interrupted in (instance_id, "g-wd-by-2"):
            assert_matches_recording(host, "wd_bystander", interrupted)

    def test_waiting_instance_continues(self, host: LocalHost) -> None:
        instance_id = start_scenario(host, "wd_idle")
        host.run_until(lambda: EventType.TIMER_CREATED in event_types(host, instance_id))
        worker_ended.clear()
        host.terminate_worker()
        assert worker_ended.wait(10)
        host.raise_event(instance_id, "go", {"a": 1})
        assert_matches_recording(host, "wd_idle", instance_id)

    def test_event_before_first_decision_does_not_hide_the_termination(
        self, host: LocalHost
    ) -> None:
        host.terminate_worker_during("wd_after_event", 2)
        instance_id = start_scenario(host, "wd_after_event")
        host.run_until(lambda: event_types(host, instance_id))
        host.raise_event(instance_id, "go", 1)
        assert_matches_recording(host, "wd_after_event", instance_id)


def event_types(host: LocalHost, instance_id: str) -> list[int]:
    return [event["EventType"] for event in host.history(instance_id)]


def test_third_termination_logs_warning_and_host_continues(
    isolating_host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        isolating_host.terminate_worker_during("wd_first")
        isolating_host.wait(isolating_host.start_orchestration("wd_first"))
    assert isolating_host.wait(isolating_host.start_orchestration("wd_first"))["output"] == "done"
    assert "Azure would stop the host now; the local host continues." in caplog.text


@pytest.mark.parametrize("text", ["wd_first", "wd_first:0", ":1", "wd_first:x"])
def test_terminate_during_with_invalid_value_is_rejected(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--app-root", str(APP), "--terminate-during", text])
    assert f"'{text}' must have the format NAME:N" in capsys.readouterr().err


def test_terminations_of_new_host_interrupt_its_calls() -> None:
    terminations = [Termination.parse("wd_first:1")]
    with LocalHost(APP, clock=VirtualClock(START), terminations=terminations) as host:
        assert host.wait(host.start_orchestration("wd_first"))["runtimeStatus"] == "Failed"
