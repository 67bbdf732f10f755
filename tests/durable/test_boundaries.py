"""Calls and messages between triggers, orchestrations and activities.

Each call refers to a registered function. Messages are small, plain JSON without secrets.
"""

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

from local.azurite import Azurite
from local.host.history import EventType
from local.host.replay import replay_history
from local.simulator.faults import FaultResponse, Match
from shared.redaction import is_secret_free
from tests.support.app_environment import ENVIRONMENT, ROOT, load_function_app
from tests.support.histories import FOLDER
from tests.support.hooked_environment import BEHAVIOUR, Call, open_hooked_environment, wrap_function
from tests.support.run_state import key_fields

CALLS = {
    "call_activity": "activityTrigger",
    "call_activity_with_retry": "activityTrigger",
    "call_sub_orchestrator": "orchestrationTrigger",
    "call_sub_orchestrator_with_retry": "orchestrationTrigger",
    "start_new": "orchestrationTrigger",
    "start_orchestration": "orchestrationTrigger",
    # These functions in orchestrations/lanes.py call the functions that their callers specify.
    "plan_runs": "activityTrigger",
    "run_lanes": "orchestrationTrigger",
}
MAX_INPUT_BYTES = 16 * 1024  # of JSON
# The result of plan_exports lists all planned runs; each lane receives only its own.
UNLIMITED_RESULTS = {"plan_exports"}
JSON_TYPES = (dict, list, str, int, float, bool, type(None))


def registered_functions() -> dict[str, str]:
    """Return the trigger type of each function of the app, by name."""
    app = load_function_app()
    app.functions_bindings = {}
    return {
        function.get_function_name(): str(function.get_trigger().type)
        for function in app.get_functions()
    }


def list_calls() -> Iterator[tuple[str, str, str]]:
    """Yield the file, method and function name of each call in orchestrations/ and triggers/.

    A call whose function depends on a condition or a loop yields each of the names.
    """
    for path in sorted(
        [*(ROOT / "orchestrations").glob("*.py"), *(ROOT / "triggers").glob("*.py")]
    ):
        if path.name in ("starter.py", "lanes.py"):
            continue  # The callers of these modules specify the functions.
        tree = ast.parse(path.read_text(encoding="utf-8"))
        choices = _list_choices(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (method := _method(node)) in CALLS:
                arguments = [
                    argument for argument in node.args if not _is_durable_context(argument)
                ]
                for target in _targets(arguments[0], choices):
                    yield path.name, method, target


def _list_choices(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """Return the possible values of the variables that a condition or a loop over a dict sets."""
    choices: dict[str, list[ast.expr]] = {}
    dictionaries: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.IfExp() as value):
                choices[name] = [value.body, value.orelse]
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(values=values)):
                dictionaries[name] = values
    for node in ast.walk(tree):
        match node:
            case ast.For(
                target=ast.Tuple(elts=[_, ast.Name(id=name)]),
                iter=ast.Call(func=ast.Attribute(value=ast.Name(id=dictionary), attr="items")),
            ) if dictionary in dictionaries:
                choices[name] = dictionaries[dictionary]
    return choices


def _method(node: ast.Call) -> str:
    return (
        node.func.attr
        if isinstance(node.func, ast.Attribute)
        else node.func.id
        if isinstance(node.func, ast.Name)
        else ""
    )


