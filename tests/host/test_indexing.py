"""What the host refuses at start, with one message that names the feature, and the settings it reads."""

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

from .conftest import ROOT


def refused(build: Callable[[df.DFApp], object], **options: object) -> str:
    app = df.DFApp()
    build(app)
    with pytest.raises(UnsupportedAppError) as found:
        LocalHost(app, **options).start()  # type: ignore[arg-type]
    return str(found.value)


def entity(app: df.DFApp) -> None:
    @app.entity_trigger(context_name="context")
    def counter(context: object) -> None: ...


def queue(app: df.DFApp) -> None:
    @app.queue_trigger(arg_name="message", queue_name="q", connection="c")
    def on_message(message: func.QueueMessage) -> None: ...


def blob_input(app: df.DFApp) -> None:
    @app.route(route="x")
    @app.blob_input(arg_name="blob", path="a/b", connection="c")
    def read(req: func.HttpRequest, blob: str) -> str:
        return blob


def retry_policy(app: df.DFApp) -> None:
    @app.timer_trigger(arg_name="tick", schedule="0 0 5 * * *")
    @app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:01")
    def nightly(tick: func.TimerRequest) -> None: ...


def bad_schedule(app: df.DFApp) -> None:
    @app.timer_trigger(arg_name="tick", schedule="0 0 25 * * *")
    def nightly(tick: func.TimerRequest) -> None: ...


def missing_setting(app: df.DFApp) -> None:
    @app.timer_trigger(arg_name="tick", schedule="%NO_SUCH_SETTING%")
    def nightly(tick: func.TimerRequest) -> None: ...


def unbound_parameter(app: df.DFApp) -> None:
    @app.route(route="x")
    def handler(req: func.HttpRequest, other: str) -> str:
        return other


def wrong_parameter(app: df.DFApp) -> None:
    @app.activity_trigger(input_name="order")
    def act(other: str) -> str:
        return other


def same_names(app: df.DFApp) -> None:
    @app.route(route="a")
    def Twin(req: func.HttpRequest) -> str:
        return ""

    @app.route(route="b")
    def twin(req: func.HttpRequest) -> str:
        return ""


def same_routes(app: df.DFApp) -> None:
    @app.route(route="runs/{a}")
    def one(req: func.HttpRequest) -> str:
        return ""

    @app.route(route="Runs/{b}", methods=["GET"])
    def two(req: func.HttpRequest) -> str:
        return ""


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            entity,
            "Function 'counter' uses durable entities, which the local host does not support.",
        ),
        (queue, "Function 'on_message' uses queue triggers"),
        (blob_input, "Function 'read' uses the binding blob"),
        (retry_policy, "Function 'nightly' has a retry policy"),
        (bad_schedule, "'0 0 25 * * *': 25 is not a valid hour: it must be from 0 to 23"),
        (missing_setting, "its schedule refers to the setting NO_SUCH_SETTING, which is not set"),
        (unbound_parameter, "Function 'handler' has parameters without a binding: other"),
        (wrong_parameter, "Function 'act' has parameters without a binding: other"),
        (same_names, "Two functions are named 'twin'"),
        (same_routes, "both answer GET /api/Runs/{b}"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_refused(build: Callable[[df.DFApp], object], text: str) -> None:
    assert text in refused(build)


def test_one_app_object_can_be_indexed_again_and_again() -> None:
    app = df.DFApp()

    @app.route(route="hello")
    def hello(req: func.HttpRequest) -> str:
        return "hello"

    for _ in range(2):
        with LocalHost(app) as host:
            assert host.request("GET", "/api/hello").text == "hello"
            with pytest.raises(HostError):
                _ = host.base_url  # no function uses the durable client: no port
    with LocalHost(app, host_json={"extensions": {"http": {"routePrefix": ""}}}) as host:
        assert host.request("GET", "/hello").text == "hello"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"extensions": {"durableTask": {"hubName": "%NO_HUB%"}}}, "NO_HUB, which is not set"),
        ({"extensions": {"durableTask": {"hubName": "a-b"}}}, "not valid"),
        ({"extensions": {"durableTask": {"maxConcurrentActivityFunctions": 0}}}, "at least 1"),
        ({"extensions": []}, None),
        ({"extensions": 5}, "must be an object"),
    ],
)
def test_host_json(content: dict[str, object], text: str | None) -> None:
    if text is None:
        assert read_host_json(content, {}).route_prefix == "api"
        return
    with pytest.raises(UnsupportedAppError, match=text):
        read_host_json(content, {})


def test_settings_live_as_long_as_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IN_BOTH", "environment")
    monkeypatch.delenv("IN_FILE", raising=False)
    (tmp_path / "local.settings.json").write_text(
        json.dumps({"Values": {"IN_BOTH": "file", "IN_FILE": "file", "WON": "file"}})
    )
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
    )
    path, module = list(sys.path), sys.modules.get("function_app")
    with LocalHost(tmp_path, settings={"WON": "argument"}):
        assert (os.environ["IN_BOTH"], os.environ["IN_FILE"], os.environ["WON"]) == (
            "environment",
            "file",
            "argument",
        )
    assert "IN_FILE" not in os.environ and "WON" not in os.environ and sys.path == path
    assert sys.modules.get("function_app") is module


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (None, "There is no function_app.py"),
        ("x = 1", "exactly one FunctionApp or DFApp"),
        ("import azure.functions as f\na = f.FunctionApp()\nb = f.FunctionApp()", "it holds 2"),
        (
            "import nonsense_module",
            "function_app.py:1: ModuleNotFoundError: No module named 'nonsense_module'",
        ),
        (
            "import azure.durable_functions as df\nimport azure.functions as f\napp = df.DFApp()\n"
            "@app.entity_trigger(context_name='c')\ndef counter(c): ...\n",
            "durable entities",
        ),
    ],
)
def test_command_prints_one_message(tmp_path: Path, source: str | None, text: str) -> None:
    if source is not None:
        (tmp_path / "function_app.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "local.host", "--app-root", str(tmp_path), "--port", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2 and done.stdout == ""
    messages = [line for line in done.stderr.splitlines() if line.startswith("local host: ")]
    assert len(messages) == 1 and text in messages[0]
    assert "Traceback" not in done.stderr


def test_a_return_annotation_that_azure_would_not_load() -> None:
    app = func.FunctionApp()

    @app.route()
    def silent(req: func.HttpRequest) -> None:
        return None

    with pytest.raises(UnsupportedAppError, match="'silent' says that it returns NoneType"):
        LocalHost(app).start()
