"""143 recordings of the original engine, played through this one: requests, histories, endings and the API's answers.

See `golden/player.py` for what is compared. Each scenario is the same, or differs for a reason that is written down.
"""

import copy
from typing import Any

import pytest

from .golden.differences import BEGIN, DOCUMENT, END, REASONS, outcome, table
from .golden.player import Difference, Player, traces

TRACES = {trace["scenario"]: trace for trace in traces()}


@pytest.mark.parametrize("scenario", TRACES)
def test_as_recorded(scenario: str) -> None:
    difference = outcome(TRACES[scenario])
    if scenario in REASONS:
        assert difference, f"{scenario} is the same now: take it off the list"
    else:
        assert not difference


def test_all_scenarios_are_here() -> None:
    assert len(TRACES) == 143 and len(TRACES) - len(REASONS) >= 125


def test_the_table_in_the_documentation_is_current() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    shown = document.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == table(), "write it anew: python -m tests.host.golden.differences"


def renamed_activity(trace: dict[str, Any]) -> None:
    trace["instances"]["g-chain5"]["executions"][0]["episodes"][1]["returned"]["actions"][0][1][
        "functionName"
    ] = "dec"


def other_output(trace: dict[str, Any]) -> None:
    trace["instances"]["g-chain5"]["executions"][0]["episodes"][-1]["returned"]["output"] = 6


def other_code(trace: dict[str, Any]) -> None:
    trace["actions"][0]["status"] = 200


def other_header(trace: dict[str, Any]) -> None:
    trace["actions"][0]["headers"]["retry-after"] = "11"


def event_nobody_sent(trace: dict[str, Any]) -> None:
    history = trace["instances"]["g-chain5"]["executions"][0]["history"]
    history[-1] = {**history[-1], "EventType": 15, "Name": "go", "Input": "1"}


@pytest.mark.parametrize(
    "change", [renamed_activity, other_output, other_code, other_header, event_nobody_sent]
)
def test_the_player_notices(change: Any) -> None:
    trace = copy.deepcopy(TRACES["chain5"])
    change(trace)
    with pytest.raises(Difference):
        Player(trace).play()
