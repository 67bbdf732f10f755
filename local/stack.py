"""Storage emulator, simulator and local Functions host together: what `make run` keeps up and `make demo` asks.

    state dir/                    one stack at a time, held by a lock beside it: {state dir}.lock
        azurite/  host/           what they keep on disk, there again after the next start
        *.log                     what each of them said since its last start

The app gets its settings from here and from nowhere else: what a shell happens to have set does not count, except the
names in OVERRIDABLE_SETTINGS. All three listen on free ports of 127.0.0.1 and end with this process, also after kill -9.
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
START_SECONDS, END_SECONDS = 60.0, 15.0
NEVER_SCHEDULE = "0 0 0 29 2 *"
CUSTOMERS = 20  # of the made-up partner: a dozen blobs and more an export, and seconds to land them
LISTENING = re.compile(r"^Listening on (http://\S+)", re.MULTILINE)
WENT_WELL = re.compile(r" (GET|HEAD) \S+ -> 2\d\d\b")
PARTNER = re.compile(r"^Partner (\S+); invoices: (.*)$", re.MULTILINE)
SOURCE = re.compile(r"^Storage (\S+)$", re.MULTILINE)
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
OVERRIDABLE_SETTINGS: dict[str, str] = {
    "EXPORT_SCHEDULE": "0 */10 * * * *",
    "EXPORT_CURRENCIES": "",
    "EXPORT_PARALLELISM": "4",
    "POLL_MIN_SECONDS": "1",
    "MONTH_BOUNDARY_MINUTES": "0",
    "COPY_MODE": "auto",
    "PROOF": "content",
}
"""Settings that `NAME=value make run` changes; the others follow from where the parts listen."""


class StackError(Exception):
    """The stack could not start, or a part of it ended; the text says which and why."""

    exit_code = 1


class StackInUseError(StackError):
    """Another process has this state dir."""

    exit_code = 3


@dataclass(frozen=True)
class Child:
    """One Python part of the stack. `said` is what it printed until it listened."""

    name: str
    url: str
    said: str
    log: Path
    process: "subprocess.Popen[bytes]"


@dataclass(frozen=True)
class Stack:
    """A running stack. All URLs are origins without a slash at the end."""

    app: Child
    simulator: Child
    storage: Azurite
    settings: Mapping[str, str]
    state: Path

    @property
    def app_url(self) -> str:
        return self.app.url

    @property
    def invoices(self) -> list[str]:
        """Those with exports, as the simulator names them when it starts."""
        partner = PARTNER.search(self.simulator.said)
        return re.findall(r"\bG\d+", partner[2]) if partner else []

    @property
    def landing_connection_string(self) -> str:
        return self.storage.landing.connection_string

    def check(self) -> None:
        """Raises StackError where a part has ended by itself."""
        for child in (self.app, self.simulator):
            if (code := child.process.poll()) is not None:
                raise StackError(
                    f"The {child.name} ended by itself: {ended_how(code)}.{last_lines(child.log)}"
                )
        host, port = self.storage.blob_origin.removeprefix("http://").split(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError:
            raise StackError(
                f"The storage emulator does not answer any more.{last_lines(self.state / 'azurite.log')}"
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
    """A stack for as long as the block lasts. `fresh` forgets what the state dir holds; `settings` go before OVERRIDABLE_SETTINGS; `faults`
    are what the simulator does wrong, also when its blobs are read.

    Raises StackInUseError or StackError.
    """
    with held(state) as lock, ExitStack() as parts:
        if fresh:
            shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True, exist_ok=True)
        try:
            storage = parts.enter_context(
                Azurite(location=state / "azurite", log=state / "azurite.log")
            )
        except AzuriteError as unavailable:
            raise StackError(str(unavailable)) from None
        simulator = parts.enter_context(
            child(
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
        chosen = {**settings_for(storage, simulator), **(settings or {})}
        app = parts.enter_context(
            child(
                "local host",
                "local.host",
                "--app-root",
                str(app_root),
                "--port",
                "0",
                "--state-dir",
                str(state / "host"),
                environment=chosen,
                state=state,
                lock=lock,
            )
        )
        yield Stack(app, simulator, storage, chosen, state)


def settings_for(storage: Azurite, simulator: Child) -> dict[str, str]:
    """The app's environment: addresses of this stack, then OVERRIDABLE_SETTINGS, as changed by this process's environment."""
    partner, source = PARTNER.search(simulator.said), SOURCE.search(simulator.said)
    if not partner or not source:
        raise StackError(
            f"The simulator did not say which invoices it knows.{last_lines(simulator.log)}"
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
def child(
    name: str,
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    state: Path,
    lock: int,
) -> Iterator[Child]:
    """A Python module as a process of its own, from `Listening on` to its clean end."""
    log = state / f"{name.removeprefix('local ')}.log"
    inherited = {variable: os.environ[variable] for variable in INHERITED if variable in os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.child", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,  # Ctrl-C is for the parent, which ends its children in order
            pass_fds=(lock,),
        )  # the state dir stays held until the last of them has ended
    try:
        said, url = listening(name, process, log)
        yield Child(name, url, said, log, process)
    finally:
        end(process)


def listening(name: str, process: "subprocess.Popen[bytes]", log: Path) -> tuple[str, str]:
    """What it said and its URL, as soon as it says that it listens."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        code = process.poll()
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := LISTENING.search(said):
            return said, found[1].rstrip("/")
        if code is not None:
            raise StackError(f"The {name} did not start: {ended_how(code)}.{last_lines(log)}")
        time.sleep(0.05)
    raise StackError(
        f"The {name} did not start within {START_SECONDS:.0f} seconds.{last_lines(log)}"
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """As SIGTERM would, by closing its standard input; by force after END_SECONDS."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ended_how(code: int) -> str:
    return (
        f"it was ended by {signal.Signals(-code).name}"
        if code < 0
        else f"it ended with exit code {code}"
    )


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, indented, below a line that says whose it is; without the requests that went well."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if not WENT_WELL.search(line)]
    if not lines:
        return f" It said nothing ({display_path(log)})."
    return f" The end of {display_path(log)}:\n" + "\n".join(f"  {line}" for line in lines[-count:])


def display_path(path: Path) -> str:
    """A path as one would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def held(state: Path) -> Iterator[int]:
    """The state dir's lock, as the descriptor that children inherit. Raises StackInUseError at once where a living process has it."""
    state.parent.mkdir(parents=True, exist_ok=True)
    path = state.parent / f"{state.name}.lock"
    with path.open("a+", encoding="utf-8") as file:
        take(file, state)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


def take(file: IO[str], state: Path) -> None:
    """A holder that was killed has children that are still ending: wait for these, but not for a living holder."""
    until = time.monotonic() + END_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        file.seek(0)
        holder = file.read().strip()
        if lives(holder) or time.monotonic() > until:
            raise StackInUseError(
                f"A stack is up in {display_path(state)} already, as process {holder or 'unknown'}: end that one first, or name another "
                "folder with --state-dir."
            )
        time.sleep(0.2)


def lives(pid: str) -> bool:
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
    """Ctrl-C, SIGTERM and a closed terminal end it in order, children first; also where a shell had it ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def welcome(stack: Stack) -> str:
    one = f'{{"dataset": "billed_usage", "invoice_id": "{stack.invoices[0]}"}}'
    return f"""The stack is up; its schedule is {stack.settings["EXPORT_SCHEDULE"]} (UTC). Ctrl-C ends it and keeps its state.

  app          {stack.app_url}/api
  simulator    {stack.simulator.url}    invoices {", ".join(stack.invoices)}
  landing      {stack.storage.landing.blob_url}/billing    tables {stack.storage.landing.table_url}
  logs, state  {display_path(stack.state)}; the landing's connection string is in {display_path(stack.state)}/landing.txt

Land everything that is due and watch it, look at what is landed, ask whether all is set up right:
  .venv/bin/partner-billing cycle
  .venv/bin/partner-billing catalogue
  .venv/bin/partner-billing doctor

The same by hand:
  curl -s -X POST {stack.app_url}/api/cycles -d '{{}}'
  curl -s {stack.app_url}/api/cycles/CYCLE_ID

Land one export, then look:
  curl -s -X POST {stack.app_url}/api/runs -d '{one}'
  curl -s {stack.app_url}/api/runs/RUN_ID
"""


@contextmanager
def findable(stack: Stack) -> Iterator[None]:
    """The app's address in a file of the state dir, for as long as it answers: `partner-billing` looks there."""
    file = stack.state / "app-url"
    file.write_text(stack.app_url + "\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.stack", description="Keeps the whole stack up until Ctrl-C."
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=RUN_STATE,
        help="what it keeps; .state/demo: that of `make demo`",
    )
    parser.add_argument("--seed", type=int, default=7, help="another seed is another partner")
    parser.add_argument(
        "--faults",
        type=Path,
        help="what the simulated Microsoft does wrong, see local/simulator/README.md",
    )
    given = parser.parse_args(arguments)
    exit_on_signals()
    try:
        with run_stack(given.state_dir.resolve(), seed=given.seed, faults=given.faults) as stack:
            (stack.state / "landing.txt").write_text(
                stack.landing_connection_string + "\n", encoding="utf-8"
            )
            with findable(stack):
                print(welcome(stack), flush=True)
                while True:
                    time.sleep(1)
                    stack.check()
    except StackError as failed:
        print(failed, file=sys.stderr)
        return failed.exit_code
    except KeyboardInterrupt:
        print("\nThe stack has ended; its state is kept.")
        return 0


if __name__ == "__main__":
    sys.exit(main())
