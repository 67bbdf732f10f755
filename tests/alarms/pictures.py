"""Draws the workbook panels for docs/alarms.md.

    python -m tests.alarms.pictures        writes docs/images/workbook-*.svg

The values are the query results for the recording. Charts in the Azure portal look different.
"""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.record_demo import FORMAT
from tests.alarms.kusto import ROOT, Workspace, read_query
from tests.alarms.recording import load_recording
from tests.alarms.workbook import build_workbook

IMAGES = ROOT / "docs" / "images"
WIDTH_COLUMNS, BAR_COLUMNS = 118, 72
COLOURS = ("green", "cyan", "yellow", "magenta", "blue", "red", "white")
OUTCOME_COLOURS = {
    "failed": "red",
    "incomplete": "red",
    "timed_out": "red",
    "superseded": "bright_black",
    "unchanged": "cyan",
}
MAX_RUNS = 8  # the panel in the portal shows 200
Rows = Sequence[dict[str, Any]]
PICTURES = {  # file name -> names of its panels
    "workbook-runs": ("outcomes", "bytes"),
    "workbook-landed": ("landed",),
    "workbook-waits": ("waits", "throttling"),
    "workbook-errors": ("errors", "runs"),
}


def get_panels() -> dict[str, dict[str, Any]]:
    """Return the content of each query panel in the workbook, by name."""
    return {
        item["name"]: item["content"] for item in build_workbook()["items"] if item["type"] == 3
    }


def assign_colours(groups: Sequence[str]) -> dict[str, str]:
    """Return a colour for each group; some outcomes have a fixed colour."""
    fixed = {OUTCOME_COLOURS.get(group) for group in groups}
    free = [colour for colour in COLOURS if colour not in fixed]
    return {
        group: OUTCOME_COLOURS.get(group) or free[index % len(free)]
        for index, group in enumerate(groups)
    }


def draw_bars(rows: Rows, axis: str, measure: str, group: str) -> list[Text]:
    """Return a legend and a stacked bar for each day; values above zero are always visible."""
    colours = assign_colours(sorted({row[group] for row in rows}))
    days: dict[datetime, list[tuple[str, float]]] = {}
    for row in rows:
        days.setdefault(row[axis], []).append((row[group], row[measure]))
    maximum = max(sum(value for _, value in values) for values in days.values())
    legend = [part for name, colour in colours.items() for part in (("■ ", colour), f"{name}   ")]
    lines = [Text.assemble(*legend)]
    for day, values in sorted(days.items()):
        segments = [
            ("█" * max(1, round(BAR_COLUMNS * value / maximum)), colours[name])
            for name, value in values
            if value
        ]
        total = sum(value for _, value in values)
        lines.append(Text.assemble(f"{day:%d %b} ", *segments, f" {total:,.10g}"))
    return lines


def draw_table(rows: Rows) -> Table:
    """Return a table whose columns are those of the first row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        table.add_column(
            name, justify="right" if isinstance(value, (int, float)) else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(format_value(value) for value in row.values()))
    return table


def format_value(value: Any) -> str:
    """Return the text of a table cell."""
    if isinstance(value, datetime):
        return f"{value:%d %b %H:%M}"
    return f"{value:,.10g}" if isinstance(value, (int, float)) else str(value)


def draw_picture(picture: str, workspace: Workspace, now: datetime) -> str:
    """Return a picture as SVG."""
    console = Console(
        record=True,
        width=WIDTH_COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    for name in PICTURES[picture]:
        content, rows = get_panels()[name], workspace.run(read_query(name), now)
        console.print(Text(content["title"], style="bold underline"))
        if name == "runs":
            rows = [
                {column: value for column, value in row.items() if column != "link"}
                for row in rows[:MAX_RUNS]
            ]
        if content["visualization"] == "table":
            console.print(draw_table(rows))
        else:
            chart = content["chartSettings"]
            for line in draw_bars(rows, chart["xAxis"], chart["yAxis"][0], chart["group"]):
                console.print(line, soft_wrap=True)
        console.print()
    svg = console.export_svg(
        title="Partner billing exports: recorded events", code_format=FORMAT, unique_id=picture
    )
    return f"{svg}\n"


def draw_pictures() -> dict[str, str]:
    """Return each picture as SVG, by file name; the result depends only on the recording."""
    traces = load_recording()
    workspace = Workspace(traces)
    now = max(trace.at for trace in traces)
    try:
        return {f"{name}.svg": draw_picture(name, workspace, now) for name in PICTURES}
    finally:
        workspace.close()


if __name__ == "__main__":
    for name, svg in draw_pictures().items():
        (IMAGES / name).write_text(svg, encoding="utf-8")
        print(name)
