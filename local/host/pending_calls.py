"""Calls to a worker process that have no response yet, their timeouts, and their failures."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .calls import FunctionTerminatedError, RemoteFunctionError, WorkerLostError

# An orchestrator has no side effects, so it can always be called again.
NON_REPEATABLE_KINDS = ("activity", "timer", "http")


@dataclass
class Call:
    """A call without a response; `deadline` is a time on the monotonic clock."""

    id: int
    kind: str
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
        # The ID of the call that causes the exit of the worker, and the error text of that call.
        self._exit_cause: tuple[int, str | None] | None = None
        self._closed: str | None = None
        if timeout is not None:
            threading.Thread(target=self._watch, name="function-timeout", daemon=True).start()

    def add(self, kind: str, name: str) -> Call:
        """Add a call; after `close`, the returned call has already failed."""
        with self._changed:
            call = Call(next(self._ids), kind, name, time.monotonic() + (self._timeout or 0))
            if self._closed is not None:
                call.future.set_exception(WorkerLostError(self._closed))
                return call
            self._calls[call.id] = call
            if len(self._calls) == 1:
                self._changed.notify_all()
        return call

    def pop(self, call_id: int) -> Call | None:
        """Remove and return a call, or return None if it is unknown."""
        with self._changed:
            return self._calls.pop(call_id, None)

    def set_exiting_call(self, call_id: int | None) -> None:
        """Record that a call requested the exit of the worker process."""
        with self._changed:
            if call_id is not None:
                self._exit_cause = (call_id, None)

    def pop_all(self) -> list[Call]:
        """Remove and return all calls."""
        with self._changed:
            calls, self._calls = list(self._calls.values()), {}
        return calls

    def fail_unanswered(self, calls: list[Call], exit_text: str) -> None:
        """Fail the calls that had no response when the worker process exited.

        The call that caused the exit fails with `FunctionTerminatedError`; the others fail with
        `WorkerLostError`, so that they run again. If the cause is unknown, for example a signal
        from the kernel, all calls except those to orchestrators fail with
        `FunctionTerminatedError`, as on Azure.
        """
        with self._changed:
            exit_cause, self._exit_cause = self._exit_cause, None
            self._changed.notify_all()
        if exit_cause is None:
            terminated = [call for call in calls if call.kind in NON_REPEATABLE_KINDS] or calls
            failing = {call.id: exit_text for call in terminated}
        else:
            failing = {exit_cause[0]: exit_cause[1] or exit_text}
        for call in calls:
            if (text := failing.get(call.id)) is not None:
                call.future.set_exception(FunctionTerminatedError(text))
            else:
                call.future.set_exception(
                    WorkerLostError(f"the worker process exited: {exit_text}")
                )

    def close(self, reason: str) -> None:
        """Fail all calls, and every later call, with `WorkerLostError`."""
        with self._changed:
            self._closed = reason
            calls, self._calls = list(self._calls.values()), {}
            self._changed.notify_all()
        for call in calls:
            call.future.set_exception(WorkerLostError(reason))

    def _watch(self) -> None:
        assert self._timeout is not None
        limit = timedelta(seconds=self._timeout)
        with self._changed:
            while self._closed is None:
                first = next(iter(self._calls.values()), None)
                if first is None or self._exit_cause is not None:
                    self._changed.wait()
                elif (remaining := first.deadline - time.monotonic()) > 0:
                    self._changed.wait(remaining)
                else:
                    text = (
                        f"Timeout value of {_format_timespan(limit)} was exceeded by function: "
                        f"Functions.{first.name}"
                    )
                    self._exit_cause = (first.id, text)
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
