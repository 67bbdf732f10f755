"""Hosts for the sample app, in this process or in a separate one, and their HTTP client."""

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from local.host import LocalHost, VirtualClock

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_APP = Path(__file__).parent / "sample_app"
MANAGEMENT_PATH = "/runtime/webhooks/durabletask"
START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = {
    "SAMPLE_HUB": "Sample",
    "SAMPLE_SCHEDULE": "0 0 0 1 1 *",
    "SAMPLE_VALUE": "from settings",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1",
}
T = TypeVar("T")


@dataclass
class HttpResponse:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HostClient:
    """An HTTP client for a local host: the routes of the sample app and the management API."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def request(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> HttpResponse:
        """Send one request over a network connection.

        Bytes in `content` are sent unchanged; any other value is sent as JSON.
        """
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=30)
        body, all_headers = content, dict(headers or {})
        if content is not None and not isinstance(content, bytes):
            body = json.dumps(content).encode()
            all_headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, all_headers)
            response = connection.getresponse()
            return HttpResponse(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def start_orchestration(
        self, name: str, content: Any = None, instance_id: str | None = None
    ) -> str:
        """Start an orchestration through the sample app's route and return its instance ID."""
        path = f"/api/start/{name}" + (f"/{instance_id}" if instance_id else "")
        response = self.request("POST", path, content)
        assert response.status == 202, response
        return str(response.json()["id"])

    def manage(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> HttpResponse:
        """Send a request to the management API."""
        return self.request(method, f"{MANAGEMENT_PATH}/{path}", content, headers)

    def get_status(self, instance_id: str, query: str = "") -> Any:
        return self.manage("GET", f"instances/{instance_id}{query}").json()

    def raise_event(self, instance_id: str, name: str, data: Any) -> int:
        """Raise an event through the management API and return the HTTP status."""
        path = f"instances/{instance_id}/raiseEvent/{name}"
        return self.manage("POST", path, data).status


def create_sample_host(**options: Any) -> LocalHost:
    """Create a host for the sample app, by default with a virtual clock, without starting it."""
    settings = SETTINGS | options.pop("settings", {})
    return LocalHost(SAMPLE_APP, settings=settings, **{"clock": VirtualClock(START), **options})


class HostProcess:
    """A running `python -m local.host`, by default with the sample app."""

    def __init__(
        self,
        state_dir: Path,
        *options: str,
        settings: dict[str, str] | None = None,
        app: Path = SAMPLE_APP,
    ) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "local.host",
                "--app-root",
                str(app),
                "--port",
                "0",
                "--state-dir",
                str(state_dir),
                *options,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | SETTINGS | (settings or {}),
        )
        self.output_lines: list[str] = []
        self.log_lines: list[str] = []
        self._url: str | None = None
        self._output_queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._line_added = threading.Condition()
        self._readers = [
            threading.Thread(
                target=self._read,
                args=(self._process.stdout, self.output_lines, self._output_queue),
                daemon=True,
            ),
            threading.Thread(
                target=self._read, args=(self._process.stderr, self.log_lines, None), daemon=True
            ),
        ]
        for reader in self._readers:
            reader.start()

    def _read(
        self,
        stream: Any,
        lines: list[str],
        line_queue: "queue.SimpleQueue[str | None] | None",
    ) -> None:
        for line in stream:
            with self._line_added:
                lines.append(line)
                self._line_added.notify_all()
            if line_queue:
                line_queue.put(line)
        if line_queue:
            line_queue.put(None)

    def url(self) -> str:
        """Wait until the host accepts connections and return its base URL."""
        if self._url is None:
            self._url = self._wait_for_url()
        return self._url

    def _wait_for_url(self) -> str:
        while (line := self._output_queue.get(timeout=30)) is not None:
            if line.startswith("Listening on "):
                return line.removeprefix("Listening on ").strip()
        raise AssertionError(f"The host did not start: {''.join(self.log_lines)}")

    def wait_for_log(self, check: Callable[[list[str]], T | None]) -> T:
        """Return the first true result of `check`, which is called again after each log line.

        The host logs a line after each step of an orchestration.
        """
        deadline = time.monotonic() + 30
        while True:
            line_count = len(self.log_lines)
            if result := check(self.log_lines):
                return result
            with self._line_added:
                remaining_seconds = deadline - time.monotonic()
                assert self._line_added.wait_for(
                    lambda line_count=line_count: len(self.log_lines) > line_count,
                    remaining_seconds,
                ), "".join(self.log_lines)

    def wait_for_completion(self, instance_id: str) -> dict[str, Any]:
        """Wait until an orchestration has ended and return its status."""
        client = HostClient(self.url())

        def get_final_status(_: list[str]) -> dict[str, Any] | None:
            status: dict[str, Any] = client.get_status(instance_id)
            return None if status["runtimeStatus"] in ("Pending", "Running") else status

        return self.wait_for_log(get_final_status)

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until the process has ended and return its exit code."""
        exit_code = self._process.wait(30)
        for reader in self._readers:
            reader.join(10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return exit_code

    def kill(self) -> int:
        if self._process.poll() is None:
            self.send_signal(signal.SIGKILL)
        return self.wait()