def _is_durable_context(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("client", "context")


def _targets(node: ast.expr, choices: dict[str, list[ast.expr]]) -> Iterator[str]:
    match node:
        case ast.IfExp(body=body, orelse=alternative):
            yield from _targets(body, choices)
            yield from _targets(alternative, choices)
        case ast.Name(id=name) if name in choices:
            for value in choices[name]:
                yield from _targets(value, choices)
        case ast.Constant(value=str(name)) | ast.Name(id=name):
            yield name
        case _:
            raise AssertionError(f"A call must name a function: {ast.dump(node)}")


def test_calls_name_registered_functions() -> None:
    """An instance that calls an unknown function runs forever."""
    functions, calls = registered_functions(), list(list_calls())
    assert len(calls) >= 12
    for file, method, name in calls:
        assert functions.get(name, "").lower() == CALLS[method].lower(), f"{file}: {method}({name})"


def test_activities_and_orchestrations_are_all_called() -> None:
    names = {name for _, _, name in list_calls()}
    kinds = ("activitytrigger", "orchestrationtrigger")
    assert {name for name, kind in registered_functions().items() if kind.lower() in kinds} <= names


def assert_plain(value: Any) -> None:
    assert isinstance(value, JSON_TYPES), type(value)
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert is_secret_free(value), value


def recorded_instances() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.json")):
        for instance in json.loads(path.read_text(encoding="utf-8")):
            yield path.stem, instance


MESSAGE_FIELDS = ("Input", "Result", "Reason")


def test_recorded_histories_contain_only_small_plain_and_secret_free_values() -> None:
    counts = defaultdict[str, int](int)
    for name, instance in recorded_instances():
        for event in instance["events"]:
            for field in MESSAGE_FIELDS:
                if event.get(field) is None:
                    continue
                text = str(event[field])
                assert is_secret_free(text), (name, instance["orchestrator"], text)
                counts[field] += 1
                if event["EventType"] in (
                    EventType.TASK_FAILED,
                    EventType.SUB_ORCHESTRATION_FAILED,
                ):
                    continue
                if (
                    event["EventType"] == EventType.EXECUTION_COMPLETED
                    and instance["status"] == "Failed"
                ):
                    continue
                value = json.loads(text)
                assert_plain(json.loads(value) if isinstance(value, str) else value)
                if field == "Input":
                    assert len(text.encode()) <= MAX_INPUT_BYTES, (name, instance["orchestrator"])
        assert isinstance(instance["custom_status"], dict) and instance["custom_status"]["stage"]
    assert counts["Input"] > 20 and counts["Result"] > 50


def test_replay_custom_status_is_a_small_dictionary_with_a_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every execution must set it, because continue_as_new clears it."""
    statuses: list[Any] = []
    set_custom_status = df.DurableOrchestrationContext.set_custom_status

    def recording_set_custom_status(context: Any, status: Any) -> None:
        statuses.append(status)
        set_custom_status(context, status)

    monkeypatch.setattr(
        df.DurableOrchestrationContext, "set_custom_status", recording_set_custom_status
    )
    for setting, value in ENVIRONMENT.items():
        monkeypatch.setenv(setting, value)
    for name, instance in recorded_instances():
        statuses.clear()
        replay_history(load_function_app(), instance["orchestrator"], instance["events"])
        assert statuses, (name, instance["orchestrator"])
        for status in statuses:
            assert isinstance(status, dict) and isinstance(status["stage"], str) and status["stage"]
            assert_plain(status)
            assert len(json.dumps(status).encode("utf-16-le")) < 4_096


def test_activity_inputs_and_outputs_are_small_plain_and_secret_free(azurite: Azurite) -> None:
    """The test covers a cycle, a run that copies many blobs with errors, and a run that fails."""
    messages: list[tuple[str, str, Any]] = []

    def record_messages(name: str) -> Any:
        def wrap(call: Call) -> Call:
            async def recorded(**arguments: Any) -> Any:
                (request,) = (
                    value for parameter, value in arguments.items() if parameter != "client"
                )
                messages.append((name, "input", json.loads(json.dumps(request))))
                result = await call(**arguments)
                messages.append((name, "output", result))
                return result

            return recorded

        return wrap

    names = [
        name for name, kind in registered_functions().items() if kind.lower() == "activitytrigger"
    ]
    with (
        open_hooked_environment(
            azurite, EXPORT_DATASETS="billed_reconciliation,unbilled_reconciliation"
        ) as env,
        ExitStack() as stack,
    ):
        for name in names:
            stack.enter_context(wrap_function(env, name, record_messages(name)))
        cycle_id = env.post("/api/cycles")["cycle_id"]
        env.host.wait(cycle_id, 60)
        key = "unbilled_usage/2026-10/USD/full"
        env.simulator.fill(key, blobs=30, blob_bytes=64)
        env.simulator.faults.add(
            Match(operation="blob", method="GET", every=7), FaultResponse(status=403)
        )
        assert env.land(**key_fields(key))["outcome"] == "landed"
        env.simulator.faults.clear()
        env.simulator.behaviour = replace(BEHAVIOUR, hostile_manifest="user_info")
        assert env.land(**key_fields(key))["outcome"] == "failed"
        inputs = {instance["instanceId"]: instance["input"] for instance in env.host.instances()}
    recorded_names = {name for name, _, _ in messages}
    assert {
        "plan_exports",
        "claim_run",
        "start_export",
        "check_operation",
        "plan_copy",
        "read_page",
        "copy_blobs",
        "commit_version",
        "record_outcome",
        "summarize_cycle",
    } <= recorded_names
    for name, direction, value in messages:
        assert isinstance(value, dict), (name, direction)
        assert_plain(value)
        if not (name in UNLIMITED_RESULTS and direction == "output"):
            assert len(json.dumps(value).encode()) <= MAX_INPUT_BYTES, (name, direction)
    for instance_id, value in inputs.items():
        assert_plain(value)
        assert len(json.dumps(value).encode()) <= MAX_INPUT_BYTES, instance_id


def test_activity_outputs_contain_no_date_that_the_host_rewrites() -> None:
    """.NET rewrites strings that look like dates with an offset, but not dates that end in Z."""
    for _, instance in recorded_instances():
        for event in instance["events"]:
            if (
                isinstance(event.get("Result"), str)
                and event["EventType"] == EventType.TASK_COMPLETED
            ):
                for text in _strings(json.loads(event["Result"])):
                    assert not (
                        text[:4].isdigit() and "T" in text[10:11] and text[-6:-5] in "+-"
                    ), text


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str(text):
            yield text
        case dict():
            for item in value.values():
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)


def test_recordings_total_size_is_below_the_limit() -> None:
    assert sum(path.stat().st_size for path in Path(FOLDER).glob("*.json")) < 512 * 1024
