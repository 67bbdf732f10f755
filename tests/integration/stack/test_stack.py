"""`python -m local.stack` and `python -m local.demo` as they are typed."""

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


def free_within(state: Path, seconds: float) -> bool:
    """Whether all processes of the stack have ended: the last of them lets go of the lock."""
    until = time.monotonic() + seconds
    with Path(f"{state}.lock").open() as file:
        while time.monotonic() < until:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.1)
    return False


class Program:
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

    def up(self) -> str:
        """The app's URL, when the stack is up."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if found := re.search(r"^  app +(\S+)$", self.output.read_text(), flags=re.MULTILINE):
                return found[1]
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.1)
        raise AssertionError(f"not up: {self.output.read_text()}")


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        if program.process.poll() is None:
            program.process.terminate()
            program.process.wait(timeout=60)


def test_one_stack_a_state_dir_and_none_outlives_its_parent(
    tmp_path: Path, programs: list[Program]
) -> None:
    state = tmp_path / "state"
    first = Program(
        state,
        tmp_path / "first.txt",
        AZURE_CLIENT_ID="not a GUID: what a shell has set does not count",
    )
    programs.append(first)
    app = first.up()
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
    assert len(second.stderr.splitlines()) == 1 and str(first.process.pid) in second.stderr

    first.process.kill()
    first.process.wait()
    assert free_within(state, 30), "a child outlived its parent"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{app}/health")

    again = Program(state, tmp_path / "again.txt")
    programs.append(again)
    again.up()
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(timeout=60) == 0
    assert not (state / "app-url").exists()
    assert again.output.read_text().splitlines()[-1] == "The stack has ended; its state is kept."
    assert free_within(state, 1)


def test_a_part_that_does_not_start_is_told_with_the_end_of_its_log(
    tmp_path: Path, programs: list[Program]
) -> None:
    wrong = Program(tmp_path / "state", tmp_path / "wrong.txt", EXPORT_PARALLELISM="many")
    programs.append(wrong)
    assert wrong.process.wait(timeout=60) == 1
    text = wrong.output.read_text()
    assert text.startswith("The local host did not start: ") and "EXPORT_PARALLELISM" in text
    assert "Traceback" not in text.splitlines()[0] and len(text.splitlines()) < 25
    assert free_within(tmp_path / "state", 10)


def test_the_demo_lands_all_and_proves_it(tmp_path: Path) -> None:
    state = tmp_path / "demo"
    demo = subprocess.run(
        [sys.executable, "-m", "local.demo", "--state-dir", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert (
        found := re.search(r"^all (\d+) blobs landed and proven", demo.stdout, flags=re.MULTILINE)
    ) and int(found[1]) > 50
    landed = {file for file in (state / "landing" / "data").rglob("*") if file.is_file()}
    assert {file.relative_to(state / "landing" / "data").parts[0] for file in landed} == {
        "billed_usage",
        "unbilled_usage",
        "billed_reconciliation",
        "unbilled_reconciliation",
    }
    assert sum(file.name != "_manifest.json" for file in landed) == int(found[1])
    assert (state / "ledger" / "billingruns.jsonl").stat().st_size
    assert free_within(state, 5)

    said = [
        file
        for file in state.rglob("*")
        if file.is_file() and (file.suffix in (".log", ".jsonl", ".json"))
    ]
    leaks = [
        str(file) for file in said if re.search(rb"(?i)[?&]sig=|AccountKey=", file.read_bytes())
    ]
    assert not leaks
