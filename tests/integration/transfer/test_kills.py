"""Kills the worker before and after each write of a run.

A write is an HTTP request that changes a table or a blob. The writes of an undisturbed run are
counted. In each further run, the worker is killed before or after one of these writes, and
another worker completes the run.
"""

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from azure.core.pipeline.transport import AioHttpTransport

from local.azurite import Azurite
from shared.exports import ExportKey
from shared.landing.layout import latest_path, version_path
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.services import Services, install
from shared.settings import Settings
from tests.support.app_environment import AppEnvironment
from tests.support.run_state import create_run_request, get_catalogue_entry, get_container, get_lock

BLOBS = 2
READS = ("GET", "HEAD")


@dataclass(frozen=True)
class Write:
    """A write request and its response.

    Attributes:
        kind: The method and the target, for example "PUT data" or "MERGE runs".
        path: The path of the URL.
        status: The status code of the response.
    """

    kind: str
    path: str
    status: int


class WriteGate:
    """Lets writes through, and blocks one of them until the worker is killed.

    Attributes:
        writes: The completed writes.
        blocked_number: The number of the write to block, starting at 1; 0 blocks none.
        when: "before" to block the request, "after" to block its response.
        reached: Set when the write is blocked.
        on_reached: Called when the write is blocked.
    """

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.blocked_number, self.when, self.reached = 0, "", threading.Event()
        self.on_reached: Callable[[], None] = lambda: None
        self._started = 0

    def arm(self, blocked_number: int = 0, when: str = "") -> None:
        self.writes.clear()
        self.blocked_number, self.when, self._started = blocked_number, when, 0
        self.reached.clear()

    async def forward(self, request: Any, send: Any) -> Any:
        """Await `send`, which sends the request, unless the write is blocked."""
        if request.method in READS:
            return await send
        self._started += 1
        is_blocked = self._started == self.blocked_number
        if is_blocked and self.when == "before":
            send.close()
            await self._block()
        response = await send
        path = unquote(urlsplit(request.url).path)
        self.writes.append(
            Write(f"{request.method} {get_target(path)}", path, response.status_code)
        )
        if is_blocked:
            await self._block()
        return response

    async def _block(self) -> None:
        self.reached.set()
        self.on_reached()
        await asyncio.Event().wait()


def get_target(path: str) -> str:
    """Return the name of the table, or the top-level folder in the container."""
    for table in ("catalogue", "versions", "runs", "blobs", "locks", "$batch"):
        if path.split("(")[0].endswith(table):
            return table
    return next((part for part in path.split("/") if part in ("data", "catalogue", "runs")), path)


class GatedTransport(AioHttpTransport):
    """An Azure SDK transport that sends requests through a WriteGate."""

    def __init__(self, gate: WriteGate) -> None:
        super().__init__()
        self._gate = gate

    async def send(self, request: Any, **options: Any) -> Any:
        return await self._gate.forward(request, super().send(request, **options))


WRITE_GATE = WriteGate()


def create_gated_services(settings: Settings, clock: Any, locking: bool) -> Services:
    connection_string = settings.landing_storage
    assert connection_string is not None
    tables = Tables(
        settings.landing_table_prefix,
        connection_string=connection_string.get_secret_value(),
        transport=GatedTransport(WRITE_GATE),
    )
    ledger = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
    landing = LandingStore(
        container=settings.landing_container,
        clock=clock,
        connection_string=connection_string.get_secret_value(),
        transport=GatedTransport(WRITE_GATE),
    )
    return Services(
        settings,
        clock,
        locking,
        overrides={"ledger": lambda app: ledger, "landing": lambda app: landing},
    )


@pytest.fixture(scope="module")
def env(azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppEnvironment]:
    state = tmp_path_factory.mktemp("host")
    with AppEnvironment(azurite, state_dir=state, services_factory=create_gated_services) as env:
        yield env
        install(env.app)


