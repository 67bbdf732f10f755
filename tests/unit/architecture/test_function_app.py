"""The app as the host indexes it: in a process of its own, with the settings of the sample, and nothing started."""

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = (
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
functions = {each.get_function_name(): each.get_trigger().get_binding_name() for each in function_app.app.get_functions()}
print(json.dumps({"functions": functions, "loaded": loaded}))
"""


def sample() -> dict[str, str]:
    return dict(
        json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    )


def run(program: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], **sample(), **settings}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@cache
def indexed() -> dict[str, Any]:
    answer = run(INDEX)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return dict(json.loads(answer.stdout))


def calls() -> list[tuple[str, str, str]]:
    """(file, kind of trigger, name) of everything that an orchestration calls, by function or by text."""
    found = []
    for file in sorted((ROOT / "orchestrations").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in CALLS
            ):
                found += [
                    (file.name, CALLS[node.func.attr], name)
                    for name in names_of(node.args[0], tree)
                ]
    return found


def names_of(called: ast.expr, tree: ast.Module) -> list[str]:
    """What the first argument of a call can stand for: a text, an imported function, or a variable that holds one of several."""
    if isinstance(called, ast.Constant):
        return [str(called.value)]
    if isinstance(called, ast.IfExp):
        return [*names_of(called.body, tree), *names_of(called.orelse, tree)]
    assert isinstance(called, ast.Name), ast.unparse(called)
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == called.id
    ]
    return [name for value in values for name in names_of(value, tree)] or [called.id]


def test_something_is_called() -> None:
    assert {kind for _, kind, _ in calls()} == {"activityTrigger", "orchestrationTrigger"}


@pytest.mark.parametrize(("file", "kind", "name"), calls())
def test_everything_that_is_called_is_registered(file: str, kind: str, name: str) -> None:
    """An unknown name would leave the instance Running for ever."""
    assert indexed()["functions"].get(name) == kind


def test_every_activity_and_orchestration_is_called_or_started() -> None:
    """What nobody calls is dead, or a name was mistyped."""
    started = {"export_cycle", "export_run", "backfill", "retention"}
    known = {
        name
        for name, kind in indexed()["functions"].items()
        if kind in ("activityTrigger", "orchestrationTrigger")
    }
    assert known == {name for _, _, name in calls()} | started


@pytest.mark.parametrize("package", HEAVY)
def test_a_start_does_not_pay_for_what_it_may_not_need(package: str) -> None:
    assert not [name for name in indexed()["loaded"] if f"{name}.".startswith(f"{package}.")]


def test_wrong_settings_stop_the_app_and_no_secret_is_shown() -> None:
    answer = run(
        INDEX,
        LANDING_STORAGE="AccountKey=c2VjcmV0LXZhbHVl",
        EXPORT_PARALLELISM="none",
        COPY_MODE="teleport",
    )
    assert answer.returncode != 0
    assert all(
        name in answer.stderr for name in ("LANDING_STORAGE", "EXPORT_PARALLELISM", "COPY_MODE")
    )
    assert "c2VjcmV0" not in answer.stdout + answer.stderr


def test_function_app_is_a_table_of_contents() -> None:
    tree = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8"))
    logic = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.If,
        ast.Try,
        ast.While,
        ast.With,
    )
    assert not [node for node in ast.walk(tree) if isinstance(node, logic)]
