"""What the tests of this tier share: hooks into activities and table writes, a kill of the host, and what must always hold."""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from azure.storage.blob import ContainerClient

from local.azurite import Azurite
from local.host import VirtualClock
from local.simulator.behaviour import Behaviour
from local.simulator.faults import Faults
from local.simulator.simulator import ExpectedExport
from shared.errors import get_remedy
from shared.exports import ExportKey
from shared.landing.layout import key_path
from shared.landing.store import LandingStore
from shared.ledger.catalogue import CatalogueEntry
from shared.ledger.keys import random_suffix
from shared.ledger.keys import run_id as run_id_of
from shared.ledger.ledger import Ledger
from shared.ledger.locks import Lock
from shared.ledger.tables import Tables
from shared.services import Services, install
from shared.settings import Settings
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.copier import Copier
from shared.transfer.manifest_cache import ManifestCache
from tests.support.world import TestClock, World

FAILED = ("incomplete", "failed", "timed_out")
BEHAVIOUR = Behaviour(
    retry_after_seconds=20
)  # a third of a minute between two looks: well above POLL_MIN_SECONDS

Call = Callable[..., Awaitable[Any]]
Hook = Callable[
    [str, str, str], None
]  # "before" or "after", the kind of write, the table or "landing"


class Killed(Exception):
    """The worker died here. Not one of the app's own errors: it leaves an activity as a fault of the platform."""


class HookedTables(Tables):
    """The real tables; `hook` is told of every write, before and after it, and may raise."""

    hook: Hook | None = None

    async def insert(self, table: str, *args: Any, **more: Any) -> Any:
        return await self._hooked("insert", table, super().insert(table, *args, **more))

    async def replace(self, table: str, *args: Any, **more: Any) -> Any:
        return await self._hooked("replace", table, super().replace(table, *args, **more))

    async def merge(self, table: str, *args: Any, **more: Any) -> Any:
        return await self._hooked("merge", table, super().merge(table, *args, **more))

    async def upsert_many(self, table: str, *args: Any, **more: Any) -> None:
        await self._hooked("upsert_all", table, super().upsert_many(table, *args, **more))

    async def _hooked(self, kind: str, table: str, write: Any) -> Any:
        try:
            if self.hook:
                self.hook("before", kind, table)
        except BaseException:
            write.close()
            raise
        written = await write
        if self.hook:
            self.hook("after", kind, table)
        return written


class HookedLanding(LandingStore):
    """The real landing; `hook` is told of every write of a small blob and every deletion, and may raise."""

    tables: HookedTables

    async def put_if_match(self, path: str, *args: Any, **more: Any) -> str | None:
        return await self._hooked("put_if_match", super().put_if_match(path, *args, **more))

    async def put(self, path: str, *args: Any, **more: Any) -> str:
        return str(await self._hooked("put", super().put(path, *args, **more)))

    async def delete(self, path: str, *args: Any, **more: Any) -> bool:
        return bool(await self._hooked("delete", super().delete(path, *args, **more)))

    async def _hooked(self, kind: str, write: Any) -> Any:
        return await self.tables._hooked(kind, "landing", write)


class PassingClock:
    """Virtual time passes for the monotonic clock too, so that what the app leaves alone for minutes is asked again then.

    It goes on in real time besides, because signatures expire in real time; what the app sleeps passes at once.
    """

    def __init__(self, virtual: VirtualClock) -> None:
        self._virtual, self._slept = virtual, 0.0

    def now(self) -> datetime:
        return self._virtual.now()

    def monotonic(self) -> float:
        return time.monotonic() + self._virtual.now().timestamp() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += seconds


def hooked_services(settings: Settings, test_clock: TestClock, locking: bool) -> Services:
    clock = PassingClock(test_clock.virtual)
    app = Services(settings, clock, locking)
    where = settings.landing_storage
    assert where is not None
    tables = HookedTables(settings.landing_table_prefix, connection_string=where.get_secret_value())
    app._parts["ledger"] = Ledger(tables, clock, hub=settings.task_hub_name, locking=locking)
    landing = HookedLanding(
        container=settings.landing_container,
        clock=clock,
        connection_string=where.get_secret_value(),
    )
    landing.tables = tables
    app._parts["landing"] = landing
    # no pause between two fetches of a manifest: whether a signature is renewed at once must not depend on the machine's speed
    app._parts["manifests"] = ManifestCache(app._fetch_manifest, clock, pause=0)
    app._parts["copier"] = Copier(
        app.landing, app.manifests, clock, limiter=ConcurrencyLimiter(clock, sleep=clock.sleep)
    )
    return app


