"""A state database that is full, locked or damaged.

The host reports one message and leaves the database consistent.
"""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.host import HostError, LocalHost
from local.host.database import open_database

from .plans import PlanGenerator, app, is_completed_correctly
from .sample_host import ROOT

DATABASE_NAME = "testhubname.sqlite3"
LAUNCHER_WITH_FILE_LIMIT = """
import resource
import sys

resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
sys.argv[0] = "host"
from local.host.__main__ import main

sys.exit(main())
"""
DISK_FILLING_APP = """
import azure.durable_functions as df
import azure.functions as func

app = df.DFApp()


@app.activity_trigger(input_name="n")
def create_large_result(n):
    return "x" * 20_000


@app.orchestration_trigger(context_name="context")
def fill_disk(context):
    for n in range(30):
        yield context.call_activity("create_large_result", n)
    return "full"


@app.timer_trigger(arg_name="tick", schedule="0 0 0 1 1 *", run_on_startup=True)
@app.durable_client_input(client_name="client")
async def start(tick: func.TimerRequest, client):
    await client.start_new("fill_disk", "one")
"""


def open_limited_database(path: Path | None) -> sqlite3.Connection:
    """Open a database that can grow by only a few pages, as on a full disk."""
    connection = open_database(path)
    page_count = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={page_count + 6}")
    return connection


def fill_remaining_pages(host: LocalHost) -> None:
    """Start orchestrations until the database has no free pages."""
    for n in range(1000):
        host.start_orchestration("plan", [], f"filler-{n}")


def test_host_on_full_disk_reports_error_once_and_keeps_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, reasons = PlanGenerator(7, retries=False), []
    plans = {f"plan-{n}": generator.create_plan() for n in range(12)}
    with LocalHost(app, state_dir=tmp_path) as host:
        for instance_id, nodes in plans.items():
            host.start_orchestration("plan", nodes, instance_id)
        host.stop(drain=False)
    monkeypatch.setattr("local.host.store.open_database", open_limited_database)
    with LocalHost(app, state_dir=tmp_path, on_failure=reasons.append) as host:
        with pytest.raises(Exception, match="cannot be written"):
            fill_remaining_pages(host)
        assert host.request("GET", "/runtime/webhooks/durabletask/instances/plan-1").status == 503
        host.stop(drain=False)
    monkeypatch.undo()
    assert reasons == [
        f"The state database {tmp_path / DATABASE_NAME} cannot be written "
        "(database or disk is full). No data is lost. Free some disk space and start the host "
        "again."
    ]
    with LocalHost(app, state_dir=tmp_path) as host:
        for instance_id, nodes in plans.items():
            assert is_completed_correctly(nodes, host.wait(instance_id))


def test_locked_database_reports_error_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.host.database.LOCK_TIMEOUT_SECONDS", 0.05)
    reasons: list[str] = []
    with LocalHost(app, state_dir=tmp_path, on_failure=reasons.append) as host:
        other_connection = sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)
        other_connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(Exception, match="is locked by another program"):
            host.start_orchestration("plan", [], "x")
        other_connection.close()
        host.stop(drain=False)
    assert len(reasons) == 1
    with LocalHost(app, state_dir=tmp_path) as host:
        assert host.status("x") is None


@pytest.mark.parametrize("damage", ["not a database", "overwritten pages"])
def test_damaged_database_is_rejected_with_reset_command(tmp_path: Path, damage: str) -> None:
    with LocalHost(app, state_dir=tmp_path) as host:
        for n in range(200):
            host.start_orchestration("plan", [], f"plan-{n}")
    path = tmp_path / DATABASE_NAME
    content = bytearray(path.read_bytes())
    if damage == "overwritten pages":
        content[4096:16384] = b"\x55" * 12288
    else:
        content[:] = b"no database " * 1000
    path.write_bytes(content)
    with pytest.raises(HostError) as error:
        LocalHost(app, state_dir=tmp_path).start()
    message = str(error.value)
    assert message.startswith(f"The state database {path} is damaged (") and "\n" not in message
    command = re.search(r"run: (mv .*)", message)
    assert command is not None
    subprocess.run(["sh", "-c", command[1]], check=True)
    with LocalHost(app, state_dir=tmp_path) as host:
        assert host.instances() == []
    assert (tmp_path / f"{DATABASE_NAME}.old").read_bytes() == bytes(content)


def test_database_of_other_version_is_rejected(tmp_path: Path) -> None:
    with LocalHost(app, state_dir=tmp_path):
        pass
    other_connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    other_connection.execute("PRAGMA user_version=99")
    other_connection.close()
    with pytest.raises(
        HostError,
        match=r"another version of the host \(schema 99\)\. "
        "To keep a copy and start with an empty database, run: mv ",
    ):
        LocalHost(app, state_dir=tmp_path).start()


def test_process_on_full_disk_exits_with_error_and_next_host_continues(tmp_path: Path) -> None:
    """The test simulates the full disk with a limit on the size of files."""
    (tmp_path / "function_app.py").write_text(DISK_FILLING_APP)
    arguments = ["--app-root", str(tmp_path), "--port", "0", "--state-dir", str(tmp_path / "state")]
    process: Any = subprocess.run(
        [sys.executable, "-c", LAUNCHER_WITH_FILE_LIMIT, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    errors = [line for line in process.stderr.splitlines() if "cannot be written" in line]
    assert process.returncode == 1 and len(errors) == 1 and "Traceback" not in process.stderr, (
        process.stderr
    )
    with LocalHost(tmp_path, state_dir=tmp_path / "state", timers=False) as host:
        assert host.wait("one")["output"] == "full"
