"""function_app.py contains no logic, and calls of the task hub have a time limit."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOGIC = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.If,
    ast.Try,
    ast.While,
    ast.With,
)


def test_function_app_contains_no_logic() -> None:
    tree = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8"))
    assert [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, LOGIC)] == []


def test_calls_of_the_task_hub_have_a_time_limit() -> None:
    """A call of the Durable Functions client is an argument of `call_task_hub`."""
    unlimited = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("activities", "triggers")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Await) and ast.unparse(node.value).startswith("client.")
    ]
    assert unlimited == []
