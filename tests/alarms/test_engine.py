"""The Kusto engine does what Kusto's documents say, as far as the queries go; and what it does not know, it refuses."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb_kql
import pytest

from tests.alarms.engine import lets, run, set_to
from tests.alarms.recording import Trace, line

NOW = datetime(2026, 12, 12, 8, tzinfo=UTC)


def said(minutes: int, **facts: Any) -> Trace:
    return Trace(NOW - timedelta(minutes=minutes), line(facts))


def asked(text: str, *traces: Trace) -> list[dict[str, Any]]:
    return run(text, traces, NOW)


def one(expression: str, *traces: Trace) -> Any:
    """The value of an expression over the last trace's facts."""
    [row] = asked(
        f"AppTraces | extend said = parse_json(Message) | project value = {expression}",
        *traces or [said(1, a=1)],
    )
    return row["value"]


def test_time_is_the_one_that_is_given() -> None:
    assert one("now()") == NOW and one("ago(90m)") == one("ago(1.5 * 1h)") == NOW - timedelta(
        minutes=90
    )
    assert one("dayofmonth(now())") == 12 and one("startofmonth(now())") == datetime(
        2026, 12, 1, tzinfo=UTC
    )
    assert asked(
        "AppTraces | where TimeGenerated > ago(1h) | project TimeGenerated", said(61), said(59)
    ) == [{"TimeGenerated": NOW - timedelta(minutes=59)}]
    assert asked("AppTraces | count", said(-1), said(0)) == [
        {"Count": 1}
    ]  # what lies ahead has not arrived


def test_a_fact_that_is_missing_is_empty_as_text_and_null_as_number() -> None:
    assert one("tostring(said.b)") == "" and one("isempty(tostring(said.b))") is True
    assert (
        one("tolong(said.b)") is None
        and one("todatetime(said.b)") is None
        and one("tobool(said.b)") is None
    )
    assert (
        asked("AppTraces | extend n = tolong(parse_json(Message).b) | where n == 0", said(1, a=1))
        == []
    )
    assert (
        asked("AppTraces | extend n = tolong(parse_json(Message).b) | where n != 0", said(1, a=1))
        != []
    )  # null is not 0
    assert (
        asked(
            "AppTraces | extend s = parse_json(Message) | where isempty(tostring(s.event))",
            Trace(NOW, "{not json"),
        )
        != []
    )


def test_facts_keep_their_kinds() -> None:
    trace = said(
        1,
        n=7,
        x=1.5,
        yes=True,
        no=False,
        at="2026-12-12T08:00:00+00:00",
        z="2026-12-12T08:00:00Z",
        text="a'b",
    )
    assert one("tolong(said.n)", trace) == 7 and one("toreal(said.x)", trace) == 1.5
    assert one("tostring(said.text)", trace) == "a'b"
    assert one("tobool(said.yes)", trace) is True and one("tobool(said.no)", trace) is False
    assert one("todatetime(said.at)", trace) == one("todatetime(said.z)", trace) == NOW


def test_the_newest_of_each_is_kept_and_names_mind_their_case() -> None:
    rows = asked(
        "AppTraces | extend s = parse_json(Message) | extend k = tostring(s.k), v = tolong(s.v)"
        " | summarize arg_max(TimeGenerated, v), n = count(), d = dcount(v) by k",
        said(9, k="a", v=1),
        said(3, k="a", v=2),
        said(5, k="a", v=1),
        said(1, k="A", v=4),
    )
    assert {row["k"]: (row["v"], row["n"], row["d"]) for row in rows} == {
        "a": (2, 3, 2),
        "A": (4, 1, 1),
    }
    assert one("'Ab' == 'ab'") is False and one("'Ab' =~ 'ab'") is True
    assert one("'Abc' startswith 'ab'") is True and one("'Abc' startswith_cs 'ab'") is False
    assert one("'a' in ('a', 'b')") is True and one("'a' !in ('a', 'b')") is False


def test_a_summary_of_nothing_is_one_row_and_by_a_column_none() -> None:
    assert asked("AppTraces | summarize n = count(), most = max(TimeGenerated)") == [
        {"n": 0, "most": None}
    ]
    assert asked("AppTraces | summarize n = count() by AppRoleName") == []


def test_a_list_becomes_rows_and_a_set_knows_its_members() -> None:
    rows = asked(
        "AppTraces | summarize heard = make_set(AppRoleName) | extend one = split('a,b', ',') | mv-expand one to typeof(string)"
        " | extend known = set_has_element(heard, one) | project one, known",
        Trace(NOW, "{}", "b"),
        Trace(NOW, "{}", "b"),
    )
    assert [(row["one"], row["known"]) for row in rows] == [("a", False), ("b", True)]


def test_null_is_passed_over_by_the_least_and_the_most() -> None:
    [row] = asked(
        "AppTraces | extend s = parse_json(Message), t = TimeGenerated"
        " | summarize least = min(iff(tostring(s.e) == 'x', t, datetime(null))),"
        " none = max(iff(tostring(s.e) == 'z', t, datetime(null))), total = sum(tolong(s.n))",
        said(9, e="y", n=1),
        said(5, e="x"),
        said(3, e="x", n=2),
    )
    assert row == {"least": NOW - timedelta(minutes=5), "none": None, "total": 3}


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
def test_what_it_does_not_know_it_refuses(text: str) -> None:
    with pytest.raises(duckdb_kql.KqlError):
        asked(text, said(1, a=1))


def test_values_at_the_head_are_set_once_or_not_at_all() -> None:
    text = "let hours = 3;\nlet names = 'a,b';\nAppTraces | where TimeGenerated < ago(hours * 1h)\n"
    assert lets(text) == {"hours": "3", "names": "'a,b'"}
    assert set_to(text, hours=5, names="c").startswith("let hours = 5;\nlet names = 'c';\n")
    with pytest.raises(AssertionError):
        set_to(text, days=1)
