"""What crosses between triggers, orchestrations and activities: known names, small plain JSON, nothing secret."""

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
from tests.histories.record import FOLDER
from tests.support.app_environment import ENVIRONMENT, ROOT, load_function_app
from tests.support.hooked_environment import BEHAVIOUR, Call, open_hooked_environment, wrap_function
from tests.support.run_state import key_fields

CALLS = {
    "call_activity": "activityTrigger",
    "call_activity_with_retry": "activityTrigger",
    "call_sub_orchestrator": "orchestrationTrigger",
    "call_sub_orchestrator_with_retry": "orchestrationTrigger",
    "start_new": "orchestrationTrigger",
    "start": "orchestrationTrigger",
}
LARGEST_INPUT = 16 * 1024  # bytes of JSON
FREE_TO_BE_LARGE = {
    "plan_exports"
}  # its answer lists all that is due, and goes on to the lanes in parts
SHAPES = (dict, list, str, int, float, bool, type(None))


# -- names


def registered() -> dict[str, str]:
    """Name -> kind of trigger, of every function of the app."""
    app = load_function_app()
    app.functions_bindings = {}
    return {
        function.get_function_name(): str(function.get_trigger().type)
        for function in app.get_functions()
    }


def called() -> Iterator[tuple[str, str, str]]:
    """(file, method, name of what is called) of every call in orchestrations/ and triggers/; of a choice, each of its names."""
    for path in sorted(
        [*(ROOT / "orchestrations").glob("*.py"), *(ROOT / "triggers").glob("*.py")]
    ):
        if path.name == "starter.py":
            continue  # it hands on what its callers name
        tree = ast.parse(path.read_text(encoding="utf-8"))
        chosen = {
            node.targets[0].id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.IfExp)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (method := _method(node)) in CALLS:
                arguments = [argument for argument in node.args if not _is_client(argument)]
                for target in _targets(arguments[0], chosen):
                    yield path.name, method, target


def _method(node: ast.Call) -> str:
    return (
        node.func.attr
        if isinstance(node.func, ast.Attribute)
        else node.func.id
        if isinstance(node.func, ast.Name)
        else ""
    )


def _is_client(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "client"


def _targets(node: ast.expr, chosen: dict[str, ast.expr]) -> Iterator[str]:
    match node:
        case ast.IfExp(body=one, orelse=other):
            yield from _targets(one, chosen)
            yield from _targets(other, chosen)
        case ast.Name(id=name) if name in chosen:
            yield from _targets(chosen[name], chosen)
        case ast.Constant(value=str(name)) | ast.Name(id=name):
            yield name
        case _:
            raise AssertionError(f"what is called must be a name: {ast.dump(node)}")


def test_every_name_that_is_called_is_a_function_of_the_app() -> None:
    """The engine leaves an instance running for ever on an unknown one."""
    functions, calls = registered(), list(called())
    assert len(calls) >= 12
    for file, method, name in calls:
        assert functions.get(name, "").lower() == CALLS[method].lower(), f"{file}: {method}({name})"


def test_every_activity_and_orchestration_is_called_by_somebody() -> None:
    names = {name for _, _, name in called()}
    kinds = ("activitytrigger", "orchestrationtrigger")
    assert {name for name, kind in registered().items() if kind.lower() in kinds} <= names


# -- what crosses


def assert_plain(value: Any) -> None:
    assert isinstance(value, SHAPES), type(value)
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert is_secret_free(value), value


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.json")):
        for instance in json.loads(path.read_text(encoding="utf-8")):
            yield path.stem, instance


VALUES = ("Input", "Result", "Reason")


def test_all_that_recorded_histories_hold_is_small_plain_and_not_secret() -> None:
    seen = defaultdict[str, int](int)
    for name, instance in recorded():
        for event in instance["events"]:
            for member in VALUES:
                if event.get(member) is None:
                    continue
                text = str(event[member])
                assert is_secret_free(text), (name, instance["orchestrator"], text)
                seen[member] += 1
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
                if member == "Input":
                    assert len(text.encode()) <= LARGEST_INPUT, (name, instance["orchestrator"])
        assert isinstance(instance["custom_status"], dict) and instance["custom_status"]["stage"]
    assert seen["Input"] > 20 and seen["Result"] > 50


def test_every_custom_status_that_a_replay_sets_is_a_small_dict_with_a_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In every generation: continue_as_new clears it."""
    statuses: list[Any] = []
    keep = df.DurableOrchestrationContext.set_custom_status

    def watched(context: Any, status: Any) -> None:
        statuses.append(status)
        keep(context, status)

    monkeypatch.setattr(df.DurableOrchestrationContext, "set_custom_status", watched)
    for setting, value in ENVIRONMENT.items():  # what the app is indexed with
        monkeypatch.setenv(setting, value)
    for name, instance in recorded():
        statuses.clear()
        replay_history(load_function_app(), instance["orchestrator"], instance["events"])
        assert statuses, (name, instance["orchestrator"])
        for status in statuses:
            assert isinstance(status, dict) and isinstance(status["stage"], str) and status["stage"]
            assert_plain(status)
            assert len(json.dumps(status).encode("utf-16-le")) < 4_096


def test_what_activities_get_and_give_is_small_plain_and_not_secret(azurite: Azurite) -> None:
    """Of a cycle, of a run that copies many blobs with trouble, and of one that is refused."""
    crossings: list[tuple[str, str, Any]] = []

    def watch(name: str) -> Any:
        def wrap(call: Call) -> Call:
            async def watched(**arguments: Any) -> Any:
                (given,) = arguments.values()
                crossings.append((name, "input", json.loads(json.dumps(given))))
                result = await call(**arguments)
                crossings.append((name, "output", result))
                return result

            return watched

        return wrap

    names = [name for name, kind in registered().items() if kind.lower() == "activitytrigger"]
    with (
        open_hooked_environment(
            azurite, EXPORT_DATASETS="billed_reconciliation,unbilled_reconciliation"
        ) as env,
        ExitStack() as stack,
    ):
        for name in names:
            stack.enter_context(wrap_function(env, name, watch(name)))
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
    watched_names = {name for name, _, _ in crossings}
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
    } <= watched_names
    for name, direction, value in crossings:
        assert isinstance(value, dict), (name, direction)
        assert_plain(value)
        if not (name in FREE_TO_BE_LARGE and direction == "output"):
            assert len(json.dumps(value).encode()) <= LARGEST_INPUT, (name, direction)
    for instance_id, value in inputs.items():
        assert_plain(value)
        assert len(json.dumps(value).encode()) <= LARGEST_INPUT, instance_id


def test_no_output_is_a_date_that_the_host_would_rewrite() -> None:
    """.NET turns date-like texts into its own form, in UTC; ours end in Z, so they stay what they are."""
    for _, instance in recorded():
        for event in instance["events"]:
            if (
                isinstance(event.get("Result"), str)
                and event["EventType"] == EventType.TASK_COMPLETED
            ):
                for text in _texts(json.loads(event["Result"])):
                    assert not (
                        text[:4].isdigit() and "T" in text[10:11] and text[-6:-5] in "+-"
                    ), text


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str(text):
            yield text
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)


def test_the_recordings_are_small_enough_to_keep() -> None:
    assert sum(path.stat().st_size for path in Path(FOLDER).glob("*.json")) < 512 * 1024
