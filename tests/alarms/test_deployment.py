"""The deployed rules and the workbook match their queries, the templates and docs/alarms.md."""

import json
import re
from typing import Any

import pytest

from tests.alarms.kusto import (
    ALERTS,
    ROOT,
    WORKBOOK,
    get_parameters,
    list_queries,
    read_query,
    run_query,
)
from tests.alarms.recording import load_recording
from tests.alarms.test_alarms import NORMAL_MORNING
from tests.alarms.workbook import FILE, PARAMETERS, QUERY, TEXT, to_json
from tests.support.bicep import Template, get_decorator, load_templates

RULES: list[dict[str, Any]] = json.loads((ALERTS / "rules.json").read_text(encoding="utf-8"))
ALERTS_MODULE = load_templates()["modules/alerts.bicep"]
WORKBOOK_MODULE = load_templates()["modules/workbook.bicep"]
DOCUMENT = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
EVALUATION_FREQUENCIES = {
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
LIMITS = ("allowed", "min_value", "max_value", "min_length", "max_length")
ITEMS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["items"]


def get_replacements(name: str) -> dict[str, tuple[str, str]]:
    """Return what the module replaces in a query: the variable, the literal and the parameter."""
    line = next(
        line
        for line in ALERTS_MODULE.source.splitlines()
        if f"loadTextContent('../alerts/{name}.kql')" in line
    )
    matches = re.findall(
        r"'let (\w+) = ((?:\\'|[^';])*);', 'let \1 = (?:\\')?\$\{(\w+)\}(?:\\')?;'", line
    )
    return {
        variable: (literal.replace("\\'", "'"), parameter)
        for variable, literal, parameter in matches
    }


def get_limits(template: Template, name: str) -> list[Any]:
    """Return the limits of a parameter, which Azure enforces."""
    return [get_decorator(template.parameters[name], limit) for limit in LIMITS]


def test_every_alert_query_has_rule_and_is_loaded() -> None:
    rule_names = [rule["name"] for rule in RULES]
    assert len(rule_names) == len(set(rule_names))
    assert set(rule_names) == set(list_queries(ALERTS))
    keys = re.findall(
        r"^  (?:'([\w-]+)'|(\w+)): (?:replace\(|loadTextContent)",
        ALERTS_MODULE.source,
        flags=re.MULTILINE,
    )
    assert {quoted or plain for quoted, plain in keys} == set(list_queries(ALERTS))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_rule_is_within_limits_of_azure(rule: dict[str, Any]) -> None:
    assert set(rule) == {"name", "title", "description", "severity", "frequency", "dimensions"}
    assert 0 <= rule["severity"] <= 4
    assert rule["frequency"] in EVALUATION_FREQUENCIES
    assert 1 <= len(rule["dimensions"]) <= 6
    assert len(rule["name"]) + 60 < 260
    assert rule["description"].endswith(".")
    assert len(rule["title"]) < 80


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["name"])
def test_rule_dimensions_are_columns_of_query(rule: dict[str, Any]) -> None:
    last_line = read_query(rule["name"]).strip().splitlines()[-1]
    assert last_line.startswith("| project ")
    columns = {
        column.split("=")[0].strip() for column in last_line.removeprefix("| project ").split(",")
    }
    assert set(rule["dimensions"]) <= columns


@pytest.mark.parametrize("name", list_queries(ALERTS))
def test_query_threshold_is_parameter_with_same_default(name: str) -> None:
    thresholds = {
        variable: value
        for variable, value in get_parameters(read_query(name)).items()
        if variable not in ("role", "events")
    }
    replacements = get_replacements(name)
    literals = {variable: literal for variable, (literal, _) in replacements.items()}
    assert literals == thresholds
    for variable, (literal, parameter) in replacements.items():
        if variable == "datasets":
            assert "var datasetNames = join(datasets, ',')" in ALERTS_MODULE.source
            assert parameter == "datasetNames"
            default = ALERTS_MODULE.parameters["datasets"]["default"]
            assert default == literal.strip("'").split(",")
        else:
            assert ALERTS_MODULE.parameters[parameter]["default"] == int(literal)
            assert parameter == re.sub(r"_(\w)", lambda match: match[1].upper(), variable)


def test_modules_set_app_name_and_url_in_every_query() -> None:
    assert (
        "replace(queries[rule.name], 'let role = \\'\\';', 'let role = \\'${functionAppName}\\';')"
        in ALERTS_MODULE.source
    )
    for name in list_queries(ALERTS) + list_queries(WORKBOOK):
        assert read_query(name).count("let role = '';\n") == 1
    for variable in ("role", "api"):
        assert f"'let {variable} = \\'\\';'" in WORKBOOK_MODULE.source


