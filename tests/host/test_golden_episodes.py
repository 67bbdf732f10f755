"""The recorded answers of real orchestrators, fed to our replay: it must decide what the original engine decided.

`golden_episodes.jsonl` is an extract of the golden traces: for each execution its history, what each episode returned or
raised, and how it ended. Scenarios in which the local host differs on purpose are left out.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.host.episode import Identity, run_episode
from local.host.history import EventType

SCENARIOS = [
    json.loads(line) for line in (Path(__file__).parent / "golden_episodes.jsonl").read_text(encoding="utf-8").splitlines()]
TYPES = {"ScheduleTaskOrchestratorAction": 4, "CreateTimerOrchestratorAction": 10, "CreateSubOrchestrationAction": 7}
NUMBERS = {"TaskScheduled": 4, "TimerCreated": 10, "SubOrchestrationInstanceCreated": 7}


def recorded(episode: dict[str, Any]) -> Callable[[str], str]:
    def handle(_: str) -> str:
        if "raised" in episode:
            raise Exception(episode["raised"])
        return json.dumps(episode["returned"])

    return handle


def following(execution: dict[str, Any], position: int) -> list[tuple[int, int, str | None]]:
    """The scheduling events that the engine wrote after this episode."""
    if position + 1 == len(execution["episodes"]):
        return [(NUMBERS[kind], event_id, name) for kind, event_id, name in execution["rest"] or []]
    start = execution["episodes"][position]["events"]
    found = []
    for event in execution["history"][start:]:
        if event["EventType"] == EventType.ORCHESTRATOR_STARTED:
            break
        if event["EventType"] in TYPES.values():
            found.append((event["EventType"], event["EventId"], event.get("Name")))
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario["scenario"] for scenario in SCENARIOS])
def test_same_decisions_as_the_engine(scenario: dict[str, Any]) -> None:
    for execution in scenario["executions"]:
        started = next(event for event in execution["history"] if event["EventType"] == EventType.EXECUTION_STARTED)
        who = Identity(execution["instance"], execution["execution"], started["Name"], execution["parent"])
        for position, episode in enumerate(execution["episodes"]):
            last = position + 1 == len(execution["episodes"])
            outcome = run_episode(
                who, execution["history"][:episode["events"]], [], recorded(episode), lambda kind, name: True)
            if last:
                live = execution["status"] in ("Running", "Suspended")
                assert outcome.status == (None if live else execution["status"])
            else:
                assert outcome.status is None
            if outcome.status != "ContinuedAsNew" and (not last or execution["rest"] is not None):
                made = [
                    (TYPES[decision.net_type], decision.id, getattr(decision, "name", None)) for decision in outcome.decisions]
                assert made == following(execution, position)


def test_enough_was_recorded() -> None:
    assert len(SCENARIOS) > 90
