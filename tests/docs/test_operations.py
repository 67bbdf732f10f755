"""docs/operations.md: its walk is followed literally, its events are those of the code, and none is made up."""

import ast
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
from tests.support.world import World

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
COUNTED = {"cycle_id", "backfill_id", "runs"}  # beside them, one fact for each outcome


def section(title: str) -> str:
    return next(
        part for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE) if part.startswith(title)
    )


def documented() -> dict[str, set[str]]:
    """Event -> its facts."""
    events = {}
    for names, facts in re.findall(
        r"^\| (`[^|]+`) \| [^|]+ \| ([^|]+) \|$", section("Events"), flags=re.MULTILINE
    ):
        for name in re.findall(r"`(\w+)`", names):
            events[name] = set(re.findall(r"`(\w+)`", facts))
    return events


def in_the_code() -> dict[str, set[str]]:
    events = {}
    for folder in ("activities", "orchestrations", "shared", "triggers"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "emit_event"
                ):
                    events[ast.literal_eval(node.args[0])] = {
                        word.arg for word in node.keywords if word.arg
                    }
    return events


def test_the_table_has_every_event_of_the_code_with_its_facts_and_no_other() -> None:
    said, known = documented(), in_the_code()
    assert set(said) == set(known)
    for name, facts in known.items():
        assert said[name] - COUNTED == facts - COUNTED and facts <= said[name], name


@pytest.fixture(scope="module")
def world(azurite: Azurite) -> Iterator[World]:
    with World(azurite, behaviour=Behaviour(retry_after_seconds=20), storage_proxy=True) as world:
        yield world


def fail_one(world: World) -> dict[str, Any]:
    """A night in which one file of an export stays unreadable."""
    stuck = world.simulator.expected(f"billed_usage/{world.invoice_id}/full").blobs[1].name
    world.simulator.faults.add(
        Match(operation="start", nth=(1,)), FaultResponse(status=503, headers={"Retry-After": "60"})
    )
    world.simulator.faults.add(Match(operation="blob", path=f"*{stuck}"), FaultResponse(status=404))
    run = world.land("billed_usage")
    world.simulator.faults = Faults()
    assert run["outcome"] == "incomplete"
    return run


def follow(app_url: str, folder: Path, wait: Callable[[str], Any]) -> list[Any]:
    """The walk's blocks as they stand, one shell after another; `wait` for the run that the retry has started."""
    said: list[Any] = []
    kept = folder / "kept"
    kept.touch()
    for block in re.findall(
        r"^```bash\n(.*?)^```", section("The night"), flags=re.MULTILINE | re.DOTALL
    ):
        program = f"set -eu\n. ./kept\n{block}\n(set | grep -E '^(RUN|NEW)_ID=' || true) > kept\n"
        done = subprocess.run(
            ["bash", "-c", program],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "APP": app_url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
        assert "title" not in said[-1], said[-1]  # no problem
        if "/retry" in block:
            wait(said[-1]["run_id"])
    return said


def test_the_walk_is_followed_literally(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "partner_billing.events")
    failed = fail_one(world)
    said = follow(world.host.base_url, tmp_path, world.host.wait)
    status, runs, run, blobs, preflight, retry, landed, catalogue = said
    assert status["live_runs"] == [] and status["next_tick_at"]
    assert (
        [one["run_id"] for one in runs["runs"]] == [failed["run_id"]]
        and run["code"] == "blobs_missing"
        and run["remedy"]
    )
    assert [blob["code"] for blob in blobs["blobs"]] == ["source_missing"]
    assert preflight["checks"] and retry["started"] and retry["retry_of"] == failed["run_id"]
    assert landed["outcome"] == "landed" and landed["version"] == failed["version"]
    assert [entry["version"] for entry in catalogue["entries"]] == [landed["version"]]
    assert_events(caplog, failed["run_id"], landed["run_id"])


@pytest.mark.long
def test_the_walk_is_followed_on_the_local_stack(tmp_path: Path) -> None:
    """In real time, with processes: the night is the one that the document plays. The test above has the same walk in seconds."""
    faults = re.search(r"FAULTS=(\S+)", section("The night"))
    assert faults
    with run_stack(
        tmp_path / "state", settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}, faults=ROOT / faults[1]
    ) as stack:

        def ended(path: str) -> dict[str, Any]:
            until = time.monotonic() + 400
            while time.monotonic() < until:
                with urllib.request.urlopen(f"{stack.app_url}/api/{path}", timeout=60) as answer:
                    body: dict[str, Any] = json.load(answer)
                if body["outcome"]:
                    return body
                time.sleep(int(answer.headers["Retry-After"]))
            raise AssertionError(f"{path} has not ended")

        order = urllib.request.Request(f"{stack.app_url}/api/cycles", data=b"{}", method="POST")
        with urllib.request.urlopen(order, timeout=60) as answer:
            cycle = ended(f"cycles/{json.load(answer)['cycle_id']}")
        assert cycle["outcome"] == "incomplete" and cycle["outcomes"]["incomplete"] >= 1
        _, runs, run, blobs, preflight, retry, landed, catalogue = follow(
            stack.app_url, tmp_path, lambda run_id: ended(f"runs/{run_id}")
        )
    assert (
        run["run_id"] == runs["runs"][0]["run_id"] == retry["retry_of"]
        and run["code"] == "blobs_missing"
    )
    assert [blob["code"] for blob in blobs["blobs"]] == ["source_missing"] and preflight["checks"]
    assert landed["outcome"] == "landed" and landed["version"] == run["version"]
    assert landed["version"] in {entry["version"] for entry in catalogue["entries"]}


def assert_events(caplog: pytest.LogCaptureFixture, failed: str, landed: str) -> None:
    """What was really emitted is in the table; the two runs tell their story in order, each with an id of its own."""
    events = [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "partner_billing.events"
    ]
    known = documented()
    for event in events:
        assert (
            set(event) - {"event", "event_id", "app_version", "instance_id"}
            <= known[event["event"]]
        )
    for run_id, story in (
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
        mine = [event for event in events if event.get("run_id") == run_id]
        assert list(dict.fromkeys(event["event"] for event in mine)) == story
        ids = [event["event_id"] for event in mine]
        assert len(set(ids)) == len(ids) and all(
            one.startswith(f"{run_id}/") and one.count("/") == 2 for one in ids
        )
