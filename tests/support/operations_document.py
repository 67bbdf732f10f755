"""Parts of docs/operations.md, and the events that the code emits."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return next(
        part for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE) if part.startswith(title)
    )


def documented_events() -> dict[str, set[str]]:
    """Return the fields of each event in the document."""
    events = {}
    for names, facts in re.findall(
        r"^\| (`[^|]+`) \| [^|]+ \| ([^|]+) \|$", section("Events"), flags=re.MULTILINE
    ):
        for name in re.findall(r"`(\w+)`", names):
            events[name] = set(re.findall(r"`(\w+)`", facts))
    return events


def emitted_events() -> dict[str, set[str]]:
    """Return the fields of each event in the code."""
    events: dict[str, set[str]] = {}
    for folder in ("activities", "orchestrations", "shared", "triggers"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "emit_event"
                ):
                    fields = events.setdefault(ast.literal_eval(node.args[0]), set())
                    fields.update(word.arg for word in node.keywords if word.arg)
    return events
