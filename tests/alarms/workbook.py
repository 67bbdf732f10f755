"""The workbook as JSON, put together from its queries: `python -m tests.alarms.workbook` writes infra/workbook/workbook.json.

The portal's format: https://github.com/microsoft/Application-Insights-Workbooks, schema/workbook.json.
"""

import json
from typing import Any

from tests.alarms.engine import WORKBOOK, query

FILE = WORKBOOK / "workbook.json"
TEXT, QUERY, PARAMETERS = 1, 3, 9  # kinds of items
LOGS, WORKSPACE = 0, "microsoft.operationalinsights/workspaces"
INTRODUCTION = """## Partner billing exports

What the app itself says, an event each, repeats left out. Choose a row of *Runs* to see all that the run said. What an alarm \
means and what to do about it: `docs/alarms.md`; what a code means: `docs/errors.md`."""


def panel(name: str, title: str, look: str, width: int = 100, **more: Any) -> dict[str, Any]:
    content = {
        "version": "KqlItem/1.0",
        "query": query(name),
        "size": 0,
        "title": title,
        "queryType": LOGS,
        "resourceType": WORKSPACE,
        "timeContextFromParameter": "time",
        "showExportToExcel": True,
        "visualization": look,
        **more,
    }
    return {"type": QUERY, "content": content, "customWidth": str(width), "name": name}


def bars(group: str, measure: str) -> dict[str, Any]:
    return {
        "chartSettings": {
            "xAxis": "day",
            "yAxis": [measure],
            "group": group,
            "createOtherGroup": None,
        }
    }


def grid(*formatters: dict[str, Any]) -> dict[str, Any]:
    return {"gridSettings": {"formatters": list(formatters), "filter": True}}


BYTES = {
    "columnMatch": "bytes",
    "formatter": 0,
    "numberFormat": {"unit": 2, "options": {"style": "decimal"}},
}
LINK = {
    "columnMatch": "link",
    "formatter": 7,
    "formatOptions": {"linkTarget": "Url", "linkLabel": "API"},
}
RANGES = [86_400_000, 172_800_000, 604_800_000, 1_209_600_000, 2_592_000_000, 7_776_000_000]  # ms


def workbook() -> dict[str, Any]:
    time = {
        "version": "KqlParameterItem/1.0",
        "name": "time",
        "label": "Time range",
        "type": 4,
        "isRequired": True,
        "value": {"durationMs": 2_592_000_000},
        "typeSettings": {"selectableValues": [{"durationMs": one} for one in RANGES]},
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
            panel("outcomes", "Runs by outcome", "barchart", 50, **bars("outcome", "runs")),
            panel("bytes", "Bytes landed", "barchart", 50, **bars("dataset", "bytes")),
            panel("landed", "What is landed, by month and dataset", "table", 100, **grid(BYTES)),
            panel(
                "waits",
                "Minutes that Microsoft asked to wait",
                "barchart",
                50,
                **bars("dataset", "minutes"),
            ),
            panel(
                "throttling",
                "Throttled, or Microsoft not there",
                "barchart",
                50,
                **bars("code", "times"),
            ),
            panel("errors", "Errors, and what to do about them", "table", 100, **grid()),
            panel(
                "runs",
                "Runs",
                "table",
                100,
                **grid(BYTES, LINK),
                exportFieldName="run_id",
                exportParameterName="chosen",
            ),
            panel("one-run", "All that the chosen run said", "table", 100, **grid()),
        ],
        "fallbackResourceIds": [],
        "$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
    }


def text() -> str:
    return json.dumps(workbook(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE.name}: {len(workbook()['items'])} items")
