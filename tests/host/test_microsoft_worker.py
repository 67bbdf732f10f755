"""Microsoft's worker code loads both apps and returns the same results as the local host."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.app_environment import ENVIRONMENT

from .sample_host import ROOT, SAMPLE_APP, SETTINGS

WORKER_PACKAGES = ROOT / ".state" / "worker"
TIMESTAMP = "2026-01-02T03:04:05.678Z"


@pytest.fixture(scope="module")
def worker_packages() -> Path:
    """Return the folder with the worker's packages, which `make setup` installs.

    The fixture installs them if the tests run without `make`.
    """
    if not (WORKER_PACKAGES / ".installed").exists():
        subprocess.run(
            ["make", "-s", "-o", ".venv/.installed", ".state/worker/.installed"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    return WORKER_PACKAGES


def create_first_episode(name: str, content: Any) -> str:
    """Return the input for the first episode of an orchestration."""
    started = {
        "EventType": 0,
        "Name": name,
        "Version": "",
        "Input": json.dumps(json.dumps(content)),
        "EventId": -1,
        "IsPlayed": False,
        "Timestamp": TIMESTAMP,
    }
    return json.dumps(
        {
            "history": [
                {"EventType": 12, "EventId": -1, "IsPlayed": False, "Timestamp": TIMESTAMP},
                started,
            ],
            "input": json.dumps(content),
            "instanceId": "x",
            "isReplaying": False,
            "parentInstanceId": None,
            "upperSchemaVersion": 1,
            "upperSchemaVersionNew": 2,
            "longRunningTimerIntervalDuration": "3.00:00:00",
            "maximumShortTimerDuration": "6.00:00:00",
            "defaultHttpAsyncRequestSleepTimeMillseconds": 30000,
        }
    )


def create_http_call(method: str, path: str, body: str = "", **parameters: str) -> dict[str, Any]:
    return {
        "method": method,
        "path": path,
        "headers": [["x-test", "yes"]],
        "body": body,
        "parameters": parameters,
    }


def run_in_both(
    app: Path, worker_packages: Path, calls: list[dict[str, Any]], settings: dict[str, str]
) -> list[dict[str, Any]]:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.host.microsoft_worker", str(app)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        input="".join(json.dumps(call) + "\n" for call in calls),
        timeout=120,
        env=os.environ
        | settings
        | {"PYTHONPATH": os.pathsep.join([str(worker_packages), str(ROOT)])},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert len(lines) == len(calls) + 1
    return lines


def test_sample_app_in_microsoft_worker_returns_same_results(worker_packages: Path) -> None:
    calls: list[dict[str, Any]] = [
        {"function": "inc", "input": "4"},
        {"function": "inc_async", "input": "4"},
        {
            "function": "echo",
            "input": '{"when": "2026-01-02T03:04:05Z", "f": 1.0, "text": "\\u00fc"}',
        },
        {"function": "echo", "input": "null"},
        {"function": "bad_result", "input": "1"},
        {"function": "inc", "input": '"text"'},
        {"function": "flaky", "input": '{"key": "k", "fail": 1000}'},
        {"function": "chain", "input": create_first_episode("chain", 5)},
        {"function": "plain_return", "input": create_first_episode("plain_return", None)},
        {"function": "raises", "input": create_first_episode("raises", None)},
        {"function": "chain", "input": "not JSON"},
        {
            "function": "reflect",
            "http": create_http_call("PUT", "/api/reflect/5/a?q=1", "body", n="5", rest="a"),
        },
        {"function": "fixed", "http": create_http_call("GET", "/api/reflect/fixed/text")},
        {"function": "nothing", "http": create_http_call("GET", "/api/nothing")},
        {"function": "broken", "http": create_http_call("GET", "/api/broken")},
    ]
    function_names, *results = run_in_both(SAMPLE_APP, worker_packages, calls, SETTINGS)
    assert function_names["local_host"] == function_names["microsoft"]
    for call, result in zip(calls, results, strict=True):
        if "key" not in str(call):  # `flaky` counts its calls, so its message differs
            assert result["local_host"] == result["microsoft"], result
    kinds = [next(iter(result["microsoft"])) for result in results]
    assert kinds == [
        *["result"] * 4,
        *["error"] * 3,
        *["result"] * 3,
        "error",
        "status",
        "status",
        "error",
        "error",
    ]


def test_billing_export_app_in_microsoft_worker_returns_same_results(worker_packages: Path) -> None:
    names = ["export_run", "export_operation", "page_copy", "export_cycle"]
    calls: list[dict[str, Any]] = [
        {"function": name, "input": create_first_episode(name, {})} for name in names
    ]
    calls += [
        {"function": name, "input": "[]"}
        for name in ("claim_run", "read_page", "copy_blobs", "record_outcome")
    ]
    calls += [
        {"function": "get_openapi", "http": create_http_call("GET", "/api/openapi.json")},
        {"function": "start_run", "http": create_http_call("POST", "/api/runs", "not JSON")},
        {
            "function": "start_run",
            "http": create_http_call("POST", "/api/runs", '{"dataset": "unknown"}'),
        },
    ]
    function_names, *results = run_in_both(ROOT, worker_packages, calls, ENVIRONMENT)
    assert (
        function_names["local_host"] == function_names["microsoft"]
        and len(function_names["local_host"]) > 30
    )
    for result in results:
        assert mask_ids(result["local_host"]) == mask_ids(result["microsoft"]), result
    assert {"result", "error", "status"} <= {
        key for result in results for key in result["microsoft"]
    }


def mask_ids(result: dict[str, Any]) -> str:
    """Replace the IDs, which differ in every response."""
    return re.sub(
        r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|[0-9a-f]{16,32}",
        "ID",
        json.dumps(result, sort_keys=True),
    )
