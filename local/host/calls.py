"""How the host calls functions of the app, wherever they run: in this process (`Invoker`) or in one of their own (`Worker`)."""

from concurrent.futures import Future
from typing import Protocol

from .functions import AppFunction
from .http_messages import HostRequest, HostResponse


class FunctionInvoker(Protocol):
    def activity(self, function: AppFunction, stored_input: str) -> "Future[str | None]":
        """Runs an activity on the input that the engine stored; gives the JSON of its result."""

    def timer(self, function: AppFunction, trigger_json: str) -> "Future[None]": ...

    def http(
        self, function: AppFunction, request: HostRequest, parameters: dict[str, str]
    ) -> "Future[HostResponse]": ...

    def orchestrator(self, function: AppFunction, context: str) -> str:
        """Calls an orchestrator with its context; raises what it raises. Blocks."""

    def stop(self, *, abandon: bool) -> None:
        """`abandon`: what still runs is cut off, or left to itself."""


class RemoteFunctionError(Exception):
    """A function failed in the worker process. `kind`, `str()` and `stack` are those of the exception there."""

    def __init__(self, kind: str, message: str, stack: str) -> None:
        super().__init__(message)
        self.kind, self.stack = kind, stack


class FunctionTerminatedError(Exception):
    """The worker process ended while the function ran, or the function took too long; the text is that of the Azure host."""


class WorkerLostError(Exception):
    """The worker process ended because of another function: this one may run again."""
