"""The worker process: loads the app, reports its functions and executes the host's calls.

The main thread only reads from the connection to the host. When the connection ends, the process
exits even if functions are running, so the worker does not outlive the host.
"""

import json
import os
import resource
import signal
import socket
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import failure_texts, logs, sdk_patches
from .descriptions import describe_function
from .errors import UnsupportedAppError
from .frames import FrameSender, Header, pack_frame, receive_frames
from .functions import FunctionIndex, index_app, load_app
from .http_messages import HostRequest, HostResponse
from .invocation import Invoker
from .terminations import TerminationPoint
from .user_loop import UserLoop

EPISODE_THREADS = 4
MAX_OOM_SCORE = "1000"


@dataclass(frozen=True)
class WorkerOptions:
    """Options that the host passes to the worker on the command line, as JSON."""

    root: str
    route_prefix: str
    json_log: bool
    colour: bool
    memory_mb: int  # 0: no limit

    @classmethod
    def from_json(cls, text: str) -> "WorkerOptions":
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> None:
    """Run the worker process until the host stops it."""
    options = WorkerOptions.from_json(sys.argv[2])
    connection = socket.socket(fileno=int(sys.argv[1]))
    # These signals can reach the whole process group. The host handles them and stops the worker.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logs.configure(json_lines=options.json_log, colour=options.colour)
    _limit_memory(options.memory_mb)
    sender = FrameSender(connection)
    try:
        index = _load(options)
    except UnsupportedAppError as error:
        sender.send(pack_frame({"unsupported": str(error)}))
        sender.close()
        connection.close()
        return
    sender.send(pack_frame({"functions": [describe_function(function) for function in index.all]}))
    _Worker(Path(options.root), index, sender).serve(connection)


def _load(options: WorkerOptions) -> FunctionIndex:
    sys.path.insert(0, options.root)
    sdk_patches.install()
    return index_app(load_app(Path(options.root)), os.environ, options.route_prefix)


def _limit_memory(megabytes: int) -> None:
    """Limit the memory of the process.

    An allocation beyond the limit raises MemoryError. If the system still runs out of memory, the
    kernel kills the worker before the host.
    """
    if megabytes:
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes * 2**20, megabytes * 2**20))
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(MAX_OOM_SCORE, encoding="ascii")


class _Worker:
    def __init__(self, root: Path, index: FunctionIndex, sender: FrameSender) -> None:
        self._index, self._sender = index, sender
        self._binding = ""
        self._loop = UserLoop.shared()
        self._invoker = Invoker(self._loop, root, lambda: self._binding)
        self._episodes = ThreadPoolExecutor(EPISODE_THREADS, thread_name_prefix="episode")

    def serve(self, connection: socket.socket) -> None:
        for header, body in receive_frames(connection):
            if "binding" in header:
                self._binding = header["binding"]
            elif header.get("stop"):
                self._invoker.stop(abandon=True)
                self._episodes.shutdown(wait=False, cancel_futures=True)
                self._loop.close()
                return
            else:
                self._start_call(header, body)
        os._exit(1)  # the host has ended

    def _start_call(self, header: Header, body: bytes) -> None:
        point = header.get("terminate")
        if point == TerminationPoint.BEFORE:
            _terminate()
        future = self._call(header, body)
        if point == TerminationPoint.AFTER:
            future.add_done_callback(lambda _: _terminate())
        else:
            future.add_done_callback(lambda finished: self._send_result(header["id"], finished))

    def _call(self, header: Header, body: bytes) -> "Future[Any]":
        function = self._index.find(header["name"])
        if function is None:
            return _failed(LookupError(f"The app has no function named {header['name']}."))
        match header["kind"]:
            case "activity":
                return self._invoker.call_activity(function, body.decode())
            case "timer":
                return self._invoker.call_timer(function, body.decode())
            case "orchestrator":
                return self._episodes.submit(function.call, body.decode())
            case _:
                request = HostRequest(
                    header["method"],
                    header["path"],
                    header["query"],
                    tuple((name, value) for name, value in header["headers"]),
                    body,
                    header["origin"],
                )
                return self._invoker.call_http(function, request, header["parameters"])

    def _send_result(self, call_id: int, future: "Future[Any]") -> None:
        self._sender.send(_frame(call_id, future))


def _terminate() -> None:
    """End the process as planned by a test."""
    os.kill(os.getpid(), signal.SIGKILL)


def _frame(call_id: int, future: "Future[Any]") -> bytes:
    if future.cancelled():
        return pack_frame(
            {"id": call_id, "kind": "CancelledError", "stack": ""}, b"The function was cancelled."
        )
    if (error := future.exception()) is not None:
        stack = failure_texts.format_stack(error)
        return pack_frame(
            {"id": call_id, "kind": type(error).__name__, "stack": stack},
            str(error).encode("utf-8", "replace"),
        )
    result = future.result()
    if isinstance(result, HostResponse):
        return pack_frame(
            {"id": call_id, "status": result.status, "headers": result.headers}, result.body
        )
    return pack_frame(
        {"id": call_id, "is_none": result is None}, (result or "").encode("utf-8", "surrogatepass")
    )


def _failed(error: Exception) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_exception(error)
    return future
