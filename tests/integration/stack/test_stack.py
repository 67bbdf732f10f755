"""`python -m local.stack` and `python -m local.demo` as separate processes."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[3]


def is_unlocked_within(state: Path, seconds: float) -> bool:
    """Return whether all processes of the stack stop in time. The last one releases the lock."""
    deadline = time.monotonic() + seconds
    with Path(f"{state}.lock").open() as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.1)
    return False


class StackProcess:
    """A stack in its own process, with its output in a file."""

    def __init__(self, state: Path, output: Path, **environment: str) -> None:
        self.output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.stack", "--state-dir", str(state)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def wait_until_running(self) -> str:
        """Return the app's URL as soon as the stack is running."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if match := re.search(r"^  app +(\S+)$", self.output.read_text(), flags=re.MULTILINE):
                return match[1]
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.1)
        raise AssertionError(f"The stack did not start: {self.output.read_text()}")


@pytest.fixture
def stack_processes() -> Iterator[list[StackProcess]]:
    started: list[StackProcess] = []
    yield started
    for stack in started:
        if stack.process.poll() is None:
            stack.process.terminate()
            stack.process.wait(timeout=60)


def test_stack_second_start_is_refused_and_children_stop_with_killed_parent(
    tmp_path: Path, stack_processes: list[StackProcess]
) -> None:
    state = tmp_path / "state"
    first = StackProcess(
        state,
        tmp_path / "first.txt",
        AZURE_CLIENT_ID="not a GUID: variables of the shell must have no effect",
    )
    stack_processes.append(first)
    app = first.wait_until_running()
    assert httpx.get(f"{app}/health").status_code == 200
    assert (state / "app-url").read_text() == app.removesuffix("/api") + "\n"

    second = subprocess.run(
        [sys.executable, "-m", "local.stack", "--state-dir", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 3
    assert second.stderr.startswith(f"A stack is already running in {state} ")
    assert f"(process {first.process.pid})" in second.stderr and second.stderr.count("\n") == 1

    first.process.kill()
    first.process.wait()
    assert is_unlocked_within(state, 30), "a child outlived its parent"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{app}/health")

    again = StackProcess(state, tmp_path / "again.txt")
    stack_processes.append(again)
    again.wait_until_running()
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(timeout=60) == 0
    assert not (state / "app-url").exists()
    assert again.output.read_text().splitlines()[-1] == "The stack has stopped. Its state is kept."
    assert is_unlocked_within(state, 1)


def test_stack_invalid_setting_prints_end_of_app_log(
    tmp_path: Path, stack_processes: list[StackProcess]
) -> None:
    invalid = StackProcess(tmp_path / "state", tmp_path / "invalid.txt", EXPORT_PARALLELISM="many")
    stack_processes.append(invalid)
    assert invalid.process.wait(timeout=60) == 1
    text = invalid.output.read_text()
    assert text.startswith("The local host did not start: ") and "EXPORT_PARALLELISM" in text
    assert "Traceback" not in text.splitlines()[0] and len(text.splitlines()) < 25
    assert is_unlocked_within(tmp_path / "state", 10)


def test_demo_lands_and_verifies_all_datasets(tmp_path: Path) -> None:
    state = tmp_path / "demo"
    demo = subprocess.run(
        [sys.executable, "-m", "local.demo", "--state-dir", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    verified = re.search(r"^All (\d+) blobs landed and verified", demo.stdout, flags=re.MULTILINE)
    assert verified and int(verified[1]) > 50
    landed = {file for file in (state / "landing" / "data").rglob("*") if file.is_file()}
    assert {file.relative_to(state / "landing" / "data").parts[0] for file in landed} == {
        "billed_usage",
        "unbilled_usage",
        "billed_reconciliation",
        "unbilled_reconciliation",
    }
    assert sum(file.name != "_manifest.json" for file in landed) == int(verified[1])
    assert (state / "ledger" / "billingruns.jsonl").stat().st_size
    assert is_unlocked_within(state, 5)

    output_files = [
        file
        for file in state.rglob("*")
        if file.is_file() and (file.suffix in (".log", ".jsonl", ".json"))
    ]
    leaks = [
        str(file)
        for file in output_files
        if re.search(rb"(?i)[?&]sig=|AccountKey=", file.read_bytes())
    ]
    assert not leaks
