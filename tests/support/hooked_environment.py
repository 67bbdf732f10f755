"""An environment whose writes and functions tests can intercept."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from local.azurite import Azurite
from local.host import VirtualClock
from local.simulator.behaviour import Behaviour
from local.simulator.faults import Faults
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.services import Services
from shared.settings import Settings
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.copier import Copier
from shared.transfer.manifest_cache import ManifestCache
from tests.support.app_environment import AppEnvironment, TestClock

BEHAVIOUR = Behaviour(retry_after_seconds=20)  # well above POLL_MIN_SECONDS

Call = Callable[..., Awaitable[Any]]
# Called with "before" or "after", the method, and the table or "landing".
WriteHook = Callable[[str, str, str], None]


class WorkerKilledError(Exception):
    """Simulates the end of the worker process, which is a platform fault and not an app error."""


class HookedTables(Tables):
    """Tables that call `hook` before and after each write; the hook can raise."""

    hook: WriteHook | None = None

    async def insert(self, table: str, *args: Any, **kwargs: Any) -> Any:
        return await self.call_hook("insert", table, super().insert(table, *args, **kwargs))

    async def replace(self, table: str, *args: Any, **kwargs: Any) -> Any:
        return await self.call_hook("replace", table, super().replace(table, *args, **kwargs))

    async def merge(self, table: str, *args: Any, **kwargs: Any) -> Any:
        return await self.call_hook("merge", table, super().merge(table, *args, **kwargs))

    async def upsert_many(self, table: str, *args: Any, **kwargs: Any) -> None:
        await self.call_hook("upsert_many", table, super().upsert_many(table, *args, **kwargs))

    async def call_hook(self, kind: str, table: str, write: Any) -> Any:
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
    """A landing store that calls the hook of `tables` for small blobs and deletions."""

    tables: HookedTables

    async def put_if_match(self, path: str, *args: Any, **kwargs: Any) -> str | None:
        return await self.call_hook("put_if_match", super().put_if_match(path, *args, **kwargs))

    async def put(self, path: str, *args: Any, **kwargs: Any) -> str:
        return str(await self.call_hook("put", super().put(path, *args, **kwargs)))

    async def delete(self, path: str, *args: Any, **kwargs: Any) -> bool:
        return bool(await self.call_hook("delete", super().delete(path, *args, **kwargs)))

    async def call_hook(self, kind: str, write: Any) -> Any:
        return await self.tables.call_hook(kind, "landing", write)


class AdvancingClock:
    """A clock whose monotonic time includes virtual time, and whose `sleep` returns at once.

    It also advances in real time, because the emulator's signatures expire in real time.
    """

    def __init__(self, virtual: VirtualClock) -> None:
        self._virtual, self._slept = virtual, 0.0

    def now(self) -> datetime:
        return self._virtual.now()

    def monotonic(self) -> float:
        return time.monotonic() + self._virtual.now().timestamp() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += seconds


def create_hooked_services(settings: Settings, test_clock: TestClock, locking: bool) -> Services:
    """Create services with hooked stores and without real pauses."""
    clock = AdvancingClock(test_clock.virtual)
    storage = settings.landing_storage
    assert storage is not None
    connection_string = storage.get_secret_value()
    tables = HookedTables(settings.landing_table_prefix, connection_string=connection_string)
    landing = HookedLanding(
        container=settings.landing_container, clock=clock, connection_string=connection_string
    )
    landing.tables = tables
    return Services(
        settings,
        clock,
        locking,
        overrides={
            "ledger": lambda app: Ledger(
                tables, clock, hub=settings.task_hub_name, locking=locking
            ),
            "landing": lambda app: landing,
            # Whether a signature is renewed must not depend on the speed of the machine.
            "manifests": lambda app: ManifestCache(
                app.fetch_manifest, clock, min_fetch_interval_seconds=0
            ),
            "copier": lambda app: Copier(
                app.landing,
                app.manifests,
                clock,
                limiter=ConcurrencyLimiter(clock, sleep=clock.sleep),
            ),
        },
    )


def open_hooked_environment(azurite: Azurite, **options: Any) -> AppEnvironment:
    """Create an environment with hooked stores and with source blobs behind the storage proxy."""
    defaults = {
        "storage_proxy": True,
        "services_factory": create_hooked_services,
        "behaviour": BEHAVIOUR,
    }
    return AppEnvironment(azurite, **(defaults | options))


def reset_environment(env: AppEnvironment) -> None:
    """Remove faults and hooks, restore the behaviour, and wait until any throttling ends."""
    env.simulator.behaviour, env.simulator.faults = BEHAVIOUR, Faults()
    get_hooked_tables(env).hook = None
    env.host.advance(timedelta(minutes=10))


def get_hooked_tables(env: AppEnvironment) -> HookedTables:
    """Return the tables of an environment that `open_hooked_environment` created."""
    tables = env.app.ledger.tables
    assert isinstance(tables, HookedTables)
    return tables


@contextmanager
def wrap_function(
    env: AppEnvironment, name: str, wrapper: Callable[[Call], Call]
) -> Iterator[None]:
    """Replace a function of the app with `wrapper(function)` while the context is open."""
    function = env.host.functions.find(name)
    assert function is not None
    # Wrappers do not receive the context; they receive only what is serialized.
    with env.host.functions.override(name, call=wrapper(function.call), wants_context=False):
        yield


def run_before_call(action: Callable[[], None], *, nth: int = 1) -> Callable[[Call], Call]:
    """Return a wrapper that runs `action` before the nth call."""
    calls = 0

    def wrap(call: Call) -> Call:
        async def wrapped(**arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth:
                await asyncio.to_thread(action)
            return await call(**arguments)

        return wrapped

    return wrap


def block_call(
    env: AppEnvironment, reached: threading.Event, *, when: str
) -> Callable[[Call], Call]:
    """Return a wrapper that sets `reached` and blocks until the host is killed.

    It blocks "before" or "after" the work of the function.
    """

    def wrap(call: Call) -> Call:
        async def wrapped(**arguments: Any) -> Any:
            if when == "after":
                await call(**arguments)
            reached.set()
            env.host.notify_changed()
            await asyncio.Event().wait()

        return wrapped

    return wrap


def call_twice(call: Call) -> Call:
    """Wrap an activity so that it runs twice, as it does after a lost result."""

    async def wrapped(**arguments: Any) -> Any:
        await call(**json.loads(json.dumps(arguments)))
        return await call(**arguments)

    return wrapped
