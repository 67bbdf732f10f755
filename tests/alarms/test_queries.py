"""Every query of the alarms and the workbook: Microsoft's parser takes it, it names only what the app says, and repeats of an
event do not count.
"""

import re
from datetime import UTC, datetime, timedelta

import pytest

from shared.exports import Dataset
from shared.ledger.runs import OUTCOMES
from shared.messages import FAILED_OUTCOMES
from tests.alarms.engine import (
    ALERTS,
    TWO_DAYS,
    WORKBOOK,
    diagnosed,
    lets,
    names,
    query,
    run,
    set_to,
)
from tests.alarms.recording import Trace, recorded, shapes

ALL = [*names(ALERTS), *names(WORKBOOK)]
SAID = shapes(recorded())
KINDS = {
    "tolong": {"number"},
    "toreal": {"number"},
    "tobool": {"bool"},
    "todatetime": {"str"},
    "tostring": {"str"},
}
MOMENTS = [datetime(2026, 12, 15, 8, tzinfo=UTC), datetime(2026, 12, 22, 7, tzinfo=UTC)]
SLIPS = {  # by what the parser calls them: no such name, table, function; no such operator; too many arguments
    "KS142": "AppTraces | where TimeGenrated > ago(1h)",
    "KS204": "AppTrace | count",
    "KS176": "AppTraces | filtre x",
    "KS211": "AppTraces | extend day = dayofmnth(now())",
    "KS119": "AppTraces | where strlen(Message, 1) > 1",
}
HEAD = """let events = AppTraces
{window}| where isempty(role) or AppRoleName =~ role
| where Message startswith_cs '{{"event":"'
| extend said = parse_json(Message)
| extend event = tostring(said.event), event_id = tostring(said.event_id)
| summarize arg_max(TimeGenerated, event, said) by AppRoleName, event_id;
"""


def events_in(text: str) -> set[str]:
    """The events that a query names."""
    return set(re.findall(r"'(\w+)'", text)) & set(SAID)


def facts_in(text: str) -> set[tuple[str, str]]:
    """Function and fact of each use of one."""
    return set(re.findall(r"(\w+)\(said\.(\w+)\)", text))


def strangers(text: str) -> set[str]:
    """Facts that none of the events it names has, or has in another kind."""
    known = events_in(text) or set(SAID)
    return {
        fact
        for function, fact in facts_in(text)
        if fact not in ("event", "event_id")
        and not any(SAID[event].get(fact, set()) & KINDS[function] for event in known)
    }


def test_microsofts_parser_finds_nothing_and_would_have_found_a_slip() -> None:
    found = diagnosed({name: query(name) for name in ALL} | SLIPS)
    assert {name: said for name, said in found.items() if said and name not in SLIPS} == {} and set(
        found
    ) == {*ALL, *SLIPS}
    for code in SLIPS:
        assert code in {one["code"] for one in found[code]}, found[code]


@pytest.mark.parametrize("name", ALL)
def test_it_reads_events_as_all_do_and_drops_repeats_by_their_id(name: str) -> None:
    window = "| where TimeGenerated > ago(2d)\n" if name in names(ALERTS) else ""
    text = query(name)
    assert (
        HEAD.format(window=window) in text
        and text.count("AppTraces") == 1
        and text.startswith("// ")
    )


@pytest.mark.parametrize("name", ALL)
def test_it_names_only_what_the_app_says(name: str) -> None:
    text = query(name)
    assert strangers(text) == set()
    assert len(re.findall(r"said\.\w+", text)) == len(re.findall(r"\w+\(said\.\w+\)", text)), (
        "a fact without a kind"
    )
    for listed in re.findall(r"event !?in \(([^)]*)\)|event == ('\w+')", text):
        assert set(re.findall(r"'(\w+)'", "".join(listed))) <= set(SAID)
    for listed in re.findall(r"outcome\)? !?in \(([^)]*)\)", text):
        assert set(re.findall(r"'(\w+)'", listed)) <= set(OUTCOMES)


def test_a_fact_that_the_app_does_not_say_is_found() -> None:
    assert strangers("where event == 'run_ended' | extend x = tostring(said.key)") == set()
    assert strangers(
        "where event == 'run_ended' | extend x = tostring(said.invoice), y = tolong(said.key)"
    ) == {"invoice", "key"}


def test_the_words_are_those_of_the_app() -> None:
    assert (
        set(
            re.findall(
                r"'(\w+)'", query("run-failed").split("where outcome in ")[1].splitlines()[0]
            )
        )
        == FAILED_OUTCOMES
    )
    assert lets(query("silence"))["datasets"].strip("'").split(",") == [
        dataset.value for dataset in Dataset
    ]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("now", MOMENTS, ids=lambda now: f"{now:%d}")
def test_repeats_of_an_event_do_not_count(name: str, now: datetime) -> None:
    there = [trace for trace in recorded() if trace.at <= now - timedelta(minutes=1)]
    repeated = [
        *there,
        *(trace.moved(seconds=40) for trace in there[-300:] if trace.facts["event"] != "preflight"),
        *there[:300],
    ]
    once, twice = run(query(name), there, now), run(query(name), repeated, now)
    counts = [{k: v for k, v in row.items() if not isinstance(v, datetime)} for row in once]
    assert sorted(map(str, counts)) == sorted(
        str({k: v for k, v in row.items() if not isinstance(v, datetime)}) for row in twice
    )


@pytest.mark.parametrize("name", ALL)
def test_another_app_in_the_same_workspace_is_left_out(name: str) -> None:
    now = MOMENTS[0]
    assert run(set_to(query(name), role="func-other"), recorded(), now) == run(query(name), [], now)
    assert run(set_to(query(name), role="func-billing-recorded"), recorded(), now) == run(
        query(name), recorded(), now
    )


@pytest.mark.parametrize("name", names(ALERTS))
def test_it_needs_no_more_than_two_days_and_passes_over_what_is_no_event(name: str) -> None:
    """All that a log alert is given, whatever its query asks for."""
    now = MOMENTS[0]
    seen = [trace for trace in recorded() if (now - trace.at).total_seconds() < TWO_DAYS]
    lines = ("cycle cycle-x started", "", "{", '{"event":', '{"Event":"run_ended"}')
    noise = [Trace(seen[0].at, line) for line in lines]
    assert run(query(name), [*seen, *noise], now) == run(query(name), recorded(), now)
