"""Individual modules of the host: history events, failure messages, SDK patches and versions."""

import doctest
import importlib
import json
import pkgutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import pytest

import local.host
from local.host import LocalHost, VirtualClock, history, sdk_patches
from local.host.digest import history_events
from local.host.failure_texts import activity_failure, sanitize

from .sample_host import START

MODULES = [
    module.name for module in pkgutil.iter_modules(local.host.__path__) if module.name != "__main__"
]


@pytest.mark.parametrize("name", MODULES)
def test_doctests_pass(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"local.host.{name}")).failed == 0


def test_local_host_does_not_import_the_app() -> None:
    for path in Path(str(local.host.__file__)).parent.glob("*.py"):
        for folder in ("shared", "activities", "orchestrations", "triggers"):
            assert (
                f"from {folder}" not in path.read_text()
                and f"import {folder}" not in path.read_text()
            )


def test_history_events_have_keys_of_original_engine() -> None:
    """The keys and their order are those of the golden traces."""
    timestamp = datetime(2026, 1, 2, 3, 4, 5, 600, UTC)
    common_keys = ["EventId", "IsPlayed", "Timestamp"]
    started = history.execution_started(
        timestamp, instance_id="i", execution_id="e", name="n", version="", input_json=None
    )
    assert list(started) == [
        "EventType",
        "OrchestrationInstance",
        "ParentInstance",
        "Name",
        "Version",
        "Input",
        "Tags",
        "Correlation",
        "ParentTraceContext",
        "ScheduledStartTime",
        "Generation",
        *common_keys,
    ]
    assert history.task_scheduled(timestamp, 3, "act") == {
        "EventType": 4,
        "Name": "act",
        "Version": "",
        "Input": None,
        "ParentTraceContext": None,
        "EventId": 3,
        "IsPlayed": False,
        "Timestamp": "2026-01-02T03:04:05.0006Z",
    }
    assert list(history.task_failed(timestamp, 1, "r", "d")) == [
        "EventType",
        "TaskScheduledId",
        "Reason",
        "Details",
        "FailureDetails",
        *common_keys,
    ]
    assert list(history.timer_fired(timestamp, 1, timestamp)) == [
        "EventType",
        "TimerId",
        "FireAt",
        *common_keys,
    ]
    assert list(history.event_raised(timestamp, "n", "1")) == [
        "EventType",
        "Name",
        "Input",
        "ParentTraceContext",
        *common_keys,
    ]
    assert (
        history.mark_played(started)["IsPlayed"]
        and not history.mark_played(history.orchestrator_started(timestamp))["IsPlayed"]
    )


def test_history_events_with_unfinished_work_lists_it() -> None:
    timestamp = datetime(2026, 1, 1, tzinfo=UTC)
    events = [
        history.orchestrator_started(timestamp),
        history.task_scheduled(timestamp, 0, "a"),
        history.task_scheduled(timestamp, 1, "b"),
        history.sub_orchestration_created(timestamp, 2, "c", "", "x"),
        history.task_completed(timestamp, 0, '{"n": 1}'),
        history.execution_suspended(timestamp, "why"),
        history.generic_event(timestamp, None),
    ]
    assert history_events(events, show_output=True) == [
        {
            "EventType": "TaskScheduled",
            "Name": "b",
            "Input": None,
            "ParentTraceContext": None,
            "Timestamp": "2026-01-01T00:00:00Z",
        },
        {
            "EventType": "SubOrchestrationInstanceCreated",
            "Name": "c",
            "InstanceId": "x",
            "Input": None,
            "ClientSpanId": None,
            "Timestamp": "2026-01-01T00:00:00Z",
        },
        {
            "EventType": "TaskCompleted",
            "Result": {"n": 1},
            "Timestamp": "2026-01-01T00:00:00Z",
            "ScheduledTime": "2026-01-01T00:00:00+00:00",
            "FunctionName": "a",
            "Input": None,
        },
        {"EventType": "ExecutionSuspended", "Reason": "why", "Timestamp": "2026-01-01T00:00:00Z"},
        {"EventType": "GenericEvent", "Data": None, "Timestamp": "2026-01-01T00:00:00Z"},
    ]


def test_activity_failure_text_matches_azure() -> None:
    try:
        raise ValueError("boom 1\nsecond line")
    except ValueError as error:
        reason, details = activity_failure("boom", error)
    assert reason == "Activity function 'boom' failed:  ValueError: boom 1\nsecond line"
    parsed = json.loads(details)
    assert parsed["Message"] == " ValueError: boom 1\nsecond line"
    assert "test_modules.py" in parsed["InnerException"]["RemoteStackTrace"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "cannot open https://host/x?code=abc123; then more",
            "cannot open https://host/x[Hidden Credential]",
        ),
        ("cannot reach https://user:pw@host:443/x", "cannot reach [Hidden Credential]/x"),
        ('a "PASSWORD=x" b', 'a "[Hidden Credential]" b'),
        ("PublicKeyToken=b77a5c561934e089, key", "PublicKeyToken=b77a5c561934e089, key"),
        ("nothing to hide", "nothing to hide"),
        ("?sig=a<b>&sig=c", "[Hidden Credential]<b>[Hidden Credential]"),
    ],
)
def test_sanitize_hides_credentials(text: str, expected: str) -> None:
    assert sanitize(text) == expected


def test_sdk_patch_parses_same_dates_as_sdk() -> None:
    sdk_patches.install()
    sdk_patches.install()
    patched = sys.modules["azure.durable_functions.models.history.HistoryEvent"].dt_parse
    original = patched.falls_back_to
    assert not hasattr(original, "falls_back_to")
    for text in (
        "2026-11-21T04:42:47.2845139Z",
        "2026-11-21T04:42:47.284Z",
        "2026-11-21T04:42:47Z",
        "2026-01-02T03:04:05+02:00",
        "2026-01-02T03:04:05.5",
        "Sat, 21 Nov 2026 04:44:40 GMT",
        "20261121T044247.000000Z",
    ):
        assert patched(text) == original(text), text


def create_versioned_app() -> df.DFApp:
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context")
    def two_events(context: Any) -> Any:
        yield context.wait_for_external_event("a")
        yield context.wait_for_external_event("b")
        return context.version

    return app


@pytest.mark.parametrize("failure", ["Reject", "Fail"])
def test_instance_of_newer_version_is_rejected_or_fails(tmp_path: Path, failure: str) -> None:
    app = create_versioned_app()

    def create_host(version: str) -> LocalHost:
        durable = {
            "defaultVersion": version,
            "versionMatchStrategy": "CurrentOrOlder",
            "versionFailureStrategy": failure,
        }
        return LocalHost(
            app,
            clock=VirtualClock(START),
            state_dir=tmp_path,
            host_json={"extensions": {"durableTask": durable}},
        )

    with create_host("2.0") as newer_host:
        newer_host.start_orchestration("two_events", instance_id="x")
        newer_host.raise_event("x", "a")
        newer_host.settle()
    with create_host("1.0") as older_host:
        older_host.raise_event("x", "b")
        older_host.settle()
        status = older_host.status("x")
        assert status is not None
        if failure == "Fail":
            assert status["runtimeStatus"] == "Failed" and "VersionMismatch" in status["output"]
            return
        assert status["runtimeStatus"] == "Running"
    with create_host("2.1") as newest_host:
        assert newest_host.wait("x")["output"] == "2.0"
