"""A state database that cannot be written, is locked, or is damaged: one clear message, and nothing half done."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.host import HostError, LocalHost
from local.host.store import Store

from .conftest import ROOT
from .plans import Planner, all_right, app

HUB = "testhubname.sqlite3"


class OnFullDisk(LocalHost):
    """A database file that may not grow beyond what it has."""

    def _open_store(self, hub_name: str) -> Store:
        store = super()._open_store(hub_name)
        assert store._db is not None
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages + 6}")
        return store


def test_a_full_disk_ends_in_one_message_and_a_consistent_state(tmp_path: Path) -> None:
    planner, reasons = Planner(7, retries=False), []
    plans = {f"plan-{n}": planner.plan() for n in range(12)}
    with LocalHost(app, state_dir=tmp_path) as host:
        for iid, nodes in plans.items():
            host.start_orchestration("plan", nodes, iid)
        host.stop(drain=False)
    with OnFullDisk(app, state_dir=tmp_path, on_failure=reasons.append) as host:
        with pytest.raises(Exception, match="cannot be written"):
            for n in range(1000):  # fills what the plans leave
                host.start_orchestration("plan", [], f"filler-{n}")
        assert host.request("GET", "/runtime/webhooks/durabletask/instances/plan-1").status == 503
        host.stop(drain=False)
    assert reasons == [
        f"The state database {tmp_path / HUB} cannot be written (database or disk is full). Nothing is lost: make "
        "room and start the host again."
    ]
    with LocalHost(app, state_dir=tmp_path) as host:
        for iid, nodes in plans.items():
            assert all_right(nodes, host.wait(iid))


def test_a_locked_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.host.database.LOCK_TIMEOUT_SECONDS", 0.05)
    reasons: list[str] = []
    with LocalHost(app, state_dir=tmp_path, on_failure=reasons.append) as host:
        other = sqlite3.connect(tmp_path / HUB, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Exception, match="is locked by another program"):
            host.start_orchestration("plan", [], "x")
        other.close()
        host.stop(drain=False)
    assert len(reasons) == 1
    with LocalHost(app, state_dir=tmp_path) as host:
        assert host.status("x") is None


@pytest.mark.parametrize("damage", ["no database", "a hole"])
def test_a_damaged_database_is_refused_with_the_way_out(tmp_path: Path, damage: str) -> None:
    with LocalHost(app, state_dir=tmp_path) as host:
        for n in range(200):
            host.start_orchestration("plan", [], f"plan-{n}")
    path = tmp_path / HUB
    content = bytearray(path.read_bytes())
    if damage == "a hole":
        content[4096:16384] = b"\x55" * 12288
    else:
        content[:] = b"no database " * 1000
    path.write_bytes(content)
    with pytest.raises(HostError) as refused:
        LocalHost(app, state_dir=tmp_path).start()
    text = str(refused.value)
    assert text.startswith(f"The state database {path} is damaged (") and "\n" not in text
    command = re.search(r"start anew: (mv .*)", text)
    assert command is not None
    subprocess.run(["sh", "-c", command[1]], check=True)
    with LocalHost(app, state_dir=tmp_path) as host:
        assert host.instances() == []
    assert (tmp_path / f"{HUB}.old").read_bytes() == bytes(content)


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    with LocalHost(app, state_dir=tmp_path):
        pass
    other = sqlite3.connect(tmp_path / HUB)
    other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(
        HostError,
        match=r"another version of the host \(schema 99\)\. To keep it and start anew: mv ",
    ):
        LocalHost(app, state_dir=tmp_path).start()


def test_a_process_on_a_full_disk_ends_with_the_message_and_another_goes_on(tmp_path: Path) -> None:
    """The limit on the size of files stands in for a full disk; the program itself is the real one."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000)); sys.argv[0] = 'host'; "
        "from local.host.__main__ import main; sys.exit(main())"
    )
    script = (
        "import azure.functions as func, azure.durable_functions as df\napp = df.DFApp()\n"
        "@app.activity_trigger(input_name='n')\ndef big(n):\n    return 'x' * 20_000\n"
        "@app.orchestration_trigger(context_name='context')\ndef fill(context):\n"
        "    for n in range(30):\n        yield context.call_activity('big', n)\n    return 'full'\n"
        "@app.timer_trigger(arg_name='tick', schedule='0 0 0 1 1 *', run_on_startup=True)\n"
        "@app.durable_client_input(client_name='client')\nasync def begin(tick: func.TimerRequest, client):\n"
        "    await client.start_new('fill', 'one')\n"
    )
    (tmp_path / "function_app.py").write_text(script)
    arguments = ["--app-root", str(tmp_path), "--port", "0", "--state-dir", str(tmp_path / "state")]
    done: Any = subprocess.run(
        [sys.executable, "-c", limited, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert done.returncode == 1 and len(said) == 1 and "Traceback" not in done.stderr, done.stderr
    with LocalHost(tmp_path, state_dir=tmp_path / "state", timers=False) as host:
        assert host.wait("one")["output"] == "full"
