"""The interface for calling the app's functions, and the errors that the calls raise.

`Invoker` runs the functions in this process, and `Worker` runs them in a worker process.
"""

from concurrent.futures import Future
from typing import Protocol

from .functions import AppFunction
from .http_messages import HostRequest, HostResponse


class FunctionInvoker(Protocol):
    """Calls the functions of the app."""

    def call_activity(self, function: AppFunction, stored_input: str) -> "Future[str | None]":
        """Call an activity with the input that the engine stored.

        The future returns the result as JSON.
        """

    def call_timer(self, function: AppFunction, trigger_json: str) -> "Future[None]":
        """Call a function with a timer trigger."""

    def call_http(
        self, function: AppFunction, request: HostRequest, parameters: dict[str, str]
    ) -> "Future[HostResponse]":
        """Call a function with an HTTP trigger; `parameters` are the route parameters."""

    def call_orchestrator(self, function: AppFunction, context: str) -> str:
        """Call an orchestrator with its context, wait for it, and return its state as JSON.

        An exception that the orchestrator raises propagates to the caller.
        """

    def stop(self, *, abandon: bool) -> None:
        """Stop calling functions.

        Args:
            abandon: Whether to stop without waiting for the functions that are still running.
        """


class RemoteFunctionError(Exception):
    """A function raised an exception in the worker process.

    `kind` is the type name of that exception, `str()` returns its message, and `stack` is its stack
    trace.
    """

    def __init__(self, kind: str, message: str, stack: str) -> None:
        super().__init__(message)
        self.kind, self.stack = kind, stack


class FunctionTerminatedError(Exception):
    """The worker process exited during the call.

    The function, or another function in the same process, exited the process, was killed with it,
    or exceeded `functionTimeout`. The message uses the wording of the Azure Functions host.
    """


class HostStoppedError(Exception):
    """The host stopped during the call. The next host calls the function again."""


def exit_text(code: int) -> str:
    """Format an exit code as the Azure host does.

    For a signal, the code is the signal number plus 128, as in a shell.
    """
    shown = 128 - code if code < 0 else code
    return f"python exited with code {shown} (0x{shown:X})"
