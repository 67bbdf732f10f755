"""`LocalHost`: all parts put together, for the command line and for tests."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from azure.functions import FunctionRegister

from . import sdk_patches
from .calls import FunctionInvoker
from .client_binding import client_binding_json
from .clock import Clock, SystemClock
from .commands import Commands
from .descriptions import format_functions
from .digest import status_body
from .engine import Engine, Limits
from .errors import FunctionFailedError, HostError
from .functions import FunctionIndex, index_app, load_app, temporary_module_name
from .history import Event
from .http_messages import HostRequest, HostResponse
from .invocation import Invoker
from .isolation import Isolation
from .management import Management
from .records import Filter
from .request_router import RequestRouter
from .schedules import Schedules
from .server import Server
from .settings import environment, read_host_json, read_local_settings
from .state_dir import StateDir
from .steps import StepPlanner
from .store import Store
from .timestamps import to_micros
from .traffic import Traffic
from .user_loop import UserLoop
from .waiting import Found, Waiting
from .worker import Worker

log = logging.getLogger(__name__)
DRAIN_TIMEOUT_SECONDS = 30.0
REQUEST_TIMEOUT_SECONDS = 120.0


class LocalHost:
    """A running Functions and Durable host. Use it as a context manager, or call `start` and `stop`.

    `app`: the app's folder (with function_app.py and host.json), or an app object (then `host_json` may be given).
    `state_dir`: where the state is kept; None keeps it in memory.
    `clock`: a `VirtualClock` makes timers cost nothing; it moves only while `wait`, `run_until` or `advance` waits.
    `early_timers`: durable timers fire up to a second early, as they do in Azure.
    `port`: 0 takes a free one. `listen` None opens it only if a function uses the durable client.
    `settings`: environment variables for as long as the host lives; they win over local.settings.json and the environment.
    `timers`: False leaves timer triggers to `fire_timer`.
    `isolated`: the app runs in a worker process of its own; needs a folder. None runs it in this process.
    `failed` is called, with the reason, when the host can do no more: its database cannot be written, or its worker process
    cannot be started again. `failure` is that reason.
    `serial`: one activity or episode at a time; on a virtual clock a run then repeats event for event.
    """

    def __init__(
        self,
        app: Path | str | FunctionRegister,
        *,
        state_dir: Path | str | None = None,
        clock: Clock | None = None,
        early_timers: bool = False,
        port: int = 0,
        listen: bool | None = None,
        settings: Mapping[str, str] | None = None,
        host_json: Mapping[str, Any] | Path | None = None,
        timers: bool = True,
        serial: bool = False,
        isolated: Isolation | None = None,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self._app, self._state_path = app, Path(state_dir) if state_dir is not None else None
        self.clock: Clock = clock or SystemClock()
        self._early_timers, self._port, self._listen, self._timers = (
            early_timers,
            port,
            listen,
            timers,
        )
        self._settings, self._host_json, self._serial = dict(settings or {}), host_json, serial
        self._isolated, self._on_failure = isolated, on_failure
        self.failure: str | None = None
        self._exits = ExitStack()
        self._stop_lock = threading.Lock()
        self._started = False
        self._traffic = Traffic()
        self._worker: Worker | None = None

    # -- life -----------------------------------------------------------------

    def start(self) -> "LocalHost":
        try:
            self._build()
        except BaseException:
            self._exits.close()
            raise
        self._started = True
        return self

    def _build(self) -> None:
        root = Path(self._app).resolve() if isinstance(self._app, (str, Path)) else None
        defaults = read_local_settings(root / "local.settings.json") if root else {}
        self._exits.enter_context(environment(defaults, self._settings))
        options = read_host_json(
            self._host_json if root is None else root / "host.json", os.environ
        )
        self.hub_name, self.function_timeout = options.hub_name, options.function_timeout
        self._server = Server()

        def binding() -> str:
            return (
                client_binding_json(self.base_url, options.hub_name, options.connection_name)
                if self._server.port
                else ""
            )

        self._invoker: FunctionInvoker
        if self._isolated is not None and root is not None:
            self._store = self._open_store(options.hub_name)
            self._worker = self._invoker = self._isolated.worker(root, options, binding, self._fail)
            self._exits.callback(self._worker.stop, abandon=True)
            self.functions: FunctionIndex = self._worker.functions
        else:
            self.functions = self._index(root, options.route_prefix)
            self._store = self._open_store(options.hub_name)
            self._invoker = self._in_process(root or Path.cwd(), binding)
        timers = self.functions.list_by_trigger("timerTrigger")
        self._schedules = Schedules(
            timers,
            store=self._store,
            invoker=self._invoker,
            clock=self.clock,
            traffic=self._traffic,
            active=self._timers,
            early=self._early_timers,
        )
        self._engine = Engine(
            store=self._store,
            functions=self.functions,
            invoker=self._invoker,
            clock=self.clock,
            limits=Limits(options.max_activities, options.max_orchestrators, self._serial),
            versions=options.versions,
            planner=StepPlanner(options.versions.current, self._early_timers),
            schedules=self._schedules,
            traffic=self._traffic,
        )
        self._waiting = Waiting(self._engine, self._store, self.clock, self._traffic)
        self._commands = Commands(
            self._store,
            self._engine,
            self.functions,
            self.clock,
            self._traffic,
            options.versions.current,
        )
        management = Management(
            self._commands,
            self._store,
            options.hub_name,
            options.connection_name,
            self._waiting.wait_for_end,
        )
        self._request_router = RequestRouter(
            functions=self.functions,
            invoker=self._invoker,
            management=management,
            schedules=self._schedules,
            traffic=self._traffic,
        )
        self._server.start()
        self._exits.callback(self._server.stop)
        if self._listen or (self._listen is None and self.functions.uses_durable_client):
            self._server.listen(self._request_router, self._port)
            if self._state is not None:
                self._state.announce(self.base_url)
        if self._worker is not None:
            self._worker.start()
        self._engine.start()

    def notify_changed(self) -> None:
        """Make `run_until` evaluate its condition again."""
        self._traffic.changed()

    def _fail(self, reason: str) -> None:
        self.failure = reason
        log.error("%s", reason)
        if self._on_failure is not None:
            self._on_failure(reason)
        self._traffic.changed()

    def _index(self, root: Path | None, route_prefix: str) -> FunctionIndex:
        sdk_patches.install()
        return index_app(self._load(root), os.environ, route_prefix)

    def _in_process(self, root: Path, binding: Callable[[], str]) -> Invoker:
        user_loop = UserLoop.shared()
        user_loop.enter()
        self._exits.callback(user_loop.leave)
        return Invoker(user_loop, root, binding)

    def _load(self, root: Path | None) -> FunctionRegister:
        if root is None:
            assert isinstance(self._app, FunctionRegister)
            return self._app
        path = str(root)
        sys.path.insert(0, path)
        self._exits.callback(sys.path.remove, path)
        self._exits.enter_context(temporary_module_name())
        return load_app(root)

    def _open_store(self, hub_name: str) -> Store:
        self._state = StateDir(self._state_path) if self._state_path is not None else None
        if self._state is not None:
            self._exits.callback(self._state.release)
        store = Store(
            self._state.database(hub_name) if self._state else None,
            lambda: to_micros(self.clock.now()),
            self._fail,
        )
        self._exits.callback(store.close)
        return store

    def stop(self, *, drain: bool = True, timeout: float = DRAIN_TIMEOUT_SECONDS) -> bool:
        """Ends the host. `drain` False is the in-process likeness of a kill: what runs is cut off, its result not written.

        False: something did not end in time; it runs again at the next start.
        """
        with self._stop_lock:
            if not self._started:
                return True
            self._started = False
        drained = drain
        self._request_router.stopping = True
        if drain:  # the management API goes on answering: what still runs may need it
            deadline = time.monotonic() + timeout
            drained = self._engine.stop(drain=True, timeout=timeout)
            drained = (
                self._traffic.wait_until_quiet(max(0.0, deadline - time.monotonic())) and drained
            )
        else:
            self._store.close()
            self._engine.stop(drain=False, timeout=0)
        self._invoker.stop(abandon=not drained)
        self._exits.close()
        return drained or not drain

    def __enter__(self) -> "LocalHost":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(drain=error is None)

    # -- looking --------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:41234`; an error if no port is open."""
        if self._server.port is None:
            raise HostError(
                "This host has no port open: no function uses the durable client. Start it with listen=True."
            )
        return f"http://127.0.0.1:{self._server.port}"

    def status(self, instance_id: str) -> dict[str, Any] | None:
        """The status body of the management API, or None."""
        instance = self._store.instance(instance_id)
        return status_body(instance) if instance else None

    def history(self, instance_id: str) -> list[Event]:
        """The raw events of the present execution, as the orchestrator gets them; empty for an unknown instance."""
        instance = self._store.instance(instance_id)
        return (
            [json.loads(text) for text in self._store.history(instance_id, instance.execution_id)]
            if instance
            else []
        )

    def instances(self) -> list[dict[str, Any]]:
        """All instances, in the order of their ids."""
        return [status_body(instance) for instance in self._store.instances(Filter())]

    def list_functions(self) -> list[str]:
        """The list that the command line prints: a line for each HTTP and timer trigger, one for all of each other kind."""
        return format_functions(self.functions, self.base_url if self._server.port else "")

    # -- acting ---------------------------------------------------------------

    def start_orchestration(
        self, name: str, input: Any = None, instance_id: str | None = None
    ) -> str:
        """Starts an instance as `client.start_new` would; returns its id. `input` is any JSON value."""
        body = (
            None if input is None else json.dumps(json.dumps(input))
        )  # the SDK sends JSON as a JSON string
        return self._commands.start(name, body, instance_id)

    def raise_event(self, instance_id: str, name: str, data: Any = None) -> None:
        """As the webhook does: the orchestrator receives `data` itself, not its JSON text."""
        if self._commands.raise_event(instance_id, name, json.dumps(data)) not in (
            "Pending",
            "Running",
            "Suspended",
        ):
            raise LookupError(f"no live instance {instance_id}")

    def terminate(self, instance_id: str, reason: str | None = None) -> None:
        if self._commands.terminate(instance_id, reason) is None:
            raise LookupError(f"no instance {instance_id}")

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HostResponse:
        """Sends a request without a port: to HTTP triggers, the management API or the admin routes."""
        all_headers = dict(headers or {})
        if json is not None:
            body = _json_bytes(json)
            all_headers.setdefault("Content-Type", "application/json")
        origin = self.base_url if self._server.port else "http://localhost"
        request = HostRequest.from_target(method, path, tuple(all_headers.items()), body, origin)
        return self._server.submit(self._request_router.handle(request)).result(
            REQUEST_TIMEOUT_SECONDS
        )

    def fire_timer(self, name: str) -> None:
        """Runs a timer function now and waits for its end; FunctionFailedError if it raised."""
        future = self._schedules.fire_now(name)
        if future is None:
            raise LookupError(f"no timer trigger named {name}")
        if (error := future.exception(REQUEST_TIMEOUT_SECONDS)) is not None:
            raise FunctionFailedError(f"timer {name}: {type(error).__name__}: {error}") from error

    # -- waiting --------------------------------------------------------------

    def wait(
        self,
        instance_id: str,
        timeout_real_seconds: float = 30,
        *,
        within: timedelta | None = None,
    ) -> dict[str, Any]:
        """Waits for the end of an instance and returns its status body. WaitTimeoutError if it does not come.

        On a virtual clock time passes as it is needed, at most `within`.
        """

        def ended() -> dict[str, Any] | None:
            instance = self._store.instance(instance_id)
            if instance is None:
                raise LookupError(f"no instance {instance_id}")
            return None if instance.is_live else status_body(instance)

        return self._waiting.until(
            ended, timeout_real_seconds, f"instance {instance_id} to end", within
        )

    def run_until(
        self,
        predicate: Callable[[], Found | None],
        timeout_real_seconds: float = 30,
        *,
        within: timedelta | None = None,
    ) -> Found:
        """Waits until the predicate is true and returns its value. It is asked after every change inside the host."""
        return self._waiting.until(
            predicate, timeout_real_seconds, "the predicate to be true", within
        )

    def advance_to(self, moment: datetime, timeout_real_seconds: float = 60) -> None:
        """Lets virtual time pass up to `moment`: all that is due by then has happened on return."""
        self._waiting.advance_to(moment, timeout_real_seconds)

    def advance(self, span: timedelta, timeout_real_seconds: float = 60) -> None:
        self.advance_to(self.clock.now() + span, timeout_real_seconds)

    def settle(self, timeout_real_seconds: float = 30) -> None:
        """Waits until nothing runs and nothing is due; no virtual time passes."""
        self._waiting.settle(timeout_real_seconds)


def _json_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()
