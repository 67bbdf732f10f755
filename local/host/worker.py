"""Starts and restarts the worker process, and sends calls to it.

A function that exits the process, exhausts its memory or exceeds `functionTimeout` ends the worker,
not the host. All calls that the worker was running then fail, as in Azure. Later calls wait for the
next process.
"""

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from .calls import exit_text
from .descriptions import index_from_descriptions
from .errors import HostError, UnsupportedAppError
from .frames import FrameSender, Header, pack_frame, receive_frames
from .functions import AppFunction, FunctionIndex
from .http_messages import HostRequest, HostResponse
from .pending_calls import Call, PendingCalls
from .terminations import TerminationPlan
from .worker_main import WorkerOptions

log = logging.getLogger(__name__)
PACKAGE = __package__ or ""
IMPORT_ROOT = str(Path(__file__).resolve().parents[len(PACKAGE.split("."))])
PACKAGES_FOLDER = ".python_packages/lib/site-packages"
BOOTSTRAP_CODE = f"""
import sys
if packages := sys.argv[3]:
    sys.path.append(packages)
sys.path.append({IMPORT_ROOT!r})
from {PACKAGE}.worker_main import main
sys.path.remove({IMPORT_ROOT!r})
main()
"""
MAX_FAILED_STARTS = 3
# Azure stops the host at the third termination, each within this time of the previous one.
MAX_TERMINATIONS_IN_AZURE = 3
TERMINATION_INTERVAL_SECONDS = 30 * 60
EXIT_TIMEOUT_SECONDS = 10.0


