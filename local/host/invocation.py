"""Invokes the app's functions with the converters of azure.functions.

Async functions run on the user loop of the process. Sync functions run in a thread pool of
`PYTHON_THREADPOOL_THREAD_COUNT` threads.

Without a worker process, a test can still simulate its end: see `Invoker.terminate`.
"""

import contextvars
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
from azure.functions.meta import Datum

from .calls import FunctionTerminatedError, exit_text
from .functions import AppFunction
from .http_calls import request_datum, response_encoder
from .http_messages import HostRequest, HostResponse
from .terminations import TerminationPlan, TerminationPoint
from .user_loop import UserLoop


@dataclass
class InvocationContext:
    """The value of a `context` parameter, which has the attributes of azure.functions.Context."""

    invocation_id: str
    function_name: str
    function_directory: str
    thread_local_storage: threading.local = field(default_factory=threading.local)
    trace_context: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(trace_parent="", trace_state="", attributes={})
    )
    retry_context: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(retry_count=0, max_retry_count=0, exception=None)
    )


def converter(binding: str) -> Any:
    return func.get_binding_registry().get(binding)


class Invoker:
    """Implementation of `FunctionInvoker` that runs the functions in this process."""

    def __init__(
        self,
        user_loop: UserLoop,
        root: Path,
        client_binding: Callable[[], str],
        *,
        terminations: TerminationPlan | None = None,
        on_termination: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the thread pool.

        Args:
            user_loop: Loop for async functions.
            root: Folder of the app.
            client_binding: Returns the JSON for durable client parameters. It is called for each
                invocation because the port is not known earlier.
            terminations: Planned terminations of the simulated worker process.
            on_termination: Called when the simulated process has ended, before its calls fail.
        """
        self._user_loop, self._root, self._client_binding = user_loop, root, client_binding
        threads = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
        count = (
            int(threads)
            if threads.isdigit() and int(threads) > 0
            else min(32, (os.cpu_count() or 1) + 4)
        )
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="app")
        self._terminations = terminations or TerminationPlan()
        self._on_termination = on_termination
        self._lock = threading.Lock()
        # The results of the running calls, and the futures of the functions that compute them.
        self._running: dict[Future[Any], Future[Any]] = {}
        self._process_number = 1  # of the simulated worker process

    def invoke(
        self,
        function: AppFunction,
        decode: Callable[[], Any],
        encode: Callable[[Any], Any],
    ) -> "Future[Any]":
        """Decode the trigger value, call the function and encode its result.

        The future receives the exception of whichever step fails.
        """
        point = self._terminations.count_call(function.name)
        if point == TerminationPoint.BEFORE:
            return self._terminate_in_call()

        def arguments() -> dict[str, Any]:
            values = {function.trigger_parameter: decode()}
            for parameter in function.client_parameters:
                datum = Datum(type="string", value=self._client_binding())
                values[parameter] = converter("durableClient").decode(datum, trigger_metadata=None)
            if function.wants_context:
                values["context"] = InvocationContext(
                    str(uuid.uuid4()), function.name, str(self._root / function.name)
                )
            return values

        async def run_async() -> Any:
            try:
                return encode(await function.call(**arguments()))
            except (SystemExit, KeyboardInterrupt) as error:
                # Either would stop the loop that all async code shares.
                raise RuntimeError(f"The function raised {type(error).__name__}.") from error

        def run_sync() -> Any:
            return encode(function.call(**arguments()))

        result: Future[Any] = Future()
        with self._lock:  # so that a termination by the function itself finds its own call
            work: Future[Any] = (
                self._user_loop.submit(run_async())
                if function.is_async
                else self._pool.submit(contextvars.copy_context().run, run_sync)
            )
            self._running[result] = work
        result.add_done_callback(self._forget_cancelled)
        if point == TerminationPoint.AFTER:
            work.add_done_callback(lambda _: self.terminate())
        else:
            work.add_done_callback(lambda _: self._finish(result, work))
        return result

    def _forget_cancelled(self, result: "Future[Any]") -> None:
        """Cancel a function if the caller no longer waits for its result."""
        if result.cancelled():
            with self._lock:
                work = self._running.pop(result, None)
            if work is not None:
                work.cancel()

    def _finish(self, result: "Future[Any]", work: "Future[Any]") -> None:
        with self._lock:
            if self._running.pop(result, None) is None:  # the simulated process has ended
                return
        if work.cancelled():
            result.cancel()
        elif (error := work.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(work.result())

    def terminate(self) -> None:
        """Simulate the end of a worker process with `kill -9`: all running calls fail.

        Async functions are cancelled. The results of sync functions are discarded.
        """
        with self._lock:
            running, self._running = self._running, {}
            self._process_number += 1
        self._on_termination()
        for result, work in running.items():
            work.cancel()
            result.set_exception(_terminated())

    def _terminate_in_call(self) -> "Future[Any]":
        self.terminate()
        result: Future[Any] = Future()
        result.set_exception(_terminated())
        return result

    def call_activity(self, function: AppFunction, stored_input: str) -> "Future[str | None]":
        """Run an activity with the input that the engine stored; return the JSON of its result."""
        (argument,) = json.loads(stored_input)
        text = (
            argument if isinstance(argument, str) else json.dumps(argument, separators=(",", ":"))
        )
        trigger = converter("activityTrigger")

        def encode(result: Any) -> str | None:
            encoded = trigger.encode(result, expected_type=None).value
            # The .NET engine stores compact JSON, and null if the activity returned None.
            return (
                None
                if result is None
                else json.dumps(json.loads(encoded), ensure_ascii=False, separators=(",", ":"))
            )

        return self.invoke(
            function,
            lambda: trigger.decode(Datum(type="string", value=text), trigger_metadata=None),
            encode,
        )

    def call_timer(self, function: AppFunction, trigger_json: str) -> "Future[None]":
        def encode(result: Any) -> None:
            if result is not None:
                raise TypeError(
                    f"function '{function.name}' returned a value, but has no output binding for it"
                )

        datum = Datum(type="json", value=trigger_json)
        return self.invoke(
            function, lambda: converter("timerTrigger").decode(datum, trigger_metadata=None), encode
        )

    def call_http(
        self, function: AppFunction, request: HostRequest, parameters: dict[str, str]
    ) -> "Future[HostResponse]":
        datum = request_datum(request, parameters)
        return self.invoke(
            function,
            lambda: converter("httpTrigger").decode(datum, trigger_metadata=None),
            response_encoder(function),
        )

    def call_orchestrator(self, function: AppFunction, context: str) -> str:
        process_number = self._process_number
        point = self._terminations.count_call(function.name)
        if point == TerminationPoint.BEFORE:
            self.terminate()
            raise _terminated()
        try:
            response: str = function.call(context)
        finally:
            if point == TerminationPoint.AFTER:
                self.terminate()
            if process_number != self._process_number:
                raise _terminated()
        return response

    def stop(self, *, abandon: bool) -> None:
        """Shut down the thread pool.

        With `abandon`, cancel pending calls and do not wait for threads that are still running.
        """
        if abandon:
            with self._lock:
                running = list(self._running.values())
            for work in running:
                work.cancel()
        self._pool.shutdown(wait=not abandon, cancel_futures=abandon)


def _terminated() -> FunctionTerminatedError:
    return FunctionTerminatedError(exit_text(-signal.SIGKILL))
