"""Azurite, the storage emulator, as a child process with three accounts: billing (Microsoft's), landing (the partner's) and host.

One process, because server-side copies work only between accounts of one Azurite (reference: blob-copy, 1.1). It ends
with its parent, however that ends: the emulator watches its standard input, which closes when the parent is gone. It
then closes its stores first: what was written in the last seconds would not be on disk else.
"""

import base64
import hashlib
import os
import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
ACCOUNTS = ("billing", "landing", "funchost")
LISTENING = re.compile(
    r"Azurite (Blob|Queue|Table) service is successfully listening at (http://[\d.]+:\d+)"
)
WATCHED = """
process.argv.splice(1, 0, "azurite");
const end = () => { process.kill(process.pid, "SIGTERM"); setTimeout(() => process.exit(0), 5000).unref(); };
process.stdin.on("end", end).on("error", end).resume();
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});
require("azurite/dist/src/azurite.js");
"""


class AzuriteError(Exception):
    """The emulator could not be started; the text says what to do."""


@dataclass(frozen=True)
class Account:
    """One storage account of the emulator. `key` is base64, made from the name: it protects nothing."""

    name: str
    key: str = field(repr=False)
    blob_url: str  # "http://127.0.0.1:40001/landing"
    queue_url: str
    table_url: str

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.name};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};TableEndpoint={self.table_url};"
        )


def account_key(name: str) -> str:
    """Always the same for a name, so that state on disk can be opened again."""
    return base64.b64encode(hashlib.sha512(f"emulator account {name}".encode()).digest()).decode()


class Azurite:
    """A running emulator. Use `with Azurite() as azurite:`, or start() and stop().

    `location` is a folder that keeps the data; None keeps it in memory. `memory_mb` bounds the latter. `requests` writes
    a line for each request into the log.
    """

    def __init__(
        self,
        location: Path | None = None,
        *,
        accounts: tuple[str, ...] = ACCOUNTS,
        memory_mb: int = 4096,
        ports: tuple[int, int, int] = (0, 0, 0),
        log: Path | None = None,
        requests: bool = False,
    ) -> None:
        self._location, self._names, self._memory_mb, self._ports, self._log = (
            location,
            accounts,
            memory_mb,
            ports,
            log,
        )
        self._silent = [] if requests else ["--silent"]
        self._process: subprocess.Popen[str] | None = None
        self._urls: dict[str, str] = {}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def account(self, name: str) -> Account:
        assert name in self._names, name
        return Account(
            name,
            account_key(name),
            *(f"{self._urls[service]}/{name}" for service in ("Blob", "Queue", "Table")),
        )

    @property
    def billing(self) -> Account:
        return self.account("billing")

    @property
    def landing(self) -> Account:
        return self.account("landing")

    @property
    def funchost(self) -> Account:
        return self.account("funchost")

    @property
    def blob_origin(self) -> str:
        """`http://127.0.0.1:40001`: what SOURCE_ALLOWED names locally."""
        return self._urls["Blob"]

    def start(self, timeout: float = 60) -> "Azurite":
        if not (ROOT / "node_modules" / "azurite" / "package.json").exists():
            raise AzuriteError(
                "Azurite is not installed: run `make setup` (it needs Node 20 or newer)."
            )
        storage = (
            ["--location", str(self._location)]
            if self._location
            else ["--inMemoryPersistence", "--extentMemoryLimit", str(self._memory_mb)]
        )
        blob, queue_port, table = (str(port) for port in self._ports)
        if self._location:
            self._location.mkdir(parents=True, exist_ok=True)
        try:
            self._process = subprocess.Popen(
                [
                    "node",
                    "-e",
                    WATCHED,
                    "--",
                    *storage,
                    "--skipApiVersionCheck",
                    "--disableTelemetry",
                    *self._silent,
                    "--blobPort",
                    blob,
                    "--queuePort",
                    queue_port,
                    "--tablePort",
                    table,
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env={
                    **os.environ,
                    "AZURITE_ACCOUNTS": ";".join(
                        f"{name}:{account_key(name)}" for name in self._names
                    ),
                },
            )
        except FileNotFoundError:
            raise AzuriteError(
                "Node is not installed: Azurite, the storage emulator, needs Node 20 or newer."
            ) from None
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(
            target=self._drain, args=(lines,), name="azurite-output", daemon=True
        ).start()
        said: list[str] = []
        while len(self._urls) < 3:
            try:
                line = lines.get(timeout=timeout)
            except queue.Empty:
                line = None
            if line is None:
                self.stop()
                raise AzuriteError(
                    f"Azurite did not start: {' '.join(said)[-500:] or 'it printed nothing'}"
                )
            said.append(line.strip())
            if found := LISTENING.search(line):
                self._urls[found[1]] = found[2]
        return self

    def _drain(self, lines: "queue.SimpleQueue[str | None]") -> None:
        assert self._process is not None and self._process.stdout is not None
        log = self._log.open("a", encoding="utf-8") if self._log else None
        for line in self._process.stdout:
            if len(self._urls) < 3:
                lines.put(line)
            if log:
                log.write(line)
                log.flush()
        lines.put(None)
        if log:
            log.close()

    def stop(self) -> None:
        """Ends the emulator; harmless when it has ended."""
        if self._process is None:
            return
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process = None
        self._urls = {}

    def __enter__(self) -> "Azurite":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@contextmanager
def azurite() -> Iterator[Azurite]:
    """An emulator in memory on free ports."""
    with Azurite() as running:
        yield running
