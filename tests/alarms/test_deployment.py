"""Rules and workbook as they are deployed: every query has its rule, every threshold its parameter, every panel its query."""

import json
import re
from typing import Any

import pytest

from tests.alarms.engine import ALERTS, ROOT, WORKBOOK, lets, names, query, run
from tests.alarms.recording import recorded
from tests.alarms.test_alarms import CALM
from tests.alarms.workbook import FILE, PARAMETERS, QUERY, TEXT, text
from tests.infra.bicep import templates

RULES: list[dict[str, Any]] = json.loads((ALERTS / "rules.json").read_text(encoding="utf-8"))
MODULE, PORTAL = templates()["modules/alerts.bicep"], templates()["modules/workbook.bicep"]
DOCUMENT = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
FREQUENCIES = {
    "PT5M",
    "PT10M",
    "PT15M",
    "PT30M",
    "PT45M",
    "PT1H",
    "PT2H",
    "PT3H",
    "PT4H",
    "PT5H",
    "PT6H",
    "P1D",
}
ITEMS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["items"]


def block(name: str) -> str:
    """The line of the module that loads a query and puts the thresholds into it."""
    return next(
        line
        for line in MODULE.source.splitlines()
        if f"loadTextContent('../alerts/{name}.kql')" in line
    )


def replaced(name: str) -> dict[str, tuple[str, str]]:
    """What the module replaces in a query: name -> the literal that it looks for, the parameter that it puts there."""
    found = re.findall(
        r"'let (\w+) = ((?:\\'|[^';])*);', 'let \1 = (?:\\')?\$\{(\w+)\}(?:\\')?;'", block(name)
    )
    return {let: (literal.replace("\\'", "'"), parameter) for let, literal, parameter in found}