def run_export(
    env: AppEnvironment, key: str, blocked_number: int = 0, when: str = ""
) -> dict[str, Any]:
    """Run an export with new data, and return its result without times.

    With `blocked_number`, the worker is killed at that write, and another worker completes the run.
    """
    env.simulator.restate(key)
    WRITE_GATE.arm(blocked_number, when)
    WRITE_GATE.on_reached = env.host.notify_changed
    request = create_run_request(env, key)
    env.host.start_orchestration("export_run", request, request["run_id"])
    if blocked_number:
        env.host.run_until(WRITE_GATE.reached.is_set)
        env.restart()
    run = env.finish(request["run_id"])
    expected, export_key = env.simulator.expected(key), ExportKey.parse(key)
    blobs = env.on_loop(env.app.ledger.blobs.get_by_version(export_key, run["version"]))
    with get_container(env) as container:
        latest = json.loads(container.download_blob(latest_path(export_key)).readall())
        folder = version_path(export_key, run["version"]) + "/"
        files = {
            blob.name.removeprefix(folder): container.download_blob(
                blob.name, decompress=False
            ).readall()
            for blob in container.list_blobs(name_starts_with=folder)
        }
    marker = json.loads(files.pop("_manifest.json"))
    assert files == {blob.name: blob.content for blob in expected.blobs}
    assert {blob["name"]: blob["sha256"] for blob in marker["blobs"]} == {
        name: hashlib.sha256(body).hexdigest() for name, body in files.items()
    }
    assert latest["etag"] == marker["etag"] == expected.etag and latest["path"] + "/" == folder
    entry, lock = get_catalogue_entry(env, key), get_lock(env, key)
    assert entry is not None and (entry.version, entry.last_run_id) == (
        run["version"],
        run["run_id"],
    )
    assert lock is not None and lock.run_id == ""
    return {
        "outcome": run["outcome"],
        "code": run["code"],
        "blobs": run["blobs"],
        "posts": run["posts"],
        "rows": run["rows"] - expected.rows,
        "bytes": run["bytes"] - expected.bytes,
        "proven": [row.ok for row in blobs.values()],
    }


def count_writes(path_part: str) -> Counter[str]:
    """Return how often each path that contains the given part was created (status 201)."""
    return Counter(
        write.path for write in WRITE_GATE.writes if path_part in write.path and write.status == 201
    )


@pytest.fixture(scope="module")
def undisturbed_run(env: AppEnvironment) -> tuple[str, dict[str, Any], list[Write]]:
    key = f"billed_usage/{env.invoice_id}/full"
    env.simulator.fill(key, blobs=BLOBS, blob_bytes=4096)
    run_export(env, key)  # the first run creates the tables and the container
    state = run_export(env, key)
    return key, state, list(WRITE_GATE.writes)


def test_undisturbed_run_writes_every_kind(
    undisturbed_run: tuple[str, dict[str, Any], list[Write]],
) -> None:
    """The next test kills the worker at these writes, so they must include every kind."""
    _, state, writes = undisturbed_run
    assert state["outcome"] == "landed" and state["blobs"] == {
        "total": BLOBS,
        "landed": BLOBS,
        "failed": 0,
    }
    counts = Counter(write.kind for write in writes)
    # The data includes a marker; each blob has a row.
    assert counts["PUT data"] == BLOBS + 1 and counts["POST $batch"] == BLOBS
    assert {"PUT catalogue", "PUT runs", "POST versions", "POST runs"} <= set(counts)


@pytest.mark.parametrize("when", ["before", "after"])
def test_run_killed_at_every_write_has_same_result(
    env: AppEnvironment, undisturbed_run: tuple[str, dict[str, Any], list[Write]], when: str
) -> None:
    """The final state is that of an undisturbed run, and no blob under data/ is written twice.

    One kill requires a second POST to Graph: the kill between Graph's response and the write that
    records it.
    """
    key, expected, writes = undisturbed_run
    posts = []
    for number, write in enumerate(writes, start=1):
        state = run_export(env, key, number, when)
        posts.append(state.pop("posts"))
        assert state == {name: value for name, value in expected.items() if name != "posts"}, (
            number,
            when,
            write.kind,
        )
        repeated = {path: times for path, times in count_writes("/data/").items() if times > 1}
        refused = [
            write for write in WRITE_GATE.writes if "/data/" in write.path and write.status == 409
        ]
        # The response for a concurrently copied blob might be lost; the repeated request is
        # rejected once.
        assert not repeated and len(refused) < BLOBS, (number, when, write.kind, repeated, refused)
    assert Counter(posts) == {1: len(writes) - 1, 2: 1}