def open_world(azurite: Azurite, **more: Any) -> World:
    """Blobs come through the storage proxy, and table writes can be hooked."""
    more = {"storage_proxy": True, "services": hooked_services, "behaviour": BEHAVIOUR, **more}
    return World(azurite, **more)


def as_before(world: World) -> None:
    """No faults, no hooks, the usual behaviour, and any pause that was asked for is over."""
    world.simulator.behaviour, world.simulator.faults = BEHAVIOUR, Faults()
    tables_of(world).hook = None
    world.host.advance(timedelta(minutes=10))


def tables_of(world: World) -> HookedTables:
    tables = world.app.ledger.tables
    assert isinstance(tables, HookedTables)
    return tables


@contextmanager
def around(world: World, name: str, wrap: Callable[[Call], Call]) -> Iterator[None]:
    """While it lasts, the host calls wrap(function) where it would call the app's function of that name."""
    index = world.host.functions._by_name
    function = index[name]
    index[name] = replace(
        function, call=wrap(function.call), wants_context=False
    )  # wrappers see what crosses, and nothing else
    try:
        yield
    finally:
        index[name] = function


def then(action: Callable[[], None], *, at: int = 1) -> Callable[[Call], Call]:
    """For around(): something happens before the so-manieth call."""
    calls = 0

    def wrap(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                await asyncio.to_thread(action)
            return await call(**arguments)

        return called

    return wrap


def blocked(world: World, reached: threading.Event, *, when: str) -> Callable[[Call], Call]:
    """For around(): the call stands still, before or after its work, until its host is killed."""

    def wrap(call: Call) -> Call:
        async def called(**arguments: Any) -> Any:
            if when == "after":
                await call(**arguments)
            reached.set()
            world.host._traffic.changed()  # so that a test which waits for it looks again
            await asyncio.Event().wait()

        return called

    return wrap


def twice(call: Call) -> Call:
    """An activity whose first result was lost: the queue hands it out again."""

    async def called(**arguments: Any) -> Any:
        await call(**json.loads(json.dumps(arguments)))
        return await call(**arguments)

    return called


def restart(world: World) -> None:
    """The process is killed and another one starts on the same state: nothing in memory survives."""
    world.host.stop(drain=False)
    old, world.app = world.app, world.make_services()
    world._exits.callback(world._close, world.app)
    install(world.app)
    world.on_loop(old.close())
    world.host = world.open_host()


def export_request(world: World, key: str, **more: Any) -> dict[str, Any]:
    """The input of export_run, as a trigger makes it; for runs that are started past the triggers."""
    now = world.clock.now()
    return {
        "run_id": run_id_of(ExportKey.parse(key), now, random_suffix()),
        "key": key,
        "force": False,
        "requested_by": "test",
        "limits": {
            "deadline": (now + timedelta(hours=24)).isoformat(),
            "max_rounds": 3,
            "max_concurrent_pages": 4,
        },
        **more,
    }


def fields_of(key: str) -> dict[str, Any]:
    """A key as the fields of POST /api/runs."""
    dataset, *scope, attribute_set = key.split("/")
    parts = (
        {"invoice_id": scope[0]}
        if len(scope) == 1
        else {"billing_month": scope[0], "currency_code": scope[1]}
    )
    return {"dataset": dataset, **parts, "attribute_set": attribute_set}


def lock_of(world: World, key: str) -> Lock | None:
    return world.on_loop(world.app.ledger.locks.get(key))


def catalogue_of(world: World, key: str) -> CatalogueEntry | None:
    return world.on_loop(world.app.ledger.catalogue.get(ExportKey.parse(key)))


def assert_ended(
    world: World, run: dict[str, Any], outcome: str, code: str | None = None, *, own: bool = True
) -> None:
    """Row, catalogue, lock and orchestration all say so. `own`: the run held its key at the end."""
    said = (run["outcome"], run["code"], run["stage"])
    assert said == (outcome, code, "ended"), said
    assert (
        run["remedy"] == (get_remedy(code) if code else None)
        and run["ended_at"]
        and run["next_check_at"] is None
    )
    entry = catalogue_of(world, run["key"])
    if own:
        assert entry is not None
        assert (entry.last_outcome, entry.last_code, entry.last_run_id) == (
            outcome,
            code or "",
            run["run_id"],
        )
    else:
        assert entry is None or entry.last_run_id != run["run_id"]
    lock = lock_of(world, run["key"])
    assert lock is None or lock.run_id == "" or (not own and lock.run_id != run["run_id"])
    status = world.host.status(run["run_id"])
    assert status is not None
    if outcome in FAILED:
        assert status["runtimeStatus"] == "Failed" and f"{outcome} ({code})" in str(
            status["output"]
        ), status
    else:
        assert status["runtimeStatus"] == "Completed" and status["output"]["outcome"] == outcome, (
            status
        )
    assert status["customStatus"]["stage"] == "ended"


def folders_of(world: World, key: str) -> dict[str, dict[str, Any]]:
    """What lies under data/ for the key: version folder -> name -> properties."""
    folders: dict[str, dict[str, Any]] = {}
    start = f"data/{key_path(ExportKey.parse(key))}/"
    with container_of(world) as container:
        if not container.exists():
            return {}
        for blob in container.list_blobs(name_starts_with=start):
            folder, slash, name = blob.name.removeprefix(start).partition("/")
            assert slash and folder.startswith("version=") and name, (
                f"{blob.name} lies beside the version folders"
            )
            folders.setdefault(folder, {})[name] = blob
    return folders


def container_of(world: World) -> ContainerClient:
    return ContainerClient.from_connection_string(
        world.azurite.landing.connection_string, world.name
    )


def download(world: World, path: str) -> bytes:
    with container_of(world) as container:
        return bytes(container.get_blob_client(path).download_blob(decompress=False).readall())


def assert_sound(world: World, key: str, *known: ExpectedExport) -> None:
    """Nothing wrong is shown as good, nothing is there twice: markers tell the truth and latest.json names a marked version.

    Every byte is compared where the folder is of one of the `known` exports; else size, count and eTag only.
    """
    folders, etags = folders_of(world, key), {export.etag: export for export in known}
    start = f"data/{key_path(ExportKey.parse(key))}/"
    marked: dict[str, str] = {}
    for folder, blobs in folders.items():
        if "_manifest.json" not in blobs:
            continue
        marker = _marker(world, f"{start}{folder}/_manifest.json", blobs["_manifest.json"].etag)
        marked[folder] = marker["etag"]
        assert {blob["name"]: blob["bytes"] for blob in marker["blobs"]} == {
            name: blob.size for name, blob in blobs.items() if name != "_manifest.json"
        }
        if expected := etags.get(marker["etag"]):
            content = {
                name: download(world, f"{start}{folder}/{name}")
                for name in blobs
                if name != "_manifest.json"
            }
            assert content == {blob.name: blob.content for blob in expected.blobs}
            assert {blob["name"]: blob["sha256"] for blob in marker["blobs"]} == {
                name: hashlib.sha256(body).hexdigest() for name, body in content.items()
            }
    by_force = {folder for folder in marked if folder.count("-") > 1}
    assert len({etag for folder, etag in marked.items() if folder not in by_force}) == len(
        marked.keys() - by_force
    )
    entry = catalogue_of(world, key)
    if not marked:
        assert entry is None or entry.version == ""
        return
    latest = json.loads(download(world, f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"))
    newest = latest["path"].rsplit("/", 1)[-1]
    assert marked[newest] == latest["etag"]
    assert entry is not None and entry.manifest_etag == latest["etag"]


_markers: dict[tuple[str, str, str], Any] = {}


def _marker(world: World, path: str, etag: str) -> Any:
    """Read once for each state of it."""
    known = (world.name, path, etag)
    if known not in _markers:
        _markers[known] = json.loads(download(world, path))
    return _markers[known]


def assert_landed(world: World, key: str, expected: ExpectedExport) -> None:
    """The version is shown as the newest, whole, byte for byte, and its proof is right."""
    assert_sound(world, key, expected)
    latest = json.loads(download(world, f"catalogue/{key_path(ExportKey.parse(key))}/latest.json"))
    assert latest["etag"] == expected.etag
    assert (latest["blobs"], latest["bytes"], latest["rows"]) == (
        len(expected.blobs),
        expected.bytes,
        expected.rows,
    )
