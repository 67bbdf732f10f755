"""Builds the workbook from its queries.

    python -m tests.alarms.workbook        writes infra/workbook/workbook.json

Format: https://github.com/microsoft/Application-Insights-Workbooks, schema/workbook.json.
"""

import json
from typing import Any

from tests.alarms.kusto import WORKBOOK, read_query

FILE = WORKBOOK / "workbook.json"
SCHEMA_URL = (
    "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json"
)
TEXT, QUERY, PARAMETERS = 1, 3, 9  # types of items
LOGS, WORKSPACE = 0, "microsoft.operationalinsights/workspaces"
INTRODUCTION = """## Partner billing exports

The panels show the events of the app without duplicates. Select a row of *Runs* to list all \
events of the run. `docs/alarms.md` describes the alerts, and `docs/errors.md` explains the error \
codes."""


def build_panel(
    name: str, title: str, visualization: str, width_percent: int = 100, **settings: Any
) -> dict[str, Any]:
    """Return a panel that shows the result of a query."""
    content = {
        "version": "KqlItem/1.0",
        "query": read_query(name),
        "size": 0,
        "title": title,
        "queryType": LOGS,
        "resourceType": WORKSPACE,
        "timeContextFromParameter": "time",
        "showExportToExcel": True,
        "visualization": visualization,
        **settings,
    }
    return {"type": QUERY, "content": content, "customWidth": str(width_percent), "name": name}


def build_chart(group: str, measure: str) -> dict[str, Any]:
    """Return the settings of a bar chart by day."""
    return {
        "chartSettings": {
            "xAxis": "day",
            "yAxis": [measure],
            "group": group,
            "createOtherGroup": None,
        }
    }


def build_grid(*formatters: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a table with a filter."""
    return {"gridSettings": {"formatters": list(formatters), "filter": True}}


BYTES_FORMAT = {
    "columnMatch": "bytes",
    "formatter": 0,
    "numberFormat": {"unit": 2, "options": {"style": "decimal"}},
}
LINK_FORMAT = {
    "columnMatch": "link",
    "formatter": 7,
    "formatOptions": {"linkTarget": "Url", "linkLabel": "API"},
}
DAY_MILLISECONDS = 86_400_000
TIME_RANGES_DAYS = (1, 2, 7, 14, 30, 90)


def build_workbook() -> dict[str, Any]:
    """Return the workbook."""
    time = {
        "version": "KqlParameterItem/1.0",
        "name": "time",
        "label": "Time range",
        "type": 4,
        "isRequired": True,
        "value": {"durationMs": 30 * DAY_MILLISECONDS},
        "typeSettings": {
            "selectableValues": [
                {"durationMs": days * DAY_MILLISECONDS} for days in TIME_RANGES_DAYS
            ]
        },
    }
    return {
        "version": "Notebook/1.0",
        "items": [
            {"type": TEXT, "content": {"json": INTRODUCTION}, "name": "introduction"},
            {
                "type": PARAMETERS,
                "name": "parameters",
                "content": {
                    "version": "KqlParameterItem/1.0",
                    "parameters": [time],
                    "style": "pills",
                    "queryType": LOGS,
                    "resourceType": WORKSPACE,
                },
            },
            build_panel(
                "outcomes", "Runs by outcome", "barchart", 50, **build_chart("outcome", "runs")
            ),
            build_panel("bytes", "Landed bytes", "barchart", 50, **build_chart("dataset", "bytes")),
            build_panel(
                "landed",
                "Landed data by month and dataset",
                "table",
                **build_grid(BYTES_FORMAT),
            ),
            build_panel(
                "waits",
                "Wait time required by Microsoft, in minutes",
                "barchart",
                50,
                **build_chart("dataset", "minutes"),
            ),
            build_panel(
                "throttling",
                "Throttled or failed requests to Microsoft Graph",
                "barchart",
                50,
                **build_chart("code", "waits"),
            ),
            build_panel("errors", "Errors and remedies", "table", **build_grid()),
            build_panel(
                "runs",
                "Runs",
                "table",
                **build_grid(BYTES_FORMAT, LINK_FORMAT),
                exportFieldName="run_id",
                exportParameterName="selected_run",
            ),
            build_panel("one-run", "Events of the selected run", "table", **build_grid()),
        ],
        "fallbackResourceIds": [],
        "$schema": SCHEMA_URL,
    }


def to_json() -> str:
    """Return the content of workbook.json."""
    return json.dumps(build_workbook(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(to_json(), encoding="utf-8")
    print(f"{FILE.name}: {len(build_workbook()['items'])} items")