@pytest.mark.parametrize(
    "name",
    [
        "silenceHours",
        "timerHours",
        "pendingMinutes",
        "deadlineHours",
        "failedPercent",
        "lowPercent",
        "highPercent",
    ],
)
def test_main_template_has_defaults_and_limits_of_module(name: str) -> None:
    main, main_name = load_templates()["main.bicep"], f"alert{name[0].upper()}{name[1:]}"
    default = ALERTS_MODULE.parameters[name]["default"]
    assert main.parameters[main_name]["default"] == default
    assert get_limits(main, main_name) == get_limits(ALERTS_MODULE, name)


def test_host_json_keeps_every_event() -> None:
    """Traces are not sampled, and no log level suppresses the events of the app."""
    logging = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["logging"]
    sampling = logging["applicationInsights"]["samplingSettings"]
    assert "Trace" in sampling["excludedTypes"].split(";")
    assert logging["logLevel"]["default"] == "Information"
    for category in logging["logLevel"]:
        assert not category.startswith(("Function", "partner_billing"))


# Workbook


def test_workbook_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == to_json(), "run: python -m tests.alarms.workbook"


def test_workbook_has_panel_for_every_query() -> None:
    panels = {item["name"] for item in ITEMS if item["type"] == QUERY}
    assert panels
    assert panels == set(list_queries(WORKBOOK))


def test_workbook_has_format_of_portal() -> None:
    """The public schema requires most of this; all panels also share one time range."""
    workbook = json.loads(FILE.read_text(encoding="utf-8"))
    assert workbook["version"] == "Notebook/1.0"
    assert workbook["$schema"].endswith("schema/workbook.json")
    assert {item["type"] for item in ITEMS} == {TEXT, QUERY, PARAMETERS}
    assert len({item["name"] for item in ITEMS}) == len(ITEMS)
    for item in ITEMS:
        assert isinstance(item["content"], dict)
        assert isinstance(item["name"], str)
        assert isinstance(item.get("customWidth", "100"), str)
        if item["type"] == QUERY:
            assert isinstance(item["content"]["query"], str)
            assert item["content"]["queryType"] == 0
            assert item["content"]["timeContextFromParameter"] == "time"
            assert item["content"]["version"] == "KqlItem/1.0"


@pytest.mark.parametrize("name", list_queries(WORKBOOK))
def test_panel_columns_are_columns_of_query(name: str) -> None:
    content = next(item["content"] for item in ITEMS if item["name"] == name)
    run_id = run_query(read_query("runs"), load_recording(), NORMAL_MORNING)[0]["run_id"]
    query = read_query(name).replace("'{selected_run}'", f"'{run_id}'")
    rows = run_query(query, load_recording(), NORMAL_MORNING)
    chart, grid = content.get("chartSettings", {}), content.get("gridSettings", {})
    shown = {
        *chart.get("yAxis", []),
        *[chart[axis] for axis in ("xAxis", "group") if axis in chart],
        *[formatter["columnMatch"] for formatter in grid.get("formatters", [])],
        *([content["exportFieldName"]] if "exportFieldName" in content else []),
    }
    assert rows or name in ("errors", "throttling", "waits")
    columns = set(rows[0]) if rows else set(re.findall(r"(\w+) = ", read_query(name))) | {"code"}
    assert shown <= columns


# Document


def test_document_has_runbook_for_every_rule() -> None:
    headings = re.findall(r"^### ([a-z-]+)$", DOCUMENT, flags=re.MULTILINE)
    assert headings == [rule["name"] for rule in RULES]
    runbooks = DOCUMENT.partition("## Runbooks")[2].partition("## The workbook")[0]
    for runbook in re.split(r"^### [a-z-]+$", runbooks, flags=re.MULTILINE)[1:]:
        for label in ("**Meaning:**", "**Check first:**", "**Do:**", "**Do not:**"):
            assert runbook.count(label) == 1


def test_document_table_matches_rules() -> None:
    rows = re.findall(
        r"^\| \[`([\w-]+)`\]\(#[\w-]+\) \| [^|]+ \| (\d) \| (\w+) \| ([^|]+) \|$",
        DOCUMENT,
        flags=re.MULTILINE,
    )
    assert [(name, severity, frequency) for name, severity, frequency, _ in rows] == [
        (rule["name"], str(rule["severity"]), rule["frequency"]) for rule in RULES
    ]
    for name, _, _, thresholds in rows:
        parameters = {parameter for _, parameter in get_replacements(name).values()}
        assert set(re.findall(r"`(\w+)`", thresholds)) == {
            "datasets" if parameter == "datasetNames" else parameter for parameter in parameters
        }
