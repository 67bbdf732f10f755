"""Orchestrations are replayed: the same history must give the same decisions, on any machine, at any time."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "orchestrations").glob("*.py"))
PURE = {
    "azure.durable_functions",
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "itertools",
    "typing",
}
OURS = ("activities.", "orchestrations.", "shared.messages", "shared.errors")
BANNED = {
    "now",
    "utcnow",
    "today",
    "monotonic",
    "uuid4",
    "getenv",
    "environ",
    "open",
    "print",
    "input",
}


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "name the whole package"
            names.add(node.module)
    return names


def called(tree: ast.AST) -> set[str]:
    """`now` of datetime.now, `open` of open()."""
    nodes = list(ast.walk(tree))
    names = {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_clock_no_environment_no_chance_no_io(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    foreign = {
        name for name in imported(tree) if name not in PURE and not f"{name}.".startswith(OURS)
    }
    assert not foreign, "import of something that may look at the world: " + ", ".join(
        sorted(foreign)
    )
    assert not called(tree) & BANNED


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import datetime\nx = datetime.datetime.now()", {"now"}),
        ("import os\nx = os.environ['A']", {"environ"}),
        ("open('x')", {"open"}),
        ("x = context.current_utc_datetime", set()),
    ],
)
def test_the_check_finds_what_it_looks_for(text: str, found: set[str]) -> None:
    assert called(ast.parse(text)) & BANNED == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_orchestration_only_yields(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]