def test_every_query_has_a_rule_and_is_loaded() -> None:
    assert [rule["name"] for rule in RULES] == list(dict.fromkeys(rule["name"] for rule in RULES))
    assert {rule["name"] for rule in RULES} == set(names(ALERTS))
    keys = re.findall(
        r"^  (?:'([\w-]+)'|(\w+)): (?:replace\(|loadTextContent)", MODULE.source, flags=re.MULTILINE
    )
    assert {quoted or plain for quoted, plain in keys} == set(names(ALERTS))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_a_rule_is_one_that_azure_takes(rule: dict[str, Any]) -> None:
    assert set(rule) == {"name", "title", "description", "severity", "frequency", "dimensions"}
    assert (
        0 <= rule["severity"] <= 4
        and rule["frequency"] in FREQUENCIES
        and 1 <= len(rule["dimensions"]) <= 6
    )
    assert (
        len(rule["name"]) + 60 < 260
        and rule["description"].endswith(".")
        and len(rule["title"]) < 80
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_it_splits_by_columns_that_the_query_answers_with(rule: dict[str, Any]) -> None:
    last = query(rule["name"]).strip().splitlines()[-1]
    columns = {
        column.split("=")[0].strip() for column in last.removeprefix("| project ").split(",")
    }
    assert last.startswith("| project ") and set(rule["dimensions"]) <= columns


@pytest.mark.parametrize("name", names(ALERTS))
def test_every_threshold_is_a_parameter_with_the_same_default(name: str) -> None:
    thresholds = {
        let: value for let, value in lets(query(name)).items() if let not in ("role", "events")
    }
    found = replaced(name)
    assert {let: literal for let, (literal, _) in found.items()} == thresholds
    for let, (literal, parameter) in found.items():
        if let == "datasets":
            assert (
                "var datasetNames = join(datasets, ',')" in MODULE.source
                and parameter == "datasetNames"
            )
            assert MODULE.parameters["datasets"]["default"] == literal.strip("'").split(",")
        else:
            assert MODULE.parameters[parameter]["default"] == int(literal)
            assert parameter == re.sub(r"_(\w)", lambda match: match[1].upper(), let)


def test_the_app_is_put_into_every_query() -> None:
    assert (
        "replace(queries[rule.name], 'let role = \\'\\';', 'let role = \\'${functionAppName}\\';')"
        in MODULE.source
    )
    assert all(
        query(name).count("let role = '';\n") == 1 for name in names(ALERTS) + names(WORKBOOK)
    )
    assert all(f"'let {let} = \\'\\';'" in PORTAL.source for let in ("role", "api"))


def test_main_has_the_same_defaults_and_limits_as_the_module() -> None:
    said_by_main = templates()["main.bicep"].parameters
    main = {
        name[5].lower() + name[6:]: said
        for name, said in said_by_main.items()
        if name.startswith("alert")
    }
    for name in (
        "silenceHours",
        "timerHours",
        "pendingMinutes",
        "deadlineHours",
        "failedPercent",
        "lowPercent",
        "highPercent",
    ):
        for said in (main, MODULE.parameters):
            assert said[name]["default"] == MODULE.parameters[name]["default"]
        limits = [
            {
                one["type"]: one["argument"]
                for one in said[name]["decorators"]
                if one["type"] != "description"
            }
            for said in (main, MODULE.parameters)
        ]
        assert limits[0] == limits[1], name


def test_no_event_is_sampled_away_or_held_back() -> None:
    """What the app logs as Information arrives whole, as a trace: no category of ours is quieter, no trace is sampled."""
    logging = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["logging"]
    assert "Trace" in logging["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")
    assert logging["logLevel"]["default"] == "Information"
    assert not [
        category
        for category in logging["logLevel"]
        if category.startswith(("Function", "partner_billing"))
    ]


# -- the workbook


def test_the_workbook_is_put_together_from_its_queries() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "run: python -m tests.alarms.workbook"
    assert [item["name"] for item in ITEMS if item["type"] == QUERY] and {
        item["name"] for item in ITEMS if item["type"] == QUERY
    } == set(names(WORKBOOK))


def test_it_has_the_form_of_the_portal() -> None:
    """What the public schema asks for (kinds of items, an object in each, widths and names as text) and what it is silent on:
    an answer to the same range of time for every panel.
    """
    whole = json.loads(FILE.read_text(encoding="utf-8"))
    assert whole["version"] == "Notebook/1.0" and whole["$schema"].endswith("schema/workbook.json")
    assert {item["type"] for item in ITEMS} == {TEXT, QUERY, PARAMETERS}
    assert len({item["name"] for item in ITEMS}) == len(ITEMS) and all(
        isinstance(item["content"], dict) for item in ITEMS
    )
    for item in ITEMS:
        assert isinstance(item["name"], str) and isinstance(item.get("customWidth", "100"), str)
        if item["type"] == QUERY:
            assert isinstance(item["content"]["query"], str) and item["content"]["queryType"] == 0
            assert (
                item["content"]["timeContextFromParameter"] == "time"
                and item["content"]["version"] == "KqlItem/1.0"
            )


@pytest.mark.parametrize("name", names(WORKBOOK))
def test_a_panel_shows_columns_that_its_query_answers_with(name: str) -> None:
    content = next(item["content"] for item in ITEMS if item["name"] == name)
    asked = query(name).replace(
        "'{chosen}'", f"'{run(query('runs'), recorded(), CALM)[0]['run_id']}'"
    )
    answer = run(asked, recorded(), CALM)
    chart, grid = content.get("chartSettings", {}), content.get("gridSettings", {})
    shown = {
        *chart.get("yAxis", []),
        *[chart[axis] for axis in ("xAxis", "group") if axis in chart],
        *[one["columnMatch"] for one in grid.get("formatters", [])],
        *([content["exportFieldName"]] if "exportFieldName" in content else []),
    }
    known = set(answer[0]) if answer else set(re.findall(r"(\w+) = ", query(name))) | {"code"}
    assert shown <= known and (answer or name in ("errors", "throttling", "waits"))


# -- the document


def test_every_alarm_has_a_runbook_and_every_runbook_an_alarm() -> None:
    assert re.findall(r"^### ([a-z-]+)$", DOCUMENT, flags=re.MULTILINE) == [
        rule["name"] for rule in RULES
    ]
    runbooks = DOCUMENT.partition("## Runbooks")[2].partition("## The workbook")[0]
    for part in re.split(r"^### [a-z-]+$", runbooks, flags=re.MULTILINE)[1:]:
        for heading in ("**It means:**", "**First look:**", "**Do:**", "**Do not:**"):
            assert part.count(heading) == 1


def test_the_table_of_alarms_is_that_of_the_rules() -> None:
    rows = re.findall(
        r"^\| \[`([\w-]+)`\]\(#[\w-]+\) \| [^|]+ \| (\d) \| (\w+) \| ([^|]+) \|$",
        DOCUMENT,
        flags=re.MULTILINE,
    )
    assert [(name, severity, frequency) for name, severity, frequency, _ in rows] == [
        (rule["name"], str(rule["severity"]), rule["frequency"]) for rule in RULES
    ]
    for name, _, _, thresholds in rows:
        named = {parameter for _, parameter in replaced(name).values()}
        assert set(re.findall(r"`(\w+)`", thresholds)) == {
            "datasets" if one == "datasetNames" else one for one in named
        }
