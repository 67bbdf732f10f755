"""Invokes the app's functions with the converters of azure.functions.

Async functions run on the user loop of the process. Sync functions run in a thread pool of
`PYTHON_THREADPOOL_THREAD_COUNT` threads.
"""

import contextvars
import json
import os
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

from .functions import AppFunction
from .http_calls import request_datum, response_encoder
from .http_messages import HostRequest, HostResponse
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

    def __init__(self, user_loop: UserLoop, root: Path, client_binding: Callable[[], str]) -> None:
        """Create the thread pool.

        Args:
            user_loop: Loop for async functions.
            root: Folder of the app.
            client_binding: Returns the JSON for durable client parameters. It is called for each
                invocation because the port is not known earlier.
        """
        self._user_loop, self._root, self._client_binding = user_loop, root, client_binding
        threads = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
        count = (
            int(threads)
            if threads.isdigit() and int(threads) > 0
            else min(32, (os.cpu_count() or 1) + 4)
        )
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="app")
        self._running: set[Future[Any]] = set()
        self._lock = threading.Lock()

    def invoke(
        self,
        function: AppFunction,
        decode: Callable[[], Any],
        encode: Callable[[Any], Any],
    ) -> "Future[Any]":
        """Decode the trigger value, call the function and encode its result.

        The future receives the exception of whichever step fails.
        """

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

        future: Future[Any] = (
            self._user_loop.submit(run_async())
            if function.is_async
            else self._pool.submit(contextvars.copy_context().run, run_sync)
        )
        with self._lock:
            self._running.add(future)
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: "Future[Any]") -> None:
        with self._lock:
            self._running.discard(future)

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
        response: str = function.call(context)
        return response

    def stop(self, *, abandon: bool) -> None:
        """Shut down the thread pool.

        With `abandon`, cancel pending calls and do not wait for threads that are still running.
        """
        if abandon:
            with self._lock:
                running = list(self._running)
            for future in running:
                future.cancel()
        self._pool.shutdown(wait=not abandon, cancel_futures=abandon)
