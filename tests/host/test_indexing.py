"""Indexing of an app: unsupported features, host.json and application settings."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func
import pytest

from local.host import HostError, LocalHost, UnsupportedAppError
from local.host.settings import read_host_json

from .sample_host import ROOT


def get_rejection_message(build: Callable[[df.DFApp], object], **options: object) -> str:
    app = df.DFApp()
    build(app)
    with pytest.raises(UnsupportedAppError) as error_info:
        LocalHost(app, **options).start()  # type: ignore[arg-type]
    return str(error_info.value)


def with_entity(app: df.DFApp) -> None:
    @app.entity_trigger(context_name="context")
    def counter(context: object) -> None: ...


def with_queue_trigger(app: df.DFApp) -> None:
    @app.queue_trigger(arg_name="message", queue_name="q", connection="c")
    def on_message(message: func.QueueMessage) -> None: ...


def with_blob_input(app: df.DFApp) -> None:
    @app.route(route="x")
    @app.blob_input(arg_name="blob", path="a/b", connection="c")
    def read(req: func.HttpRequest, blob: str) -> str:
        return blob


def with_retry_policy(app: df.DFApp) -> None:
    @app.timer_trigger(arg_name="tick", schedule="0 0 5 * * *")
    @app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:01")
    def nightly(tick: func.TimerRequest) -> None: ...


def with_invalid_schedule(app: df.DFApp) -> None:
    @app.timer_trigger(arg_name="tick", schedule="0 0 25 * * *")
    def nightly(tick: func.TimerRequest) -> None: ...


def with_missing_setting(app: df.DFApp) -> None:
    @app.timer_trigger(arg_name="tick", schedule="%NO_SUCH_SETTING%")
    def nightly(tick: func.TimerRequest) -> None: ...


def with_unbound_parameter(app: df.DFApp) -> None:
    @app.route(route="x")
    def handler(req: func.HttpRequest, other: str) -> str:
        return other


def with_wrong_parameter(app: df.DFApp) -> None:
    @app.activity_trigger(input_name="order")
    def act(other: str) -> str:
        return other


def with_duplicate_names(app: df.DFApp) -> None:
    @app.route(route="a")
    def Handler(req: func.HttpRequest) -> str:  # noqa: N802  # differs from the other only in case
        return ""

    @app.route(route="b")
    def handler(req: func.HttpRequest) -> str:
        return ""


def with_duplicate_routes(app: df.DFApp) -> None:
    @app.route(route="runs/{a}")
    def first(req: func.HttpRequest) -> str:
        return ""

    @app.route(route="Runs/{b}", methods=["GET"])
    def second(req: func.HttpRequest) -> str:
        return ""


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            with_entity,
            "Function 'counter' uses durable entities, which the local host does not support.",
        ),
        (with_queue_trigger, "Function 'on_message' uses queue triggers"),
        (with_blob_input, "Function 'read' uses the binding blob"),
        (with_retry_policy, "Function 'nightly' has a retry policy"),
        (with_invalid_schedule, "'0 0 25 * * *': 25 is not a valid hour: it must be from 0 to 23"),
        (
            with_missing_setting,
            "The schedule of function 'nightly' refers to the setting NO_SUCH_SETTING, "
            "which is not set",
        ),
        (with_unbound_parameter, "Function 'handler' has parameters without a binding: other"),
        (with_wrong_parameter, "Function 'act' has parameters without a binding: other"),
        (with_duplicate_names, "Two functions are named 'handler'"),
        (with_duplicate_routes, "both handle GET /api/Runs/{b}"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_app_with_unsupported_feature_is_rejected(
    build: Callable[[df.DFApp], object], text: str
) -> None:
    assert text in get_rejection_message(build)


def test_app_object_can_be_indexed_repeatedly() -> None:
    app = df.DFApp()

    @app.route(route="hello")
    def hello(req: func.HttpRequest) -> str:
        return "hello"

    for _ in range(2):
        with LocalHost(app) as host:
            assert host.request("GET", "/api/hello").text == "hello"
            with pytest.raises(HostError):
                _ = host.base_url  # the host opens no port without a durable client
    with LocalHost(app, host_json={"extensions": {"http": {"routePrefix": ""}}}) as host:
        assert host.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"extensions": {"durableTask": {"hubName": "%NO_HUB%"}}}, "NO_HUB, which is not set"),
        ({"extensions": {"durableTask": {"hubName": "a-b"}}}, "not valid"),
        (
            {"extensions": {"durableTask": {"maxConcurrentActivityFunctions": 0}}},
            "a positive integer",
        ),
        ({"extensions": []}, None),
        ({"extensions": 5}, "must be an object"),
    ],
)
def test_read_host_json_validates_settings(content: dict[str, object], text: str | None) -> None:
    if text is None:
        assert read_host_json(content, {}).route_prefix == "api"
        return
    with pytest.raises(UnsupportedAppError, match=text):
        read_host_json(content, {})


def test_settings_apply_only_while_host_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IN_BOTH", "environment")
    monkeypatch.delenv("IN_FILE", raising=False)
    (tmp_path / "local.settings.json").write_text(
        json.dumps({"Values": {"IN_BOTH": "file", "IN_FILE": "file", "OVERRIDDEN": "file"}})
    )
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
    )
    original_path, original_module = list(sys.path), sys.modules.get("function_app")
    with LocalHost(tmp_path, settings={"OVERRIDDEN": "argument"}):
        assert (os.environ["IN_BOTH"], os.environ["IN_FILE"], os.environ["OVERRIDDEN"]) == (
            "environment",
            "file",
            "argument",
        )
    assert (
        "IN_FILE" not in os.environ and "OVERRIDDEN" not in os.environ and sys.path == original_path
    )
    assert sys.modules.get("function_app") is original_module


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (None, "There is no function_app.py"),
        ("x = 1", "exactly one FunctionApp or DFApp"),
        ("import azure.functions as f\na = f.FunctionApp()\nb = f.FunctionApp()", "it defines 2"),
        (
            "import unknown_module",
            "function_app.py:1: ModuleNotFoundError: No module named 'unknown_module'",
        ),
        (
            "import azure.durable_functions as df\nimport azure.functions as f\napp = df.DFApp()\n"
            "@app.entity_trigger(context_name='c')\ndef counter(c): ...\n",
            "durable entities",
        ),
    ],
)
def test_command_with_invalid_app_prints_one_message(
    tmp_path: Path, source: str | None, text: str
) -> None:
    if source is not None:
        (tmp_path / "function_app.py").write_text(source)
    process = subprocess.run(
        [sys.executable, "-m", "local.host", "--app-root", str(tmp_path), "--port", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert process.returncode == 2 and process.stdout == ""
    messages = [line for line in process.stderr.splitlines() if line.startswith("local host: ")]
    assert len(messages) == 1 and text in messages[0]
    assert "Traceback" not in process.stderr


def test_http_function_with_none_return_annotation_is_rejected() -> None:
    app = func.FunctionApp()

    @app.route()
    def silent(req: func.HttpRequest) -> None:
        return None

    with pytest.raises(UnsupportedAppError, match="'silent' has the return annotation NoneType"):
        LocalHost(app).start()
