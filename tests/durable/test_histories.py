"""Recorded histories replay with the current orchestrators.

Instances that run during a deployment must continue with the new version.
"""

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local.azurite import Azurite
from local.host.functions import index_app
from local.host.history import EventType
from local.host.replay import NonDeterminismError, replay_history
from tests.support.app_environment import ENVIRONMENT, ROOT, load_function_app
from tests.support.histories import FOLDER, RECORDINGS, record

MAX_EVENTS = 1_000  # per execution, because each replay reads all of them
FILES = sorted(FOLDER.glob("*.json"))


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables that the app requires for indexing."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@cache
def load_instances(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8")))


def instance_parameters() -> Iterator[Any]:
    for path in FILES:
        for number, instance in enumerate(load_instances(path)):
            yield pytest.param(
                instance, id=f"{path.stem}-{number}-{instance['orchestrator']}-{instance['status']}"
            )


def replay(instance: dict[str, Any]) -> Any:
    return replay_history(
        load_function_app(), instance["orchestrator"], copy.deepcopy(instance["events"])
    )


@pytest.mark.parametrize("instance", list(instance_parameters()))
def test_replay_of_recorded_history_has_the_same_result(instance: dict[str, Any]) -> None:
    decisions, outcome = replay(instance)
    if instance["status"] == "Running":
        assert outcome.status is None and decisions == []  # The orchestration is still waiting.
    else:
        assert outcome.status == instance["status"]
        ended = next(
            event
            for event in instance["events"]
            if event["EventType"] == EventType.EXECUTION_COMPLETED
        )
        if instance["status"] == "Completed":
            assert json.loads(outcome.output or "null") == json.loads(ended["Result"] or "null")
        else:
            assert outcome.output == ended["Result"]
    assert len(instance["events"]) < MAX_EVENTS


def test_recordings_cover_every_orchestrator_and_status() -> None:
    recorded = {
        (instance["orchestrator"], instance["status"])
        for path in FILES
        for instance in load_instances(path)
    }
    functions = index_app(load_function_app(), ENVIRONMENT, "api")
    assert {name for name, _ in recorded} == {
        function.name for function in functions.list_by_trigger("orchestrationTrigger")
    }
    assert {("export_run", status) for status in ("Running", "Completed", "Failed")} <= recorded
    assert {path.stem for path in FILES} >= set(RECORDINGS)


def test_recordings_contain_long_waits_rounds_pages_and_retries() -> None:
    waits = load_instances(FOLDER / "long_wait.json")
    (operation,) = [
        instance for instance in waits if instance["orchestrator"] == "export_operation"
    ]
    first = next(
        event for event in operation["events"] if event["EventType"] == EventType.EXECUTION_STARTED
    )
    assert json.loads(json.loads(first["Input"]))["attempt"] >= 49  # continued as new
    rounds = load_instances(FOLDER / "two_rounds.json")
    assert len([instance for instance in rounds if instance["orchestrator"] == "page_copy"]) >= 4
    assert (
        len([instance for instance in rounds if instance["orchestrator"] == "export_operation"])
        == 2
    )
    event_types = [
        event["EventType"]
        for instance in load_instances(FOLDER / "platform_fault.json")
        for event in instance["events"]
    ]
    attempts_of_operation, attempts_of_activity = 3, 3
    assert event_types.count(EventType.TASK_FAILED) == attempts_of_operation * attempts_of_activity


def test_recordings_contain_no_paths_or_line_numbers() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert str(ROOT) not in text and not re.search(
            r"line (?!1,)\d+,|/home/|/tmp/|/Users/", text
        ), path.name


def modify_event(
    instance: dict[str, Any], event_type: EventType, number: int, **changes: Any
) -> dict[str, Any]:
    """Return a copy of the instance in which the nth event of this type has different values."""
    changed = copy.deepcopy(instance)
    events = [event for event in changed["events"] if event["EventType"] == event_type]
    events[number].update(changes)
    return changed


def get_instance(name: str, orchestrator: str, number: int = 0) -> dict[str, Any]:
    return [
        instance
        for instance in load_instances(FOLDER / f"{name}.json")
        if instance["orchestrator"] == orchestrator
    ][number]


@pytest.mark.parametrize(
    ("name", "orchestrator", "event_type", "number", "changes"),
    [
        ("two_rounds", "export_run", EventType.TASK_SCHEDULED, 1, {"Name": "record_outcome"}),
        ("two_rounds", "export_run", EventType.SUB_ORCHESTRATION_CREATED, 0, {"Name": "page_copy"}),
        ("two_rounds", "page_copy", EventType.TASK_SCHEDULED, 3, {"Name": "read_page"}),
        ("waiting", "export_operation", EventType.TASK_SCHEDULED, 0, {"Name": "check_operation"}),
        ("cycle", "export_cycle", EventType.TASK_SCHEDULED, 0, {"Name": "summarize_cycle"}),
        ("cycle", "cycle_lane", EventType.SUB_ORCHESTRATION_CREATED, 0, {"Name": "export_cycle"}),
    ],
)
def test_replay_of_changed_orchestrator_raises_non_determinism_error(
    name: str, orchestrator: str, event_type: EventType, number: int, changes: Any
) -> None:
    with pytest.raises(NonDeterminismError):
        replay(modify_event(get_instance(name, orchestrator), event_type, number, **changes))


def test_replay_with_missing_step_raises_non_determinism_error() -> None:
    run = copy.deepcopy(get_instance("two_rounds", "export_run"))
    scheduled = [event for event in run["events"] if event["EventType"] == EventType.TASK_SCHEDULED]
    run["events"].remove(scheduled[-1])
    with pytest.raises(NonDeterminismError):
        replay(run)


def test_replay_with_different_outcome_raises_non_determinism_error() -> None:
    run = copy.deepcopy(get_instance("failing", "export_run"))
    ended = next(
        event for event in run["events"] if event["EventType"] == EventType.EXECUTION_COMPLETED
    )
    ended["OrchestrationStatus"] = "Completed"
    with pytest.raises(
        NonDeterminismError,
        match="The recorded status is Completed, but the status with the current code is Failed",
    ):
        replay(run)


def test_record_produces_histories_that_replay(azurite: Azurite) -> None:
    fresh = record(azurite, "failing")
    assert [(instance["orchestrator"], instance["status"]) for instance in fresh] == [
        (instance["orchestrator"], instance["status"])
        for instance in load_instances(FOLDER / "failing.json")
    ]
    for instance in fresh:
        assert replay(instance)[1].status == instance["status"]
