"""The Kusto engine behaves as documented for Kusto and rejects unsupported queries."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb_kql
import pytest

from tests.alarms.kusto import get_parameters, run_query, set_parameters
from tests.alarms.recording import Trace, to_message

NOW = datetime(2026, 12, 12, 8, tzinfo=UTC)


def create_trace(minutes_ago: int, **fields: Any) -> Trace:
    return Trace(NOW - timedelta(minutes=minutes_ago), to_message(fields))


def run(text: str, *traces: Trace) -> list[dict[str, Any]]:
    return run_query(text, traces, NOW)


def evaluate(expression: str, *traces: Trace) -> Any:
    """Return the value of an expression that uses the fields of one trace."""
    [row] = run(
        f"AppTraces | extend fields = parse_json(Message) | project value = {expression}",
        *traces or [create_trace(1, a=1)],
    )
    return row["value"]


def test_time_functions_use_given_time() -> None:
    assert evaluate("now()") == NOW
    assert evaluate("ago(90m)") == evaluate("ago(1.5 * 1h)") == NOW - timedelta(minutes=90)
    assert evaluate("dayofmonth(now())") == 12
    assert evaluate("startofmonth(now())") == datetime(2026, 12, 1, tzinfo=UTC)
    recent = "AppTraces | where TimeGenerated > ago(1h) | project TimeGenerated"
    assert run(recent, create_trace(61), create_trace(59)) == [
        {"TimeGenerated": NOW - timedelta(minutes=59)}
    ]


def test_workspace_with_later_trace_excludes_it() -> None:
    assert run("AppTraces | count", create_trace(-1), create_trace(0)) == [{"Count": 1}]


def test_missing_field_is_empty_string_or_null() -> None:
    assert evaluate("tostring(fields.b)") == ""
    assert evaluate("isempty(tostring(fields.b))") is True
    for function in ("tolong", "todatetime", "tobool"):
        assert evaluate(f"{function}(fields.b)") is None


def test_null_is_not_equal_to_zero() -> None:
    number = "AppTraces | extend n = tolong(parse_json(Message).b)"
    assert run(f"{number} | where n == 0", create_trace(1, a=1)) == []
    assert run(f"{number} | where n != 0", create_trace(1, a=1)) != []


def test_parse_json_of_invalid_json_has_no_fields() -> None:
    query = "AppTraces | extend s = parse_json(Message) | where isempty(tostring(s.event))"
    assert run(query, Trace(NOW, "{not json")) != []


def test_conversions_return_typed_values() -> None:
    trace = create_trace(
        1,
        n=7,
        x=1.5,
        yes=True,
        no=False,
        at="2026-12-12T08:00:00+00:00",
        z="2026-12-12T08:00:00Z",
        text="a'b",
    )
    assert evaluate("tolong(fields.n)", trace) == 7
    assert evaluate("toreal(fields.x)", trace) == 1.5
    assert evaluate("tostring(fields.text)", trace) == "a'b"
    assert evaluate("tobool(fields.yes)", trace) is True
    assert evaluate("tobool(fields.no)", trace) is False
    assert evaluate("todatetime(fields.at)", trace) == NOW
    assert evaluate("todatetime(fields.z)", trace) == NOW


def test_arg_max_returns_newest_row_of_each_group() -> None:
    rows = run(
        "AppTraces | extend s = parse_json(Message) | extend k = tostring(s.k), v = tolong(s.v)"
        " | summarize arg_max(TimeGenerated, v), n = count(), d = dcount(v) by k",
        create_trace(9, k="a", v=1),
        create_trace(3, k="a", v=2),
        create_trace(5, k="a", v=1),
        create_trace(1, k="A", v=4),
    )
    assert {row["k"]: (row["v"], row["n"], row["d"]) for row in rows} == {
        "a": (2, 3, 2),
        "A": (4, 1, 1),
    }


def test_string_operators_follow_case_rules_of_kusto() -> None:
    assert evaluate("'Ab' == 'ab'") is False
    assert evaluate("'Ab' =~ 'ab'") is True
    assert evaluate("'Abc' startswith 'ab'") is True
    assert evaluate("'Abc' startswith_cs 'ab'") is False
    assert evaluate("'a' in ('a', 'b')") is True
    assert evaluate("'a' !in ('a', 'b')") is False


def test_summarize_without_rows_returns_one_row_or_no_group() -> None:
    assert run("AppTraces | summarize n = count(), newest = max(TimeGenerated)") == [
        {"n": 0, "newest": None}
    ]
    assert run("AppTraces | summarize n = count() by AppRoleName") == []


def test_mv_expand_and_set_has_element_return_membership() -> None:
    rows = run(
        "AppTraces | summarize roles = make_set(AppRoleName)"
        " | extend role = split('a,b', ',') | mv-expand role to typeof(string)"
        " | extend is_present = set_has_element(roles, role) | project role, is_present",
        Trace(NOW, "{}", "b"),
        Trace(NOW, "{}", "b"),
    )
    assert [(row["role"], row["is_present"]) for row in rows] == [("a", False), ("b", True)]


def test_aggregates_ignore_null() -> None:
    [row] = run(
        "AppTraces | extend s = parse_json(Message), t = TimeGenerated"
        " | summarize earliest = min(iff(tostring(s.e) == 'x', t, datetime(null))),"
        " none = max(iff(tostring(s.e) == 'z', t, datetime(null))), total = sum(tolong(s.n))",
        create_trace(9, e="y", n=1),
        create_trace(5, e="x"),
        create_trace(3, e="x", n=2),
    )
    assert row == {"earliest": NOW - timedelta(minutes=5), "none": None, "total": 3}


@pytest.mark.parametrize(
    "text",
    [
        "AppTraces | frobnicate TimeGenerated",
        "AppTraces | evaluate pivot(Message)",
        "AppTraces | extend x = nonsense(Message)",
        "AppTraces | where Message ==",
        "AppTraces | summarize x = nonsense(Message)",
    ],
)
def test_unsupported_query_raises_kql_error(text: str) -> None:
    with pytest.raises(duckdb_kql.KqlError):
        run(text, create_trace(1, a=1))


def test_set_parameters_replaces_declared_values_only() -> None:
    text = "let hours = 3;\nlet names = 'a,b';\nAppTraces | where TimeGenerated < ago(hours * 1h)\n"
    assert get_parameters(text) == {"hours": "3", "names": "'a,b'"}
    assert set_parameters(text, hours=5, names="c").startswith("let hours = 5;\nlet names = 'c';\n")
    with pytest.raises(AssertionError):
        set_parameters(text, days=1)