class Worker:
    """Implementation of `FunctionInvoker` that runs the functions in a worker process."""

    def __init__(
        self,
        options: WorkerOptions,
        *,
        timeout: float | None,
        client_binding: Callable[[], str],
        on_unrecoverable: Callable[[str], None],
        terminations: TerminationPlan,
        on_termination: Callable[[], None],
    ) -> None:
        """Start the process and wait until it has loaded the app.

        Args:
            options: Options for the process.
            timeout: Maximum duration of a call in seconds. None means no limit.
            client_binding: Returns the JSON for durable client parameters.
            on_unrecoverable: Called with the reason when the worker cannot be restarted.
            terminations: Planned terminations of the process.
            on_termination: Called when the process has ended, before its calls fail.

        Raises:
            UnsupportedAppError: If the app cannot be loaded.
        """
        self._options, self._client_binding, self._gone_for_good = (
            options,
            client_binding,
            on_unrecoverable,
        )
        self._terminations, self._on_termination = terminations, on_termination
        self._pending = PendingCalls(timeout, self.terminate)
        self._lock = threading.Lock()
        self._stopping = False
        self._failed_starts = 0
        self._termination_times: list[float] = []  # of the monotonic clock
        self._sender: FrameSender | None = None
        self._held: list[bytes] = []  # frames to send when the worker is connected
        self._process, self._connection = self._spawn()
        self._frames = receive_frames(self._connection)
        self.functions = self._functions()
        self._reader = threading.Thread(target=self._read, name="worker-reader", daemon=True)

    def start(self) -> None:
        """Send held calls to the worker. The port of the host must be known."""
        self._connect()
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    # -- the process ----------------------------------------------------------

    def _spawn(self) -> tuple["subprocess.Popen[bytes]", socket.socket]:
        host_socket, worker_socket = socket.socketpair()
        with worker_socket:
            warnings = [f"-W{option}" for option in sys.warnoptions]
            packages = packages_of(Path(self._options.root))
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    *(["-S"] if packages else []),
                    *warnings,
                    "-c",
                    BOOTSTRAP_CODE,
                    str(worker_socket.fileno()),
                    self._options.to_json(),
                    packages,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(worker_socket.fileno(),),
            )
        return process, host_socket

    def _functions(self) -> FunctionIndex:
        """Wait until the worker has loaded the app; return the functions."""
        header, _ = next(self._frames, ({}, b""))
        if "functions" in header:
            return index_from_descriptions(header["functions"])
        code = self._reap()
        raise UnsupportedAppError(
            header.get("unsupported")
            or f"The worker process exited while it imported the app: {exit_text(code)}."
        )

    def _connect(self) -> None:
        with self._lock:
            self._sender = FrameSender(self._connection)
            self._sender.send(pack_frame({"binding": self._client_binding()}))
            for frame in self._held:
                self._sender.send(frame)
            self._held.clear()

    def _disconnect(self) -> list[Call]:
        """Hold new calls. Return the calls that will not receive a response."""
        with self._lock:
            sender, self._sender = self._sender, None
            unanswered = self._pending.pop_all()
        self._connection.shutdown(socket.SHUT_RDWR)
        if sender is not None:
            sender.close()
        return unanswered

    def _reap(self) -> int:
        """Wait until the process ends, or kill it; return its exit code."""
        self._frames.close()
        self._connection.close()
        try:
            return self._process.wait(EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.terminate()
            return self._process.wait()

    def terminate(self) -> None:
        """Kill the process. Another one starts unless the host is stopping."""
        self._process.send_signal(signal.SIGKILL)

    # -- reading --------------------------------------------------------------

    def _read(self) -> None:
        while True:
            for header, body in self._frames:
                if (call := self._pending.pop(header["id"])) is not None:
                    self._failed_starts = 0
                    _finish(call, header, body)
            unanswered = self._disconnect()
            code = self._reap()
            if self._stopping:
                self._pending.abandon(unanswered, "The host has stopped.")
                return
            self._log_termination(exit_text(code), unanswered)
            if unanswered:  # they fail, so the next process does not repeat them
                self._failed_starts = 0
            self._on_termination()
            is_restarted = self._restart()
            # The calls fail after the restart, so that repeated calls reach the new worker.
            self._pending.fail_unanswered(unanswered, exit_text(code))
            if not is_restarted:
                return

    def _log_termination(self, reason: str, unanswered: list[Call]) -> None:
        names = ", ".join(sorted({call.name for call in unanswered})) or "none"
        log.error(
            "the worker process ended (%s); restarting it. Calls that fail: %s", reason, names
        )
        now = time.monotonic()
        if self._termination_times and (
            now - self._termination_times[-1] > TERMINATION_INTERVAL_SECONDS
        ):
            self._termination_times.clear()
        self._termination_times.append(now)
        if (count := len(self._termination_times)) >= MAX_TERMINATIONS_IN_AZURE:
            log.warning(
                "the worker process has ended unexpectedly %d times, each time within %d minutes "
                "of the previous one. Azure would stop the host now; the local host continues.",
                count,
                TERMINATION_INTERVAL_SECONDS // 60,
            )

    def _restart(self) -> bool:
        self._failed_starts += 1
        try:
            if self._failed_starts > MAX_FAILED_STARTS:
                raise HostError(
                    f"The worker process ended {self._failed_starts} times without running a call."
                )
            self._process, self._connection = self._spawn()
            self._frames = receive_frames(self._connection)
            self._functions()
        except (HostError, OSError) as error:
            self._stopping = True
            self._pending.close(str(error))
            self._gone_for_good(str(error))
            return False
        self._connect()
        return True

    # -- calls ----------------------------------------------------------------

    def _call(self, kind: str, function: AppFunction, body: bytes, **header: Any) -> "Future[Any]":
        with self._lock:
            call = self._pending.add(function.name)
            if (point := self._terminations.count_call(function.name)) is not None:
                header["terminate"] = point
            frame = pack_frame({"id": call.id, "kind": kind, "name": function.name, **header}, body)
            if self._sender is not None:
                self._sender.send(frame)
            else:
                self._held.append(frame)
        return call.future

    def call_activity(self, function: AppFunction, stored_input: str) -> "Future[str | None]":
        return self._call("activity", function, stored_input.encode())

    def call_timer(self, function: AppFunction, trigger_json: str) -> "Future[None]":
        return self._call("timer", function, trigger_json.encode())

    def call_orchestrator(self, function: AppFunction, context: str) -> str:
        response: str = self._call("orchestrator", function, context.encode()).result()
        return response

    def call_http(
        self, function: AppFunction, request: HostRequest, parameters: dict[str, str]
    ) -> "Future[HostResponse]":
        return self._call(
            "http",
            function,
            request.body,
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers=request.headers,
            origin=request.origin,
            parameters=parameters,
        )

    def stop(self, *, abandon: bool) -> None:
        """Stop the process. With `abandon`, kill it without waiting for running functions."""
        self._stopping = True
        if abandon:
            self.terminate()
        else:
            with self._lock:
                if self._sender is not None:
                    self._sender.send(pack_frame({"stop": True}))
        if self._reader.ident is None:
            self.terminate()
            self._reap()
        elif self._reader is not threading.current_thread():
            self._reader.join()
        self._pending.close("The host has stopped.")


def _finish(call: Call, header: Header, body: bytes) -> None:
    if "status" in header:
        headers = tuple((name, value) for name, value in header["headers"])
        call.future.set_result(HostResponse(header["status"], headers, body))
    elif "stack" in header:
        call.set_remote_error(header["kind"], body.decode("utf-8", "replace"), header["stack"])
    else:
        call.future.set_result(None if header["is_none"] else body.decode("utf-8", "surrogatepass"))


def packages_of(root: Path) -> str:
    """Return the dependency folder of a deployment package, or "" if the app does not have one.

    Without the folder, the app uses the packages of this environment. With it, the worker starts
    with -S and the app cannot import other packages, so a dependency that is missing from the
    package is missing here, as it would be on Azure. In both cases, neither the current folder (-P)
    nor the folder that contains the host is on the import path.
    """
    packages = root / PACKAGES_FOLDER
    return str(packages.resolve()) if packages.is_dir() else ""
