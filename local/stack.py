"""The local stack: storage emulator, simulator and local Functions host.

`make run` keeps a stack running; `make demo` and several tests start their own.

    STATE_DIR/                    used by one stack at a time; STATE_DIR.lock is its lock
        azurite/  host/           state that the next start loads
        *.log                     the output of each process since its last start

The app's settings come only from this module. Variables of the calling shell have no effect,
except those in OVERRIDABLE_SETTINGS. All processes listen on free ports of 127.0.0.1 and stop
with this process, even if it is killed.
"""

import argparse
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local.azurite import ROOT, Azurite, AzuriteError

RUN_STATE = ROOT / ".state" / "run"
START_TIMEOUT_SECONDS, STOP_TIMEOUT_SECONDS = 60.0, 15.0
NEVER_SCHEDULE = "0 0 0 29 2 *"
CUSTOMERS = 20  # gives each usage export about 17 blobs, which land within seconds
LISTENING = re.compile(r"^Listening on (http://\S+)", re.MULTILINE)
SUCCESSFUL_REQUEST = re.compile(r" (GET|HEAD) \S+ -> 2\d\d\b")
PARTNER = re.compile(r"^Partner (\S+); invoices: (.*)$", re.MULTILINE)
SOURCE = re.compile(r"^Storage (\S+)$", re.MULTILINE)
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
OVERRIDABLE_SETTINGS: dict[str, str] = {
    "EXPORT_SCHEDULE": "0 */10 * * * *",
    "EXPORT_CURRENCIES": "",
    "EXPORT_PARALLELISM": "4",
    "POLL_MIN_SECONDS": "1",
    "MONTH_BOUNDARY_MINUTES": "0",
    "COPY_MODE": "auto",
    "PROOF": "content",
}
"""The settings that `NAME=value make run` can override, with their defaults.

All other settings are derived from the addresses of the processes.
"""


class StackError(Exception):
    """The stack did not start, or one of its processes stopped. The message names the process."""

    exit_code = 1


class StackInUseError(StackError):
    """Another process is using the state directory."""

    exit_code = 3


@dataclass(frozen=True)
class Child:
    """A Python process of the stack. `output` contains what it printed until it was listening."""

    name: str
    url: str
    output: str
    log: Path
    process: "subprocess.Popen[bytes]"


@dataclass(frozen=True)
class Stack:
    """A running stack. All URLs are origins without a trailing slash."""

    app: Child
    simulator: Child
    storage: Azurite
    settings: Mapping[str, str]
    state: Path

    @property
    def app_url(self) -> str:
        """The origin of the app's HTTP API."""
        return self.app.url

    @property
    def invoices(self) -> list[str]:
        """The IDs of the invoices that have exports."""
        partner = PARTNER.search(self.simulator.output)
        return re.findall(r"\bG\d+", partner[2]) if partner else []

    @property
    def landing_connection_string(self) -> str:
        """The connection string of the landing account."""
        return self.storage.landing.connection_string

    def check(self) -> None:
        """Raise StackError if a process of the stack has stopped."""
        for child in (self.app, self.simulator):
            if (code := child.process.poll()) is not None:
                raise StackError(
                    f"The {child.name} stopped unexpectedly: {describe_exit(code)}."
                    f"{last_lines(child.log)}"
                )
        host, port = self.storage.blob_origin.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError:
            raise StackError(
                f"The storage emulator no longer responds.{last_lines(self.state / 'azurite.log')}"
            ) from None


