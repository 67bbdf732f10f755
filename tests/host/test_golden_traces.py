"""Replays 170 recordings of the original engine and compares the behavior of the local host.

`golden/player.py` describes what is compared, and `golden/differences.py` lists the intentional
differences.
"""

import copy
import json
from typing import Any

import pytest

from .golden.condense import TERMINATION_TRACES
from .golden.differences import BEGIN, DOCUMENT, END, REASONS, find_difference, render_table
from .golden.player import Player, TraceDifferenceError, read_traces

TRACES = {trace["scenario"]: trace for trace in read_traces()}
TERMINATIONS = {trace["scenario"]: trace for trace in read_traces(TERMINATION_TRACES)}


@pytest.mark.parametrize("scenario", TRACES)
def test_scenario_matches_recording_or_has_documented_difference(scenario: str) -> None:
    difference = find_difference(TRACES[scenario])
    if scenario in REASONS:
        assert difference, f"{scenario} no longer differs. Remove it from REASONS."
    else:
        assert not difference


@pytest.mark.parametrize("scenario", TERMINATIONS)
def test_termination_of_worker_matches_recording(scenario: str) -> None:
    assert not find_difference(TERMINATIONS[scenario])


def test_traces_are_complete() -> None:
    assert len(TRACES) == 143 and len(TRACES) - len(REASONS) >= 125
    assert len(TERMINATIONS) == 27


def test_table_in_documentation_is_current() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    documented_table = document.partition(BEGIN)[2].partition(END)[0].strip()
    assert documented_table == render_table(), (
        "Update the document: python -m tests.host.golden.differences"
    )


def rename_activity(trace: dict[str, Any]) -> None:
    trace["instances"]["g-chain5"]["executions"][0]["episodes"][1]["returned"]["actions"][0][1][
        "functionName"
    ] = "dec"


def change_output(trace: dict[str, Any]) -> None:
    trace["instances"]["g-chain5"]["executions"][0]["episodes"][-1]["returned"]["output"] = 6


def change_status_code(trace: dict[str, Any]) -> None:
    trace["actions"][0]["status"] = 200


def change_header(trace: dict[str, Any]) -> None:
    trace["actions"][0]["headers"]["retry-after"] = "11"


def add_event(trace: dict[str, Any]) -> None:
    history = trace["instances"]["g-chain5"]["executions"][0]["history"]
    history[-1] = {**history[-1], "EventType": 15, "Name": "go", "Input": "1"}


@pytest.mark.parametrize(
    "change", [rename_activity, change_output, change_status_code, change_header, add_event]
)
def test_player_with_changed_trace_raises(change: Any) -> None:
    trace = copy.deepcopy(TRACES["chain5"])
    change(trace)
    with pytest.raises(TraceDifferenceError):
        Player(trace).play()


@pytest.mark.parametrize("scenario", ["wd_first", "wd_later", "wd_act"])
def test_player_with_other_termination_text_raises(scenario: str) -> None:
    trace = json.loads(json.dumps(TERMINATIONS[scenario]).replace("python exited", "python ended"))
    if scenario == "wd_later":  # the text does not mention the termination
        trace["instances"]["g-wd_later"]["status"]["output"] = "python exited"
    with pytest.raises(TraceDifferenceError):
        Player(trace).play()
