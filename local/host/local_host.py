"""`LocalHost`, the host that the command line and the tests start."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from .terminations import Termination, TerminationPlan, TerminationPoint
from .timestamps import to_micros
from .traffic import Traffic
from .user_loop import UserLoop
from .waiting import Result, Waiting
from .worker import Worker

log = logging.getLogger(__name__)
DRAIN_TIMEOUT_SECONDS = 30.0
REQUEST_TIMEOUT_SECONDS = 120.0


class LocalHost:
    """A host for Azure Functions and Durable Functions.

    Use it as a context manager, or call `start` and `stop`. `failure` contains the reason if the
    host has failed.
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
        terminations: Sequence[Termination] = (),
        on_termination: Callable[[], None] = lambda: None,
    ) -> None:
        """Configure the host; `start` loads the app.

        Args:
            app: The folder of the app, with function_app.py and host.json, or an app object.
            state_dir: Folder of the state database. None keeps the state in memory.
            clock: Clock of the host. With a `VirtualClock`, timers fire without real delay, and
                time passes only during `wait`, `run_until` and `advance`.
            early_timers: Whether durable timers fire up to one second early, as in Azure.
            port: Port on 127.0.0.1. 0 selects a free one.
            listen: Whether to open the port. None opens it if a function uses the durable client.
            settings: Environment variables while the host runs. They take precedence over
                local.settings.json and the environment.
            host_json: Content or path of host.json if `app` is an app object.
            timers: Whether timer triggers fire on schedule. `fire_timer` always works.
            serial: Whether to run one activity or episode at a time. With a virtual clock, the
                event order of a run is then reproducible.
            isolated: Options for the worker process that runs the app; `app` must then be a folder.
                None runs the app in this process.
            on_failure: Called with the reason when the host cannot continue because it cannot write
                its database or cannot restart its worker process.
            terminations: Planned terminations of the worker process.
            on_termination: Called when the worker process has ended unexpectedly, before its calls
                fail.
        """
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
        self._initial_terminations, self._on_termination = terminations, on_termination
        self._terminations = TerminationPlan()
        self.failure: str | None = None
        self._exits = ExitStack()
        self._stop_lock = threading.Lock()
        self._started = False
        self._traffic = Traffic()
        self._worker: Worker | None = None
        self._terminate: Callable[[], None]

    # -- lifecycle ------------------------------------------------------------

    def start(self) -> "LocalHost":
        """Load the app and start the host.

        Raises:
            HostError: If the app is not supported, or if the state folder or the port cannot be
                used.
        """
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
        self.hub_name, self.function_timeout_seconds = (
            options.hub_name,
            options.function_timeout_seconds,
        )
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
            self._worker = self._invoker = self._isolated.worker(
                root, options, binding, self._fail, self._terminations, self._on_termination
            )
            self._exits.callback(self._worker.stop, abandon=True)
            self._terminate = self._worker.terminate
            self.functions: FunctionIndex = self._worker.functions
        else:
            self.functions = self._index(root, options.route_prefix)
            self._store = self._open_store(options.hub_name)
            invoker = self._invoker = self._in_process(root or Path.cwd(), binding)
            self._terminate = invoker.terminate
        for termination in self._initial_terminations:
            self.terminate_worker_during(termination.name, termination.nth, termination.point)
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
        return Invoker(
            user_loop,
            root,
            binding,
            terminations=self._terminations,
            on_termination=self._on_termination,
        )

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
        """Stop the host.

        Args:
            drain: Whether to wait for running functions. False simulates a kill: running functions
                are interrupted and their results are not written.
            timeout: Maximum wait in real seconds.

        Returns:
            False if a function did not end in time. It runs again after the next start.
        """
        with self._stop_lock:
            if not self._started:
                return True
            self._started = False
        drained = drain
        self._request_router.stopping = True
        if drain:
            # The management API continues to respond because running functions may call it.
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

    # -- state ----------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The base URL, for example `http://127.0.0.1:41234`.

        Raises:
            HostError: If no port is open.
        """
        if self._server.port is None:
            raise HostError(
                "The host has no open port because no function uses the durable client. "
                "Start it with listen=True."
            )
        return f"http://127.0.0.1:{self._server.port}"

    def status(self, instance_id: str) -> dict[str, Any] | None:
        """Return the status as the management API does, or None if the instance does not exist."""
        instance = self._store.instance(instance_id)
        return status_body(instance) if instance else None

    def history(self, instance_id: str) -> list[Event]:
        """Return the raw events of the current execution, as the orchestrator receives them.

        The list is empty if the instance does not exist.
        """
        instance = self._store.instance(instance_id)
        return (
            [json.loads(text) for text in self._store.history(instance_id, instance.execution_id)]
            if instance
            else []
        )

    def instances(self) -> list[dict[str, Any]]:
        """Return the status bodies of all instances in the order of their IDs."""
        return [status_body(instance) for instance in self._store.instances(Filter())]

    def list_functions(self) -> list[str]:
        """Return the lines that the command line prints at startup.

        Each HTTP and timer trigger has a line. All functions of any other type share one line
        per type.
        """
        return format_functions(self.functions, self.base_url if self._server.port else "")

    # -- commands -------------------------------------------------------------

    def start_orchestration(
        self, name: str, input: Any = None, instance_id: str | None = None
    ) -> str:
        """Start an instance as `client.start_new` does; return its ID.

        `input` is any JSON value.
        """
        # The SDK sends the JSON text as a JSON string.
        body = None if input is None else json.dumps(json.dumps(input))
        return self._commands.start(name, body, instance_id)

    def raise_event(self, instance_id: str, name: str, data: Any = None) -> None:
        """Raise an event as the webhook does: the orchestrator receives `data`, not its JSON text.

        Raises:
            LookupError: If there is no live instance with this ID.
        """
        if self._commands.raise_event(instance_id, name, json.dumps(data)) not in (
            "Pending",
            "Running",
            "Suspended",
        ):
            raise LookupError(f"No live instance with the ID {instance_id}.")

    def terminate(self, instance_id: str, reason: str | None = None) -> None:
        """Terminate an instance.

        Raises:
            LookupError: If the instance does not exist.
        """
        if self._commands.terminate(instance_id, reason) is None:
            raise LookupError(f"No instance with the ID {instance_id}.")

    def terminate_worker(self) -> None:
        """End the worker process as with `kill -9`, and start another one.

        All running calls fail as on Azure. Without a worker process, its end is simulated.
        """
        self._terminate()

    def terminate_worker_during(
        self, name: str, nth: int = 1, point: TerminationPoint = TerminationPoint.BEFORE
    ) -> None:
        """End the worker process during the nth call of a function, counted from now.

        Raises:
            HostError: If the app has no function with this name.
        """
        if self.functions.find(name) is None:
            raise HostError(f"The app has no function named '{name}'.")
        self._terminations.add(Termination(name, nth, point))

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HostResponse:
        """Send a request to an HTTP trigger, the management API or an admin route.

        The port does not need to be open.
        """
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
        """Run a timer function now and wait until it ends.

        Raises:
            FunctionFailedError: If the function raises an exception.
            LookupError: If there is no timer trigger with this name.
        """
        future = self._schedules.fire_now(name)
        if future is None:
            raise LookupError(f"No timer trigger named {name}.")
        if (error := future.exception(REQUEST_TIMEOUT_SECONDS)) is not None:
            raise FunctionFailedError(
                f"Timer {name} failed: {type(error).__name__}: {error}"
            ) from error

    # -- waiting --------------------------------------------------------------

    def wait(
        self,
        instance_id: str,
        timeout_real_seconds: float = 30,
        *,
        within: timedelta | None = None,
    ) -> dict[str, Any]:
        """Wait until an instance ends and return its status body.

        Virtual time advances as needed, by at most `within`.

        Raises:
            LookupError: If the instance does not exist.
            WaitTimeoutError: If the instance does not end in time.
        """

        def get_final_status() -> dict[str, Any] | None:
            instance = self._store.instance(instance_id)
            if instance is None:
                raise LookupError(f"No instance with the ID {instance_id}.")
            return None if instance.is_live else status_body(instance)

        return self._waiting.until(
            get_final_status, timeout_real_seconds, f"instance {instance_id} to end", within
        )

    def run_until(
        self,
        predicate: Callable[[], Result | None],
        timeout_real_seconds: float = 30,
        *,
        within: timedelta | None = None,
    ) -> Result:
        """Wait until the predicate returns a true value and return that value.

        The predicate is evaluated after every change inside the host. Virtual time advances as
        needed, by at most `within`.

        Raises:
            WaitTimeoutError: If the predicate does not become true in time.
        """
        return self._waiting.until(
            predicate, timeout_real_seconds, "the predicate to be true", within
        )

    def advance_to(self, moment: datetime, timeout_real_seconds: float = 60) -> None:
        """Advance virtual time to `moment` and process everything that is due by then."""
        self._waiting.advance_to(moment, timeout_real_seconds)

    def advance(self, span: timedelta, timeout_real_seconds: float = 60) -> None:
        """Advance virtual time by `span` and process everything that is due by then."""
        self.advance_to(self.clock.now() + span, timeout_real_seconds)

    def settle(self, timeout_real_seconds: float = 30) -> None:
        """Wait until nothing is running or due, without advancing virtual time."""
        self._waiting.settle(timeout_real_seconds)


def _json_bytes(content: Any) -> bytes:
    return json.dumps(content).encode()