@contextmanager
def run_stack(
    state: Path,
    *,
    fresh: bool = False,
    app_root: Path = ROOT,
    seed: int = 7,
    settings: Mapping[str, str] | None = None,
    faults: Path | None = None,
) -> Iterator[Stack]:
    """Start a stack, and stop it at the end of the block.

    Args:
        state: The state directory.
        fresh: Whether to delete the state directory first.
        app_root: The folder that contains the app.
        seed: The seed for the simulated partner.
        settings: Settings that take precedence over the environment and the defaults.
        faults: A file with fault rules for the simulator and its storage.

    Raises:
        StackInUseError: Another process is using the state directory.
        StackError: A process did not start.
    """
    with lock_state_dir(state) as lock, ExitStack() as processes:
        if fresh:
            shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True, exist_ok=True)
        try:
            storage = processes.enter_context(
                Azurite(location=state / "azurite", log=state / "azurite.log")
            )
        except AzuriteError as error:
            raise StackError(str(error)) from None
        simulator = processes.enter_context(
            run_child(
                "simulator",
                "local.simulator",
                "--port",
                "0",
                "--seed",
                str(seed),
                "--customers",
                str(CUSTOMERS),
                "--storage-connection-string-env",
                "BILLING_STORAGE",
                *(("--storage-proxy", "--faults", str(faults)) if faults else ()),
                environment={"BILLING_STORAGE": storage.billing.connection_string},
                state=state,
                lock=lock,
            )
        )
        app_settings = {**default_settings(storage, simulator), **(settings or {})}
        app = processes.enter_context(
            run_child(
                "local host",
                "local.host",
                "--app-root",
                str(app_root),
                "--port",
                "0",
                "--state-dir",
                str(state / "host"),
                environment=app_settings,
                state=state,
                lock=lock,
            )
        )
        yield Stack(app, simulator, storage, app_settings, state)


def default_settings(storage: Azurite, simulator: Child) -> dict[str, str]:
    """Return the app's settings: the addresses of this stack and the overridable settings."""
    partner, source = PARTNER.search(simulator.output), SOURCE.search(simulator.output)
    if not partner or not source:
        raise StackError(
            "The simulator did not print its partner ID and storage address."
            f"{last_lines(simulator.log)}"
        )
    return {
        "AzureWebJobsStorage": storage.funchost.connection_string,
        "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "TASK_HUB_NAME": "PartnerBilling",
        "GRAPH_BASE_URL": f"{simulator.url}/v1.0",
        "PARTNER_CENTER_BASE_URL": simulator.url,
        "PARTNER_TENANT_ID": partner[1],
        "SOURCE_ALLOWED": source[1],
        "LANDING_STORAGE": storage.landing.connection_string,
        "INVOICE_SOURCE": "partner_center",
    } | {name: os.environ.get(name) or value for name, value in OVERRIDABLE_SETTINGS.items()}


@contextmanager
def run_child(
    name: str,
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    state: Path,
    lock: int,
) -> Iterator[Child]:
    """Run a Python module as a child process that listens, and stop it at the end of the block.

    The child inherits the descriptor `lock`, so that the state directory stays locked until the
    last process of the stack has stopped.
    """
    log = state / f"{name.removeprefix('local ')}.log"
    inherited = {
        variable: os.environ[variable] for variable in INHERITED_VARIABLES if variable in os.environ
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.child", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,  # Ctrl-C must reach only the parent, which stops the children
            pass_fds=(lock,),
        )
    try:
        printed, url = wait_until_listening(name, process, log)
        yield Child(name, url, printed, log, process)
    finally:
        stop(process)


def wait_until_listening(
    name: str, process: "subprocess.Popen[bytes]", log: Path
) -> tuple[str, str]:
    """Return the output of a process and its URL as soon as it is listening."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        code = process.poll()
        output = log.read_text(encoding="utf-8", errors="replace")
        if match := LISTENING.search(output):
            return output, match[1].rstrip("/")
        if code is not None:
            raise StackError(f"The {name} did not start: {describe_exit(code)}.{last_lines(log)}")
        time.sleep(0.05)
    raise StackError(
        f"The {name} did not start within {START_TIMEOUT_SECONDS:.0f} seconds.{last_lines(log)}"
    )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop a child by closing its standard input; kill it after STOP_TIMEOUT_SECONDS."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def describe_exit(code: int) -> str:
    """Describe a return code from `subprocess`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, indented, with a heading and without successful requests."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if not SUCCESSFUL_REQUEST.search(line)]
    if not lines:
        return f" It printed nothing (see {display_path(log)})."
    return f" The end of {display_path(log)}:\n" + "\n".join(f"  {line}" for line in lines[-count:])


