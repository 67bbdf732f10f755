"""Orchestrations are deterministic: a replay of the same history makes the same decisions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "orchestrations").glob("*.py"))
PURE_MODULES = {
    "azure.durable_functions",
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "itertools",
    "typing",
}
OWN_MODULES = ("activities.", "orchestrations.", "shared.messages", "shared.errors")
FORBIDDEN_NAMES = {
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


def imported_modules(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "use absolute imports"
            names.add(node.module)
    return names


def used_names(tree: ast.AST) -> set[str]:
    """Return the names of called functions and of attributes, such as `open` and `now`."""
    nodes = list(ast.walk(tree))
    names = {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_orchestration_uses_no_clock_environment_randomness_or_io(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    impure = {
        name
        for name in imported_modules(tree)
        if name not in PURE_MODULES and not f"{name}.".startswith(OWN_MODULES)
    }
    assert impure == set(), "imports of modules that may not be deterministic"
    assert used_names(tree) & FORBIDDEN_NAMES == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import datetime\nx = datetime.datetime.now()", {"now"}),
        ("import os\nx = os.environ['A']", {"environ"}),
        ("open('x')", {"open"}),
        ("x = context.current_utc_datetime", set()),
    ],
)
def test_used_names_forbidden_name_is_found(source: str, expected: set[str]) -> None:
    assert used_names(ast.parse(source)) & FORBIDDEN_NAMES == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_orchestration_is_a_generator_without_async(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    lines = [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]
    assert lines == []
