"""The recording is what the code says today: its events, their facts and the kinds of their values."""

import ast
from datetime import timedelta

import pytest

from shared.redaction import EVENT_LOGGER
from tests.alarms.recording import ROLE, Trace, play, recorded, shapes, written
from tests.docs.test_operations import documented_events, emitted_events

AGAIN = "the events are not what they were: run python -m tests.alarms.recording, and see what the queries make of it"


def test_what_the_code_says_today_is_what_was_recorded() -> None:
    anew, before = play(), recorded()
    assert shapes(anew) == shapes(before), AGAIN
    assert {trace.message.partition(",")[0] for trace in anew} == {
        f'{{"event":"{name}"' for name in shapes(before)
    }


def test_every_event_of_the_code_was_recorded_and_every_recorded_fact_is_documented() -> None:
    known, there = documented_events(), shapes(recorded())
    assert set(there) == set(emitted_events()), AGAIN
    for name, facts in there.items():
        assert set(facts) - {"event_id", "app_version", "instance_id", "trace_id"} <= known[name], (
            name
        )


def test_a_fact_that_is_renamed_or_of_another_kind_is_seen() -> None:
    before = recorded()
    ended = next(trace for trace in before if trace.facts["event"] == "run_ended")
    others = [trace for trace in before if trace.facts["event"] != "run_ended"]
    assert shapes([*others, ended.saying(seconds="12")])["run_ended"]["seconds"] == {"str"}
    assert "duration" in shapes([*others, ended.saying(duration=1)])["run_ended"]


def test_a_plan_knows_whether_last_month_is_billed() -> None:
    """November's invoice is listed on 8 December behind that day's tick: it lands on the 9th, and the plan of the 10th knows."""
    plans = [
        (f"{trace.at + timedelta(minutes=1):%m-%d}", trace.facts["last_month_billed"])
        for trace in recorded()
        if trace.facts["event"] == "dataset_planned"
    ]
    unbilled = {day for day, billed in plans if not billed}
    assert unbilled == {
        "11-29",
        *(f"12-{day:02}" for day in range(1, 10)),
    }  # at first nothing is landed at all
    assert {day for day, billed in plans if billed} == {day for day, _ in plans} - unbilled


def test_a_landing_is_told_with_what_it_is_compared_with() -> None:
    """Worked out again from the recording: the mean of the versions of December's unbilled usage before the last one."""
    landed = [
        trace.facts
        for trace in recorded()
        if trace.facts["event"] == "version_landed"
        and trace.facts["key"] == "unbilled_usage/2026-12/USD/full"
    ]
    *before, last = list({facts["version"]: facts for facts in landed}.values())
    assert last["compared"] == 7 and last["rows_mean"] == round(
        sum(facts["rows"] for facts in before[-7:]) / 7, 1
    )
    assert "rows_mean" not in landed[0] and landed[0]["compared"] == 0


def test_a_line_arrives_as_it_was_said() -> None:
    """What is written is read again; traces are in the order of their time, as far as two workers keep it."""
    before = recorded()
    assert written(before) == written([Trace(trace.at, trace.message, ROLE) for trace in before])
    assert len({trace.facts["event_id"] for trace in before}) <= len(before) > 900
    assert before[-1].at - before[0].at > timedelta(days=22)


@pytest.mark.parametrize("folder", ["activities", "shared", "triggers"])
def test_events_go_through_one_door(folder: str) -> None:
    """No module logs to the events' logger by itself: each event has an id, and none holds a secret."""
    from tests.alarms.engine import ROOT

    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name not in ("telemetry.py", "redaction.py"):
            assert EVENT_LOGGER not in text and "EVENTS" not in {
                node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)
            }, file
