"""The recording contains the events, fields and types that the app emits."""

import ast
from datetime import timedelta

import pytest

from shared.redaction import EVENT_LOGGER
from tests.alarms.kusto import ROOT
from tests.alarms.recording import (
    ROLE,
    Trace,
    get_field_types,
    load_recording,
    record_events,
    serialize,
)
from tests.support.operations_document import documented_events, emitted_events

OUTDATED = "The events have changed. Run python -m tests.alarms.recording, and check the queries."
COMMON_FIELDS = {"event_id", "app_version", "instance_id", "trace_id"}


def test_recording_has_events_and_types_of_the_app() -> None:
    current, recorded = record_events(), load_recording()
    assert get_field_types(current) == get_field_types(recorded), OUTDATED
    assert {trace.message.partition(",")[0] for trace in current} == {
        f'{{"event":"{name}"' for name in get_field_types(recorded)
    }


def test_recording_contains_every_event_and_only_documented_fields() -> None:
    documented, types = documented_events(), get_field_types(load_recording())
    assert set(types) == set(emitted_events()), OUTDATED
    for event, fields in types.items():
        assert set(fields) - COMMON_FIELDS <= documented[event], event


def test_field_types_detect_changed_type_and_name() -> None:
    traces = load_recording()
    ended = next(trace for trace in traces if trace.fields["event"] == "run_ended")
    others = [trace for trace in traces if trace.fields["event"] != "run_ended"]
    changed = get_field_types([*others, ended.with_fields(seconds="12")])
    assert changed["run_ended"]["seconds"] == {"str"}
    assert "duration" in get_field_types([*others, ended.with_fields(duration=1)])["run_ended"]


def test_dataset_planned_reports_whether_last_month_is_billed() -> None:
    """November's invoice is listed after the tick of 8 December and lands on 9 December."""
    plans = [
        (f"{trace.at + timedelta(minutes=1):%m-%d}", trace.fields["last_month_billed"])
        for trace in load_recording()
        if trace.fields["event"] == "dataset_planned"
    ]
    not_billed = {day for day, is_billed in plans if not is_billed}
    # On 29 November, nothing has landed.
    assert not_billed == {"11-29", *(f"12-{day:02}" for day in range(1, 10))}
    assert {day for day, is_billed in plans if is_billed} == {day for day, _ in plans} - not_billed


def test_version_landed_contains_mean_of_seven_earlier_versions() -> None:
    """The expected mean is computed from the recording."""
    landed = [
        trace.fields
        for trace in load_recording()
        if trace.fields["event"] == "version_landed"
        and trace.fields["key"] == "unbilled_usage/2026-12/USD/full"
    ]
    *earlier, newest = list({fields["version"]: fields for fields in landed}.values())
    mean = sum(fields["rows"] for fields in earlier[-7:]) / 7
    assert newest["compared"] == 7
    assert newest["rows_mean"] == round(mean, 1)
    assert "rows_mean" not in landed[0]
    assert landed[0]["compared"] == 0


def test_recording_can_be_read_and_serialized_without_loss() -> None:
    traces = load_recording()
    assert serialize(traces) == serialize(
        [Trace(trace.at, trace.message, ROLE) for trace in traces]
    )


def test_recording_covers_more_than_three_weeks() -> None:
    traces = load_recording()
    assert len({trace.fields["event_id"] for trace in traces}) <= len(traces)
    assert len(traces) > 900
    assert traces[-1].at - traces[0].at > timedelta(days=22)


@pytest.mark.parametrize("folder", ["activities", "shared", "triggers"])
def test_modules_emit_events_only_through_telemetry(folder: str) -> None:
    """Only the telemetry module adds event IDs and removes secrets."""
    for file in (ROOT / folder).rglob("*.py"):
        if file.name in ("telemetry.py", "redaction.py"):
            continue
        text = file.read_text(encoding="utf-8")
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        assert EVENT_LOGGER not in text, file
        assert "EVENTS" not in names, file
