"""Recorded histories against today's orchestrators: what was running when a version is deployed must run on."""

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
from tests.histories.record import FOLDER, RECORDINGS, record
from tests.support.app_environment import ENVIRONMENT, ROOT, load_function_app

MOST_EVENTS = 1_000  # of one execution: a replay reads them all, again and again
FILES = sorted(FOLDER.glob("*.json"))


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the app is indexed with."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@cache
def instances(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8")))


def all_instances() -> Iterator[Any]:
    for path in FILES:
        for number, instance in enumerate(instances(path)):
            yield pytest.param(
                instance, id=f"{path.stem}-{number}-{instance['orchestrator']}-{instance['status']}"
            )


def replay(instance: dict[str, Any]) -> Any:
    return replay_history(
        load_function_app(), instance["orchestrator"], copy.deepcopy(instance["events"])
    )


@pytest.mark.parametrize("instance", list(all_instances()))
def test_a_recorded_history_replays(instance: dict[str, Any]) -> None:
    decisions, outcome = replay(instance)
    if instance["status"] == "Running":
        assert outcome.status is None and decisions == []  # it waits for what it waited for
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
    assert len(instance["events"]) < MOST_EVENTS


def test_every_orchestrator_is_recorded_and_every_way_to_stand() -> None:
    found = {
        (instance["orchestrator"], instance["status"])
        for path in FILES
        for instance in instances(path)
    }
    functions = index_app(load_function_app(), ENVIRONMENT, "api")
    assert {name for name, _ in found} == {
        function.name for function in functions.list_by_trigger("orchestrationTrigger")
    }
    assert {("export_run", status) for status in ("Running", "Completed", "Failed")} <= found
    assert {path.stem for path in FILES} >= set(RECORDINGS)


def test_the_recordings_hold_what_they_are_there_for() -> None:
    """More than fifty looks, two rounds, several pages, a retry: else a replay of them says little."""
    waits = instances(FOLDER / "long_wait.json")
    (operation,) = [one for one in waits if one["orchestrator"] == "export_operation"]
    first = next(
        event for event in operation["events"] if event["EventType"] == EventType.EXECUTION_STARTED
    )
    assert json.loads(json.loads(first["Input"]))["attempt"] >= 49  # continued as new
    rounds = instances(FOLDER / "two_rounds.json")
    assert len([one for one in rounds if one["orchestrator"] == "page_copy"]) >= 4
    assert len([one for one in rounds if one["orchestrator"] == "export_operation"]) == 2
    dying = [
        event["EventType"]
        for one in instances(FOLDER / "platform_fault.json")
        for event in one["events"]
    ]
    assert dying.count(EventType.TASK_FAILED) == 3


def test_no_recording_says_where_it_was_made() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert str(ROOT) not in text and not re.search(
            r"line (?!1,)\d+,|/home/|/tmp/|/Users/", text
        ), path.name


def tampered(
    instance: dict[str, Any], kind: EventType, number: int, **changes: Any
) -> dict[str, Any]:
    """As if an orchestrator had once decided otherwise there."""
    changed = copy.deepcopy(instance)
    events = [event for event in changed["events"] if event["EventType"] == kind]
    events[number].update(changes)
    return changed


def one_of(name: str, orchestrator: str, number: int = 0) -> dict[str, Any]:
    return [
        one for one in instances(FOLDER / f"{name}.json") if one["orchestrator"] == orchestrator
    ][number]


@pytest.mark.parametrize(
    ("name", "orchestrator", "kind", "number", "changes"),
    [
        ("two_rounds", "export_run", EventType.TASK_SCHEDULED, 1, {"Name": "commit_version"}),
        ("two_rounds", "export_run", EventType.SUB_ORCHESTRATION_CREATED, 0, {"Name": "page_copy"}),
        ("two_rounds", "page_copy", EventType.TASK_SCHEDULED, 3, {"Name": "read_page"}),
        ("waiting", "export_operation", EventType.TASK_SCHEDULED, 0, {"Name": "check_operation"}),
        ("cycle", "export_cycle", EventType.TASK_SCHEDULED, 0, {"Name": "summarize_cycle"}),
        ("cycle", "cycle_lane", EventType.SUB_ORCHESTRATION_CREATED, 0, {"Name": "export_cycle"}),
    ],
)
def test_a_changed_orchestrator_is_found(
    name: str, orchestrator: str, kind: EventType, number: int, changes: Any
) -> None:
    """The history of a version that decided otherwise does not replay: so neither would today's after such a change."""
    with pytest.raises(NonDeterminismError):
        replay(tampered(one_of(name, orchestrator), kind, number, **changes))


def test_a_missing_step_is_found() -> None:
    run = copy.deepcopy(one_of("two_rounds", "export_run"))
    scheduled = [event for event in run["events"] if event["EventType"] == EventType.TASK_SCHEDULED]
    run["events"].remove(scheduled[-1])
    with pytest.raises(NonDeterminismError):
        replay(run)


def test_another_ending_is_found() -> None:
    run = copy.deepcopy(one_of("failing", "export_run"))
    ended = next(
        event for event in run["events"] if event["EventType"] == EventType.EXECUTION_COMPLETED
    )
    ended["OrchestrationStatus"] = "Completed"
    with pytest.raises(
        NonDeterminismError, match="the recorded run ended Completed, the code now leaves it Failed"
    ):
        replay(run)


def test_the_script_records_what_today_replays(azurite: Azurite) -> None:
    fresh = record(azurite, "failing")
    assert [(one["orchestrator"], one["status"]) for one in fresh] == [
        (one["orchestrator"], one["status"]) for one in instances(FOLDER / "failing.json")
    ]
    for instance in fresh:
        assert replay(instance)[1].status == instance["status"]