def display_path(path: Path) -> str:
    """Return the path, which is relative if it is inside the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def lock_state_dir(state: Path) -> Iterator[int]:
    """Lock the state directory and yield the descriptor of the lock, for the child processes.

    Raises:
        StackInUseError: A running process holds the lock.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    path = state.parent / f"{state.name}.lock"
    with path.open("a+", encoding="utf-8") as file:
        acquire_lock(file, state)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def acquire_lock(file: IO[str], state: Path) -> None:
    """Acquire the lock, or raise StackInUseError.

    If the holder was killed, its children still hold the lock for a moment while they stop. The
    function waits only in this case.
    """
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        file.seek(0)
        holder = file.read().strip()
        if is_running(holder) or time.monotonic() > deadline:
            raise StackInUseError(
                f"A stack is already running in {display_path(state)} "
                f"(process {holder or 'unknown'}). "
                "Stop it first, or select another folder with --state-dir."
            )
        time.sleep(0.2)


def is_running(pid: str) -> bool:
    """Return whether a process with this ID exists."""
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def exit_on_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, so that the children are stopped.

    A shell can start a background process with SIGINT ignored; this function restores its default
    handling.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def welcome(stack: Stack) -> str:
    """Return the text that `make run` prints: the addresses and commands to try."""
    body = f'{{"dataset": "billed_usage", "invoice_id": "{stack.invoices[0]}"}}'
    state = display_path(stack.state)
    landing = stack.storage.landing
    schedule = stack.settings["EXPORT_SCHEDULE"]
    return f"""The stack is running with the schedule "{schedule}" (UTC).
Press Ctrl-C to stop it. Its state is kept.

  app          {stack.app_url}/api
  simulator    {stack.simulator.url}    invoices {", ".join(stack.invoices)}
  landing      {landing.blob_url}/billing    tables {landing.table_url}
  logs, state  {state}; the landing account's connection string: {state}/landing.txt

Land everything that is due, list the catalogue, check the configuration:
  .venv/bin/partner-billing cycle
  .venv/bin/partner-billing catalogue
  .venv/bin/partner-billing doctor

Do the same over HTTP:
  curl -s -X POST {stack.app_url}/api/cycles -d '{{}}'
  curl -s {stack.app_url}/api/cycles/CYCLE_ID

Land a single export and get its state:
  curl -s -X POST {stack.app_url}/api/runs -d '{body}'
  curl -s {stack.app_url}/api/runs/RUN_ID
"""


@contextmanager
def publish_app_url(stack: Stack) -> Iterator[None]:
    """Write the app's URL to the file in the state directory where the CLI looks for it."""
    file = stack.state / "app-url"
    file.write_text(stack.app_url + "\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run a stack until Ctrl-C and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.stack", description="Runs the local stack until you press Ctrl-C."
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=RUN_STATE,
        help="the state directory; .state/demo continues with the state of `make demo`",
    )
    parser.add_argument("--seed", type=int, default=7, help="the seed for the simulated partner")
    parser.add_argument(
        "--faults",
        type=Path,
        help="a file with fault rules; see local/simulator/README.md",
    )
    options = parser.parse_args(arguments)
    exit_on_signals()
    try:
        with run_stack(
            options.state_dir.resolve(), seed=options.seed, faults=options.faults
        ) as stack:
            (stack.state / "landing.txt").write_text(
                stack.landing_connection_string + "\n", encoding="utf-8"
            )
            with publish_app_url(stack):
                print(welcome(stack), flush=True)
                while True:
                    time.sleep(1)
                    stack.check()
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nThe stack has stopped. Its state is kept.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
