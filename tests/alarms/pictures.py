"""The workbook's panels as pictures for docs/alarms.md: `python -m tests.alarms.pictures` draws docs/images/workbook-*.svg.

The portal's own charts look different; the figures are those that the panels' queries answer with over the recording.
"""

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.record_demo import FORMAT
from tests.alarms.engine import ROOT, Workspace, query
from tests.alarms.recording import recorded
from tests.alarms.workbook import workbook

IMAGES = ROOT / "docs" / "images"
WIDTH, BAR = 118, 72
COLOURS = ("green", "cyan", "yellow", "magenta", "blue", "red", "white")
BAD = {
    "failed": "red",
    "incomplete": "red",
    "timed_out": "red",
    "superseded": "bright_black",
    "unchanged": "cyan",
}
NEWEST = 8  # runs in the picture; the panel has 200
Rows = Sequence[dict[str, Any]]
PICTURES = {  # file -> its panels
    "workbook-runs": ("outcomes", "bytes"),
    "workbook-landed": ("landed",),
    "workbook-waits": ("waits", "throttling"),
    "workbook-errors": ("errors", "runs"),
}


def panels() -> dict[str, dict[str, Any]]:
    """Name -> what the workbook says of the panel."""
    return {item["name"]: item["content"] for item in workbook()["items"] if item["type"] == 3}


def colours(groups: Sequence[str]) -> dict[str, str]:
    free = [colour for colour in COLOURS if colour not in {BAD.get(group) for group in groups}]
    return {group: BAD.get(group) or free[place % len(free)] for place, group in enumerate(groups)}


def bars(rows: Rows, axis: str, measure: str, group: str) -> list[Text]:
    """One line a day, a stretch for each group; a stretch that is not nothing is seen."""
    paint = colours(sorted({row[group] for row in rows}))
    days: dict[datetime, list[tuple[str, float]]] = {}
    for row in rows:
        days.setdefault(row[axis], []).append((row[group], row[measure]))
    most = max(sum(value for _, value in values) for values in days.values())
    lines = [
        Text.assemble(
            *[part for group, colour in paint.items() for part in (("■ ", colour), f"{group}   ")]
        )
    ]
    for day, values in sorted(days.items()):
        stretches = [
            ("█" * max(1, round(BAR * value / most)), paint[group])
            for group, value in values
            if value
        ]
        lines.append(
            Text.assemble(
                f"{day:%d %b} ", *stretches, f" {sum(value for _, value in values):,.10g}"
            )
        )
    return lines


def grid(rows: Rows) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        table.add_column(
            name, justify="right" if isinstance(value, (int, float)) else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(shown(value) for value in row.values()))
    return table


def shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%d %b %H:%M}"
    return f"{value:,.10g}" if isinstance(value, (int, float)) else str(value)


def draw(picture: str, workspace: Workspace, now: datetime) -> str:
    paper = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for name in PICTURES[picture]:
        content, rows = panels()[name], workspace.run(query(name), now)
        paper.print(Text(content["title"], style="bold underline"))
        if name == "runs":
            rows = [
                {column: value for column, value in row.items() if column != "link"}
                for row in rows[:NEWEST]
            ]
        if content["visualization"] == "table":
            paper.print(grid(rows))
        else:
            chart = content["chartSettings"]
            for line in bars(rows, chart["xAxis"], chart["yAxis"][0], chart["group"]):
                paper.print(line, soft_wrap=True)
        paper.print()
    return (
        paper.export_svg(
            title="Partner billing exports: from recorded events",
            code_format=FORMAT,
            unique_id=picture,
        )
        + "\n"
    )


def drawn() -> dict[str, str]:
    """File name -> SVG. The same recording gives the same pictures."""
    traces = recorded()
    workspace = Workspace(traces)
    try:
        return {
            f"{name}.svg": draw(name, workspace, max(trace.at for trace in traces))
            for name in PICTURES
        }
    finally:
        workspace.close()


if __name__ == "__main__":
    for name, svg in drawn().items():
        (IMAGES / name).write_text(svg, encoding="utf-8")
        print(name)
