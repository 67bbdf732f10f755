"""function_app.py registers functions and contains no logic."""

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
