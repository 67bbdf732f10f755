"""The worker is killed before and after every write that a landing makes, and another one goes on with what is left.

A write is an HTTP request that changes a table or a blob, so nothing can be forgotten here: the requests of an undisturbed
landing are counted, and each of them is then the last that a worker sends, or the first that it never sends.
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
    """`what`: "PUT data", "PUT catalogue", "MERGE runs", "POST blobs" ..., `path` and `status` of the answer."""

    what: str
    path: str
    status: int


class Gate:
    """Every write passes it. The one numbered `last` stands still, before it is sent or when it is answered, until a kill."""

    def __init__(self) -> None:
        self.written: list[Write] = []
        self.last, self.when, self.reached = 0, "", threading.Event()
        self.noticed: Callable[[], None] = lambda: None
        self._begun = 0

    def arm(self, last: int = 0, when: str = "") -> None:
        self.written.clear()
        self.last, self.when, self._begun = last, when, 0
        self.reached.clear()

    async def pass_through(self, request: Any, send: Any) -> Any:
        if request.method in READS:
            return await send
        self._begun += 1
        stands = self._begun == self.last
        if stands and self.when == "before":
            send.close()
            await self._stand_still()
        response = await send
        path = unquote(urlsplit(request.url).path)
        self.written.append(Write(f"{request.method} {kind_of(path)}", path, response.status_code))
        if stands:
            await self._stand_still()
        return response

    async def _stand_still(self) -> None:
        self.reached.set()
        self.noticed()
        await asyncio.Event().wait()


def kind_of(path: str) -> str:
    """The table's name, or data, catalogue, runs in the container."""
    for table in ("catalogue", "versions", "runs", "blobs", "locks", "$batch"):
        if path.split("(")[0].endswith(table):
            return table
    return next((part for part in path.split("/") if part in ("data", "catalogue", "runs")), path)


class GatedTransport(AioHttpTransport):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def send(self, request: Any, **options: Any) -> Any:
        return await self._gate.pass_through(request, super().send(request, **options))


GATE = Gate()


def gated(settings: Settings, clock: Any, locking: bool) -> Services:
    where = settings.landing_storage
    assert where is not None
    tables = Tables(
        settings.landing_table_prefix,
        connection_string=where.get_secret_value(),
        transport=GatedTransport(GATE),
    )
    ledger = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
    landing = LandingStore(
        container=settings.landing_container,
        clock=clock,
        connection_string=where.get_secret_value(),
        transport=GatedTransport(GATE),
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
    with AppEnvironment(azurite, state_dir=state, services_factory=gated) as env:
        yield env
        install(env.app)


def land(env: AppEnvironment, key: str, last: int = 0, when: str = "") -> dict[str, Any]:
    """One landing of new data; with `last`, its worker is killed at that write. What remains of it, times left out."""
    env.simulator.restate(key)
    GATE.arm(last, when)
    GATE.noticed = env.host.notify_changed  # so that run_until looks again
    request = create_run_request(env, key)
    env.host.start_orchestration("export_run", request, request["run_id"])
    if last:
        env.host.run_until(GATE.reached.is_set)
        env.restart()
    run = env.finish(request["run_id"])
    expected, key_of_run = env.simulator.expected(key), ExportKey.parse(key)
    blobs = env.on_loop(env.app.ledger.blobs.get_by_version(key_of_run, run["version"]))
    with get_container(env) as container:
        latest = json.loads(container.download_blob(latest_path(key_of_run)).readall())
        folder = version_path(key_of_run, run["version"]) + "/"
        there = {
            one.name.removeprefix(folder): container.download_blob(
                one.name, decompress=False
            ).readall()
            for one in container.list_blobs(name_starts_with=folder)
        }
    marker = json.loads(there.pop("_manifest.json"))
    assert there == {blob.name: blob.content for blob in expected.blobs}
    assert {blob["name"]: blob["sha256"] for blob in marker["blobs"]} == {
        name: hashlib.sha256(body).hexdigest() for name, body in there.items()
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


def times_written(path_part: str) -> Counter[str]:
    """How often each path that has the part in it was really written: 201, not a refused repetition."""
    return Counter(
        write.path for write in GATE.written if path_part in write.path and write.status == 201
    )


@pytest.fixture(scope="module")
def undisturbed(env: AppEnvironment) -> tuple[str, dict[str, Any], list[Write]]:
    key = f"billed_usage/{env.invoice_id}/full"
    env.simulator.fill(key, blobs=BLOBS, blob_bytes=4096)
    land(env, key)  # tables and container are made by the first
    state = land(env, key)
    return key, state, list(GATE.written)


def test_the_writes_of_a_landing(undisturbed: tuple[str, dict[str, Any], list[Write]]) -> None:
    """What the kills below go through; a step that is not here would not be tried."""
    _, state, written = undisturbed
    assert state["outcome"] == "landed" and state["blobs"] == {
        "total": BLOBS,
        "landed": BLOBS,
        "failed": 0,
    }
    what = Counter(write.what for write in written)
    assert (
        what["PUT data"] == BLOBS + 1 and what["POST $batch"] == BLOBS
    )  # blobs and marker; a row for each blob
    assert {"PUT catalogue", "PUT runs", "POST versions", "POST runs"} <= set(what)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_write(
    env: AppEnvironment, undisturbed: tuple[str, dict[str, Any], list[Write]], when: str
) -> None:
    """The same final state as undisturbed, and no blob is written twice, nor anything else below data/.

    Microsoft is asked once more than it takes by those who died between saying so and noting the answer, and it is counted.
    """
    key, expected, written = undisturbed
    posts = []
    for number, write in enumerate(written, start=1):
        state = land(env, key, number, when)
        posts.append(state.pop("posts"))
        assert state == {name: value for name, value in expected.items() if name != "posts"}, (
            number,
            when,
            write.what,
        )
        twice = {path: times for path, times in times_written("/data/").items() if times > 1}
        in_vain = [one for one in GATE.written if "/data/" in one.path and one.status == 409]
        # of a blob that was under way beside it the answer may be lost: then it is found there, at most once by a refusal
        assert not twice and len(in_vain) < BLOBS, (number, when, write.what, twice, in_vain)
    assert Counter(posts) == {1: len(written) - 1, 2: 1}
