"""Calls to a worker process that have no response yet, their timeouts, and their failures."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .calls import FunctionTerminatedError, HostStoppedError, RemoteFunctionError


@dataclass
class Call:
    """A call without a response; `deadline` is a time on the monotonic clock."""

    id: int
    name: str
    deadline: float
    future: "Future[Any]" = field(default_factory=Future)

    def set_remote_error(self, kind: str, message: str, stack: str) -> None:
        """Fail the call with an exception that the worker process reported."""
        self.future.set_exception(RemoteFunctionError(kind, message, stack))


class PendingCalls:
    """The calls to one worker process that have no response yet. Thread-safe."""

    def __init__(self, timeout: float | None, kill_worker: Callable[[], None]) -> None:
        """Create an empty set of calls.

        Args:
            timeout: `functionTimeout` in seconds; None disables the timeout.
            kill_worker: Called when a call exceeds the timeout; must kill the worker process.
        """
        self._timeout, self._kill_worker = timeout, kill_worker
        self._changed = threading.Condition()
        self._calls: dict[int, Call] = {}  # ordered by deadline
        self._ids = itertools.count(1)
        self._timeout_text: str | None = None  # set when a timeout ends the worker process
        self._closed: str | None = None
        if timeout is not None:
            threading.Thread(target=self._watch, name="function-timeout", daemon=True).start()

    def add(self, name: str) -> Call:
        """Add a call; after `close`, the returned call has already failed."""
        with self._changed:
            call = Call(next(self._ids), name, time.monotonic() + (self._timeout or 0))
            if self._closed is not None:
                call.future.set_exception(HostStoppedError(self._closed))
                return call
            self._calls[call.id] = call
            if len(self._calls) == 1:
                self._changed.notify_all()
        return call

    def pop(self, call_id: int) -> Call | None:
        """Remove and return a call, or return None if it is unknown."""
        with self._changed:
            return self._calls.pop(call_id, None)

    def pop_all(self) -> list[Call]:
        """Remove and return all calls."""
        with self._changed:
            calls, self._calls = list(self._calls.values()), {}
        return calls

    def fail_unanswered(self, calls: list[Call], exit_text: str) -> None:
        """Fail all calls that had no response when the worker process exited, as on Azure.

        It does not matter which function ended the process.
        """
        with self._changed:
            text, self._timeout_text = self._timeout_text or exit_text, None
            self._changed.notify_all()
        for call in calls:
            call.future.set_exception(FunctionTerminatedError(text))

    @staticmethod
    def abandon(calls: list[Call], reason: str) -> None:
        """Fail calls with `HostStoppedError`."""
        for call in calls:
            call.future.set_exception(HostStoppedError(reason))

    def close(self, reason: str) -> None:
        """Fail all calls, and every later call, with `HostStoppedError`."""
        with self._changed:
            self._closed = reason
            calls, self._calls = list(self._calls.values()), {}
            self._changed.notify_all()
        self.abandon(calls, reason)

    def _watch(self) -> None:
        assert self._timeout is not None
        limit = timedelta(seconds=self._timeout)
        with self._changed:
            while self._closed is None:
                first = next(iter(self._calls.values()), None)
                if first is None or self._timeout_text is not None:
                    self._changed.wait()
                elif (remaining := first.deadline - time.monotonic()) > 0:
                    self._changed.wait(remaining)
                else:
                    self._timeout_text = (
                        f"Timeout value of {_format_timespan(limit)} was exceeded by function: "
                        f"Functions.{first.name}"
                    )
                    self._kill_worker()


def _format_timespan(span: timedelta) -> str:
    """Format a duration like a .NET `TimeSpan`, for example `00:30:00`.

    >>> _format_timespan(timedelta(days=1, minutes=5, milliseconds=250))
    '1.00:05:00.2500000'
    """
    seconds, micros = divmod(span // timedelta(microseconds=1), 10**6)
    days, rest = divmod(seconds, 86_400)
    fraction = f".{micros * 10:07d}" if micros else ""
    time_of_day = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{f'{days}.' if days else ''}{time_of_day}{fraction}"
