"""Fixtures of the host's tests: the sample app in process on virtual time, and as a process of its own."""

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from local.host import LocalHost, VirtualClock

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_APP = Path(__file__).parent / "sample_app"
Found = TypeVar("Found")
START = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = {
    "SAMPLE_HUB": "Sample",
    "SAMPLE_SCHEDULE": "0 0 0 1 1 *",
    "SAMPLE_VALUE": "from settings",
    "AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1",
}


@dataclass
class HttpResult:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def call(
    base_url: str,
    method: str,
    path: str,
    content: Any = None,
    headers: dict[str, str] | None = None,
) -> HttpResult:
    """One request over a real connection. `content` is sent as JSON, bytes as they are."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=30)
    body, all_headers = content, dict(headers or {})
    if content is not None and not isinstance(content, bytes):
        body = json.dumps(content).encode()
        all_headers.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body, all_headers)
        response = connection.getresponse()
        return HttpResult(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


MANAGEMENT = "/runtime/webhooks/durabletask"


class Web:
    """What a caller outside the host does: start by the app's route, the rest by the management API."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def call(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> HttpResult:
        return call(self.base_url, method, path, content, headers)

    def start(self, name: str, content: Any = None, instance_id: str | None = None) -> str:
        answer = self.call(
            "POST", f"/api/start/{name}" + (f"/{instance_id}" if instance_id else ""), content
        )
        assert answer.status == 202, answer
        return str(answer.json()["id"])

    def manage(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> HttpResult:
        return self.call(method, f"{MANAGEMENT}/{path}", content, headers)

    def status(self, instance_id: str, query: str = "") -> Any:
        return self.manage("GET", f"instances/{instance_id}{query}").json()

    def event(self, instance_id: str, name: str, data: Any) -> int:
        return self.manage("POST", f"instances/{instance_id}/raiseEvent/{name}", data).status


def sample_host(**options: Any) -> LocalHost:
    settings = SETTINGS | options.pop("settings", {})
    return LocalHost(SAMPLE_APP, settings=settings, **{"clock": VirtualClock(START), **options})


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    with sample_host() as running:
        yield running


@pytest.fixture
def web(host: LocalHost) -> Web:
    return Web(host.base_url)


class HostProcess:
    """`python -m local.host` with the sample app."""

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
        self.said: list[str] = []
        self.logged: list[str] = []
        self._url: str | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._logs_more = threading.Condition()
        self._readers = [
            threading.Thread(
                target=self._read, args=(self._process.stdout, self.said, self._lines), daemon=True
            ),
            threading.Thread(
                target=self._read, args=(self._process.stderr, self.logged, None), daemon=True
            ),
        ]
        for reader in self._readers:
            reader.start()

    def _read(
        self, stream: Any, kept: list[str], lines: "queue.SimpleQueue[str | None] | None"
    ) -> None:
        for line in stream:
            with self._logs_more:
                kept.append(line)
                self._logs_more.notify_all()
            if lines:
                lines.put(line)
        if lines:
            lines.put(None)

    def url(self) -> str:
        if self._url is None:
            self._url = self._find_url()
        return self._url

    def _find_url(self) -> str:
        while (line := self._lines.get(timeout=30)) is not None:
            if line.startswith("Listening on "):
                return line.removeprefix("Listening on ").strip()
        raise AssertionError(f"the host did not start: {''.join(self.logged)}")

    def wait_for_log(self, done: Callable[[list[str]], Found | None]) -> Found:
        """The first true value of `done`, which is asked again whenever the host has logged a line: after each step, that is."""
        deadline = time.monotonic() + 30
        while True:
            seen = len(self.logged)
            if found := done(self.logged):
                return found
            with self._logs_more:
                left = deadline - time.monotonic()
                assert self._logs_more.wait_for(lambda seen=seen: len(self.logged) > seen, left), (
                    "".join(self.logged)
                )

    def wait_for_end(self, instance_id: str) -> dict[str, Any]:
        """Of an instance; its status."""
        web = Web(self.url())

        def ended(_: list[str]) -> dict[str, Any] | None:
            status: dict[str, Any] = web.status(instance_id)
            return None if status["runtimeStatus"] in ("Pending", "Running") else status

        return self.wait_for_log(ended)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        code = self._process.wait(30)
        for reader in self._readers:
            reader.join(10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return code

    def kill(self) -> int:
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        return self.wait()


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., HostProcess]]:
    started: list[HostProcess] = []

    def start(
        *options: str, settings: dict[str, str] | None = None, app: Path = SAMPLE_APP
    ) -> HostProcess:
        started.append(HostProcess(tmp_path / "state", *options, settings=settings, app=app))
        return started[-1]

    yield start
    for process in started:
        process.kill()
