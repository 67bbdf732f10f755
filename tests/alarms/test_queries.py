"""Every query is valid, uses only events and fields that the app emits, and ignores duplicates."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.exports import Dataset
from shared.ledger.runs import OUTCOMES
from shared.messages import FAILED_OUTCOMES
from tests.alarms.kusto import (
    ALERTS,
    MAX_ALERT_RANGE_SECONDS,
    WORKBOOK,
    get_diagnostics,
    get_parameters,
    list_queries,
    read_query,
    run_query,
    set_parameters,
)
from tests.alarms.recording import Trace, get_field_types, load_recording

QUERIES = [*list_queries(ALERTS), *list_queries(WORKBOOK)]
FIELD_TYPES = get_field_types(load_recording())
CONVERSIONS = {  # function -> field types that it accepts
    "tolong": {"number"},
    "toreal": {"number"},
    "tobool": {"bool"},
    "todatetime": {"str"},
    "tostring": {"str"},
}
TIMES = [datetime(2026, 12, 15, 8, tzinfo=UTC), datetime(2026, 12, 22, 7, tzinfo=UTC)]
# Diagnostic code -> query with an error: unknown column, table, operator and function, and too
# many arguments.
INVALID_QUERIES = {
    "KS142": "AppTraces | where TimeGenrated > ago(1h)",
    "KS204": "AppTrace | count",
    "KS176": "AppTraces | filtre x",
    "KS211": "AppTraces | extend day = dayofmnth(now())",
    "KS119": "AppTraces | where strlen(Message, 1) > 1",
}
EVENTS_TEMPLATE = """let events = AppTraces
{window}| where isempty(role) or AppRoleName =~ role
| where Message startswith_cs '{{"event":"'
| extend fields = parse_json(Message)
| extend event = tostring(fields.event), event_id = tostring(fields.event_id)
| summarize arg_max(TimeGenerated, event, fields) by AppRoleName, event_id;
"""


def find_events(text: str) -> set[str]:
    """Return the names of events in a query."""
    return set(re.findall(r"'(\w+)'", text)) & set(FIELD_TYPES)


def find_fields(text: str) -> set[tuple[str, str]]:
    """Return the conversion and the name of each field in a query."""
    return set(re.findall(r"(\w+)\(fields\.(\w+)\)", text))


def find_unknown_fields(text: str) -> set[str]:
    """Return the fields that no event in the query has with a type that the conversion accepts."""
    events = find_events(text) or set(FIELD_TYPES)
    return {
        field
        for function, field in find_fields(text)
        if field not in ("event", "event_id")
        and not any(
            FIELD_TYPES[event].get(field, set()) & CONVERSIONS[function] for event in events
        )
    }


def remove_times(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows without times, in a stable order."""
    return sorted(
        str({name: value for name, value in row.items() if not isinstance(value, datetime)})
        for row in rows
    )


def test_parser_accepts_queries_and_detects_errors() -> None:
    diagnostics = get_diagnostics({name: read_query(name) for name in QUERIES} | INVALID_QUERIES)
    assert set(diagnostics) == {*QUERIES, *INVALID_QUERIES}
    assert {name: diagnostics[name] for name in QUERIES if diagnostics[name]} == {}
    for code in INVALID_QUERIES:
        assert code in {diagnostic["code"] for diagnostic in diagnostics[code]}, diagnostics[code]


@pytest.mark.parametrize("name", QUERIES)
def test_query_starts_with_comment_and_removes_duplicate_events(name: str) -> None:
    window = "| where TimeGenerated > ago(2d)\n" if name in list_queries(ALERTS) else ""
    text = read_query(name)
    assert EVENTS_TEMPLATE.format(window=window) in text
    assert text.count("AppTraces") == 1
    assert text.startswith("// ")


@pytest.mark.parametrize("name", QUERIES)
def test_query_uses_only_recorded_events_and_fields(name: str) -> None:
    text = read_query(name)
    assert find_unknown_fields(text) == set()
    converted = re.findall(r"\w+\(fields\.\w+\)", text)
    assert len(re.findall(r"fields\.\w+", text)) == len(converted), "field without conversion"
    for match in re.findall(r"event !?in \(([^)]*)\)|event == ('\w+')", text):
        assert set(re.findall(r"'(\w+)'", "".join(match))) <= set(FIELD_TYPES)
    for match in re.findall(r"outcome\)? !?in \(([^)]*)\)", text):
        assert set(re.findall(r"'(\w+)'", match)) <= set(OUTCOMES)


def test_find_unknown_fields_with_wrong_name_or_type_returns_field() -> None:
    valid = "where event == 'run_ended' | extend x = tostring(fields.key)"
    invalid = (
        "where event == 'run_ended' | extend x = tostring(fields.invoice), y = tolong(fields.key)"
    )
    assert find_unknown_fields(valid) == set()
    assert find_unknown_fields(invalid) == {"invoice", "key"}


def test_run_failed_query_has_failed_outcomes_of_the_app() -> None:
    condition = read_query("run-failed").split("where outcome in ")[1].splitlines()[0]
    assert set(re.findall(r"'(\w+)'", condition)) == FAILED_OUTCOMES


def test_silence_query_has_datasets_of_the_app() -> None:
    datasets = get_parameters(read_query("silence"))["datasets"].strip("'").split(",")
    assert datasets == [dataset.value for dataset in Dataset]


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("now", TIMES, ids=lambda now: f"{now:%d}")
def test_query_with_duplicate_events_has_same_result(name: str, now: datetime) -> None:
    traces = [trace for trace in load_recording() if trace.at <= now - timedelta(minutes=1)]
    late_duplicates = [
        trace.shifted(seconds=40) for trace in traces[-300:] if trace.fields["event"] != "preflight"
    ]
    with_duplicates = [*traces, *late_duplicates, *traces[:300]]
    expected = run_query(read_query(name), traces, now)
    result = run_query(read_query(name), with_duplicates, now)
    assert remove_times(result) == remove_times(expected)


@pytest.mark.parametrize("name", QUERIES)
def test_query_excludes_other_apps_in_workspace(name: str) -> None:
    now, text, traces = TIMES[0], read_query(name), load_recording()
    other_app = set_parameters(text, role="func-other")
    this_app = set_parameters(text, role="func-billing-recorded")
    assert run_query(other_app, traces, now) == run_query(text, [], now)
    assert run_query(this_app, traces, now) == run_query(text, traces, now)


@pytest.mark.parametrize("name", list_queries(ALERTS))
def test_alarm_query_needs_only_two_days_and_ignores_other_lines(name: str) -> None:
    now = TIMES[0]
    recent = [
        trace
        for trace in load_recording()
        if (now - trace.at).total_seconds() < MAX_ALERT_RANGE_SECONDS
    ]
    messages = ("cycle cycle-x started", "", "{", '{"event":', '{"Event":"run_ended"}')
    other_lines = [Trace(recent[0].at, message) for message in messages]
    result = run_query(read_query(name), [*recent, *other_lines], now)
    assert result == run_query(read_query(name), load_recording(), now)
