"""Microsoft's own worker code accepts our app and the sample app, and gives what our invocation gives."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.app_environment import ENVIRONMENT

from .conftest import ROOT, SAMPLE_APP, SETTINGS

WORKER = ROOT / ".state" / "worker"
MOMENT = "2026-01-02T03:04:05.678Z"


@pytest.fixture(scope="module")
def installed() -> Path:
    """`make setup` has installed it; where tests are run without make, this does, and nothing else."""
    if not (WORKER / ".installed").exists():
        subprocess.run(
            ["make", "-s", "-o", ".venv/.installed", ".state/worker/.installed"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    return WORKER


def first_episode(name: str, content: Any) -> str:
    """What an orchestrator is called with first."""
    started = {
        "EventType": 0,
        "Name": name,
        "Version": "",
        "Input": json.dumps(json.dumps(content)),
        "EventId": -1,
        "IsPlayed": False,
        "Timestamp": MOMENT,
    }
    return json.dumps(
        {
            "history": [
                {"EventType": 12, "EventId": -1, "IsPlayed": False, "Timestamp": MOMENT},
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


def http(method: str, path: str, body: str = "", **parameters: str) -> dict[str, Any]:
    return {
        "method": method,
        "path": path,
        "headers": [["x-test", "yes"]],
        "body": body,
        "parameters": parameters,
    }


def compared(
    app: Path, worker: Path, calls: list[dict[str, Any]], settings: dict[str, str]
) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.host.microsoft_worker", str(app)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        input="".join(json.dumps(call) + "\n" for call in calls),
        timeout=120,
        env=os.environ | settings | {"PYTHONPATH": os.pathsep.join([str(worker), str(ROOT)])},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(calls) + 1
    return lines


def test_the_sample_app(installed: Path) -> None:
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
        {"function": "chain", "input": first_episode("chain", 5)},
        {"function": "plain_return", "input": first_episode("plain_return", None)},
        {"function": "raises", "input": first_episode("raises", None)},
        {"function": "chain", "input": "no JSON"},
        {
            "function": "reflect",
            "http": http("PUT", "/api/reflect/5/a?q=1", "body", n="5", rest="a"),
        },
        {"function": "fixed", "http": http("GET", "/api/reflect/fixed/text")},
        {"function": "nothing", "http": http("GET", "/api/nothing")},
        {"function": "broken", "http": http("GET", "/api/broken")},
    ]
    indexed, *answers = compared(SAMPLE_APP, installed, calls, SETTINGS)
    assert indexed["ours"] == indexed["theirs"]
    for call, answer in zip(calls, answers, strict=True):
        if "key" not in str(call):  # `flaky` counts its calls: the text differs by the count
            assert answer["ours"] == answer["theirs"], answer
    kinds = [next(iter(answer["theirs"])) for answer in answers]
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


def test_our_app(installed: Path) -> None:
    names = ["export_run", "export_operation", "page_copy", "export_cycle"]
    calls: list[dict[str, Any]] = [
        {"function": name, "input": first_episode(name, {})} for name in names
    ]
    calls += [
        {"function": name, "input": "[]"}
        for name in ("claim_run", "read_page", "copy_blobs", "record_outcome")
    ]
    calls += [
        {"function": "get_openapi", "http": http("GET", "/api/openapi.json")},
        {"function": "start_run", "http": http("POST", "/api/runs", "no JSON")},
        {"function": "start_run", "http": http("POST", "/api/runs", '{"dataset": "nonsense"}')},
    ]
    indexed, *answers = compared(ROOT, installed, calls, ENVIRONMENT)
    assert indexed["ours"] == indexed["theirs"] and len(indexed["ours"]) > 30
    for answer in answers:
        assert without_ids(answer["ours"]) == without_ids(answer["theirs"]), answer
    assert {"result", "error", "status"} <= {key for answer in answers for key in answer["theirs"]}


def without_ids(answer: dict[str, Any]) -> str:
    """Every problem has an id of its own."""
    import re

    return re.sub(
        r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|[0-9a-f]{16,32}",
        "ID",
        json.dumps(answer, sort_keys=True),
    )
