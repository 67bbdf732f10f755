"""Azurite, the storage emulator, as a child process with three accounts.

The accounts are `billing` (Microsoft's), `landing` (the partner's) and `funchost` (the Functions
host's). They share one process because Azurite supports server-side copies only between accounts
of the same process.

Azurite stops when its parent process ends for any reason: standard input of the wrapper closes, and
the wrapper then sends itself SIGTERM. On SIGTERM, Azurite flushes its stores; otherwise, the writes
of the last few seconds would be lost.
"""

import base64
import hashlib
import os
import queue
import re
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
ACCOUNTS = ("billing", "landing", "funchost")
LISTENING = re.compile(
    r"Azurite (Blob|Queue|Table) service is successfully listening at (http://[\d.]+:\d+)"
)
WRAPPER = """
process.argv.splice(1, 0, "azurite");
const end = () => {
    process.kill(process.pid, "SIGTERM");
    setTimeout(() => process.exit(0), 5000).unref();
};
process.stdin.on("end", end).on("error", end).resume();
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});
require("azurite/dist/src/azurite.js");
"""


class AzuriteError(Exception):
    """Azurite could not start. The message states what to do."""


@dataclass(frozen=True)
class Account:
    """A storage account in the emulator.

    `key` is base64-encoded and derived from the name; it is not a secret.
    """

    name: str
    key: str = field(repr=False)
    blob_url: str  # "http://127.0.0.1:40001/landing"
    queue_url: str
    table_url: str

    @property
    def connection_string(self) -> str:
        """The connection string with explicit endpoints for all three services."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.name};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
            f"TableEndpoint={self.table_url};"
        )


def account_key(name: str) -> str:
    """Return the account's key.

    The key depends only on the name, so that a later process can open the state on disk.
    """
    return base64.b64encode(hashlib.sha512(f"emulator account {name}".encode()).digest()).decode()


class Azurite:
    """An Azurite process. Use `with Azurite() as azurite:`, or `start()` and `stop()`.

    Args:
        location: The folder for the data. None keeps the data in memory.
        accounts: The account names.
        memory_mb: The limit for data in memory.
        ports: The ports of the blob, queue and table services. 0 selects a free port.
        log: The file to which Azurite's output is appended.
        requests: Whether the log contains a line for each request.
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
        self._location = location
        self._names = accounts
        self._memory_mb = memory_mb
        self._ports = ports
        self._log = log
        self._silent = [] if requests else ["--silent"]
        self._process: subprocess.Popen[str] | None = None
        self._urls: dict[str, str] = {}

    @property
    def pid(self) -> int:
        """The process ID."""
        assert self._process is not None
        return self._process.pid

    def account(self, name: str) -> Account:
        """Return an account by its name."""
        assert name in self._names, name
        return Account(
            name,
            account_key(name),
            *(f"{self._urls[service]}/{name}" for service in ("Blob", "Queue", "Table")),
        )

    @property
    def billing(self) -> Account:
        """Microsoft's account, from which exports are read."""
        return self.account("billing")

    @property
    def landing(self) -> Account:
        """The partner's account, to which exports are copied."""
        return self.account("landing")

    @property
    def funchost(self) -> Account:
        """The account of the Functions host (`AzureWebJobsStorage`)."""
        return self.account("funchost")

    @property
    def blob_origin(self) -> str:
        """The origin of the blob service, for example `http://127.0.0.1:40001`."""
        return self._urls["Blob"]

    def start(self, timeout: float = 60) -> "Azurite":
        """Start the process and return when all three services are listening.

        Raises:
            AzuriteError: Azurite or Node is not installed, or the process did not start.
        """
        storage = (
            ["--location", str(self._location.resolve())]
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
                    WRAPPER,
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
                cwd=ROOT / "local",  # Node searches for packages from the working directory
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
                "Node is not installed. Azurite, the storage emulator, requires Node 20 or newer."
            ) from None
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(
            target=self._drain, args=(lines,), name="azurite-output", daemon=True
        ).start()
        output: list[str] = []
        while len(self._urls) < 3:
            try:
                line = lines.get(timeout=timeout)
            except queue.Empty:
                line = None
            if line is None:
                self.stop()
                if any("Cannot find module 'azurite" in text for text in output):
                    raise AzuriteError("Azurite is not installed. Run `make setup`.")
                raise AzuriteError(
                    f"Azurite did not start. Output: {' '.join(output)[-500:] or 'none'}"
                )
            output.append(line.strip())
            if match := LISTENING.search(line):
                self._urls[match[1]] = match[2]
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
        """Stop the process; do nothing if it is not running."""
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
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
