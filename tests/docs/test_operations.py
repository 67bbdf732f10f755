"""The commands in docs/operations.md work as documented, and its table contains all events."""

import json
import logging
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from local.stack import NEVER_SCHEDULE, run_stack
from tests.support.app_environment import AppEnvironment
from tests.support.operations_document import documented_events, emitted_events, section

ROOT = Path(__file__).resolve().parents[2]
WITH_COUNTERS = {"cycle_id", "backfill_id", "runs"}  # also have a counter for each outcome


def test_document_lists_all_events_with_their_fields() -> None:
    documented, emitted = documented_events(), emitted_events()
    assert set(documented) == set(emitted)
    for name, fields in emitted.items():
        assert documented[name] - WITH_COUNTERS == fields - WITH_COUNTERS, name
        assert fields <= documented[name], name


@pytest.fixture(scope="module")
def env(azurite: Azurite) -> Iterator[AppEnvironment]:
    with AppEnvironment(
        azurite, behaviour=Behaviour(retry_after_seconds=20), storage_proxy=True
    ) as env:
        yield env


def land_with_missing_blob(env: AppEnvironment) -> dict[str, Any]:
    """Run an export in which one blob cannot be read."""
    missing = env.simulator.expected(f"billed_usage/{env.invoice_id}/full").blobs[1].name
    env.simulator.faults.add(
        Match(operation="start", nth=(1,)), FaultResponse(status=503, headers={"Retry-After": "60"})
    )
    env.simulator.faults.add(Match(operation="blob", path=f"*{missing}"), FaultResponse(status=404))
    run = env.land("billed_usage")
    env.simulator.faults = Faults()
    assert run["outcome"] == "incomplete"
    return run


def run_commands(app_url: str, folder: Path, wait: Callable[[str], Any]) -> list[Any]:
    """Run the command blocks in the document and return their JSON output.

    `wait` is called with the run that the retry started.
    """
    outputs: list[Any] = []
    variables = folder / "variables"
    variables.touch()
    for block in re.findall(
        r"^```bash\n(.*?)^```", section("Recover from a failed run"), flags=re.MULTILINE | re.DOTALL
    ):
        program = (
            f"set -eu\n. ./variables\n{block}\n"
            "(set | grep -E '^(RUN|NEW)_ID=' || true) > variables\n"
        )
        process = subprocess.run(
            ["bash", "-c", program],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "APP": app_url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        outputs.append(json.loads(process.stdout))
        assert "title" not in outputs[-1], outputs[-1]  # not an error
        if "/retry" in block:
            wait(outputs[-1]["run_id"])
    return outputs


def test_commands_in_virtual_time_recover_failed_run(
    env: AppEnvironment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "partner_billing.events")
    failed = land_with_missing_blob(env)
    status, runs, run, blobs, preflight, retry, landed, catalogue = run_commands(
        env.host.base_url, tmp_path, env.host.wait
    )
    assert status["live_runs"] == [] and status["next_tick_at"]
    assert (
        [entry["run_id"] for entry in runs["runs"]] == [failed["run_id"]]
        and run["code"] == "blobs_missing"
        and run["remedy"]
    )
    assert [blob["code"] for blob in blobs["blobs"]] == ["source_missing"]
    assert preflight["checks"] and retry["started"] and retry["retry_of"] == failed["run_id"]
    assert landed["outcome"] == "landed" and landed["version"] == failed["version"]
    assert [entry["version"] for entry in catalogue["entries"]] == [landed["version"]]
    assert_events(caplog, failed["run_id"], landed["run_id"])


@pytest.mark.long
def test_commands_on_local_stack_recover_failed_run(tmp_path: Path) -> None:
    """The test runs in real time and uses the fault file from the document."""
    faults = re.search(r"FAULTS=(\S+)", section("Recover from a failed run"))
    assert faults
    with run_stack(
        tmp_path / "state", settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}, faults=ROOT / faults[1]
    ) as stack:

        def wait_for_end(path: str) -> dict[str, Any]:
            deadline = time.monotonic() + 400
            while time.monotonic() < deadline:
                with urllib.request.urlopen(f"{stack.app_url}/api/{path}", timeout=60) as response:
                    body: dict[str, Any] = json.load(response)
                if body["outcome"]:
                    return body
                time.sleep(int(response.headers["Retry-After"]))
            raise AssertionError(f"{path} has not ended")

        request = urllib.request.Request(f"{stack.app_url}/api/cycles", data=b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=60) as response:
            cycle = wait_for_end(f"cycles/{json.load(response)['cycle_id']}")
        assert cycle["outcome"] == "incomplete" and cycle["outcomes"]["incomplete"] >= 1
        _, runs, run, blobs, preflight, retry, landed, catalogue = run_commands(
            stack.app_url, tmp_path, lambda run_id: wait_for_end(f"runs/{run_id}")
        )
    assert (
        run["run_id"] == runs["runs"][0]["run_id"] == retry["retry_of"]
        and run["code"] == "blobs_missing"
    )
    assert [blob["code"] for blob in blobs["blobs"]] == ["source_missing"] and preflight["checks"]
    assert landed["outcome"] == "landed" and landed["version"] == run["version"]
    assert landed["version"] in {entry["version"] for entry in catalogue["entries"]}


def assert_events(caplog: pytest.LogCaptureFixture, failed: str, landed: str) -> None:
    """Verify the fields, the order and the IDs of the events of both runs."""
    events = [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "partner_billing.events"
    ]
    documented = documented_events()
    for event in events:
        assert (
            set(event) - {"event", "event_id", "app_version", "instance_id"}
            <= documented[event["event"]]
        )
    for run_id, names in (
        (
            failed,
            [
                "run_requested",
                "run_started",
                "start_delayed",
                "operation_started",
                "operation_waiting",
                "copy_planned",
                "blob_failed",
                "run_ended",
            ],
        ),
        (
            landed,
            [
                "run_requested",
                "run_started",
                "operation_started",
                "operation_waiting",
                "copy_planned",
                "version_landed",
                "run_ended",
            ],
        ),
    ):
        of_run = [event for event in events if event.get("run_id") == run_id]
        assert list(dict.fromkeys(event["event"] for event in of_run)) == names
        ids = [event["event_id"] for event in of_run]
        assert sorted(set(ids)) == sorted(ids)
        assert all(re.fullmatch(rf"{run_id}/[^/]+/[^/]+", event_id) for event_id in ids)
