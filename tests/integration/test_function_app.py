"""The functions that function_app.py registers, indexed in a separate process.

The process uses the settings of local.settings.sample.json; it starts no function.
"""

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW_IMPORTS = (
    "msgraph",
    "kiota_http",
    "azure.storage.blob",
    "azure.data.tables",
    "azure.identity",
    "isal",
)
CALLS = {
    "call_activity": "activityTrigger",
    "call_activity_with_retry": "activityTrigger",
    "call_sub_orchestrator": "orchestrationTrigger",
    "call_sub_orchestrator_with_retry": "orchestrationTrigger",
}
INDEX = """
import json, sys
import function_app
loaded = sorted(sys.modules)
functions = {
    function.get_function_name(): function.get_trigger().get_binding_name()
    for function in function_app.app.get_functions()
}
print(json.dumps({"functions": functions, "loaded": loaded}))
"""


def sample_settings() -> dict[str, str]:
    return dict(
        json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    )


def run_python(program: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], **sample_settings(), **settings}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@cache
def index_app() -> dict[str, Any]:
    """Return the registered functions with their triggers, and the modules that were loaded."""
    process = run_python(INDEX)
    assert process.returncode == 0, process.stderr[-2000:]
    return dict(json.loads(process.stdout))


def called_functions() -> list[tuple[str, str, str]]:
    """Return the file, kind of trigger and name of every function that orchestrations call."""
    calls = []
    for file in sorted((ROOT / "orchestrations").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in CALLS
            ):
                calls += [
                    (file.name, CALLS[node.func.attr], name)
                    for name in possible_names(node.args[0], tree)
                ]
    return calls


def possible_names(called: ast.expr, tree: ast.Module) -> list[str]:
    """Return the names that the first argument of a call can have.

    The argument is a string, a function, or a variable with one of several functions.
    """
    if isinstance(called, ast.Constant):
        return [str(called.value)]
    if isinstance(called, ast.IfExp):
        return [*possible_names(called.body, tree), *possible_names(called.orelse, tree)]
    assert isinstance(called, ast.Name), ast.unparse(called)
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == called.id
    ]
    return [name for value in values for name in possible_names(value, tree)] or [called.id]


def test_called_functions_contain_activities_and_orchestrations() -> None:
    assert {kind for _, kind, _ in called_functions()} == {
        "activityTrigger",
        "orchestrationTrigger",
    }


@pytest.mark.parametrize(("file", "kind", "name"), called_functions())
def test_called_function_is_registered(file: str, kind: str, name: str) -> None:
    """With an unknown name, the instance would keep the status Running forever."""
    assert index_app()["functions"].get(name) == kind


def test_registered_function_is_called_or_started() -> None:
    started = {"export_cycle", "export_run", "backfill", "retention"}
    registered = {
        name
        for name, kind in index_app()["functions"].items()
        if kind in ("activityTrigger", "orchestrationTrigger")
    }
    assert registered == {name for _, _, name in called_functions()} | started


@pytest.mark.parametrize("package", SLOW_IMPORTS)
def test_indexing_does_not_import_slow_package(package: str) -> None:
    loaded = [name for name in index_app()["loaded"] if f"{name}.".startswith(f"{package}.")]
    assert loaded == []


def test_indexing_invalid_settings_fails_without_showing_secret() -> None:
    process = run_python(
        INDEX,
        LANDING_STORAGE="AccountKey=c2VjcmV0LXZhbHVl",
        EXPORT_PARALLELISM="none",
        COPY_MODE="teleport",
    )
    assert process.returncode != 0
    assert all(
        name in process.stderr for name in ("LANDING_STORAGE", "EXPORT_PARALLELISM", "COPY_MODE")
    )
    assert "c2VjcmV0" not in process.stdout + process.stderr
