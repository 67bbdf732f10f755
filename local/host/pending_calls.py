"""Calls that a worker process has not answered yet: their time limit, and what becomes of them when the process ends."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .calls import FunctionTerminatedError, RemoteFunctionError, WorkerLostError

NON_REPEATABLE_KINDS = (
    "activity",
    "timer",
    "http",
)  # an orchestrator only computes: it can always be called again


@dataclass
class Call:
    id: int
    kind: str
    name: str
    deadline: float
    future: "Future[Any]" = field(default_factory=Future)

    def set_remote_error(self, kind: str, message: str, stack: str) -> None:
        self.future.set_exception(RemoteFunctionError(kind, message, stack))


class PendingCalls:
    def __init__(self, timeout: float | None, kill_worker: Callable[[], None]) -> None:
        """`timeout`: functionTimeout in seconds; None: functions may take as long as they like."""
        self._timeout, self._kill_worker = timeout, kill_worker
        self._changed = threading.Condition()
        self._calls: dict[int, Call] = {}  # in the order of their deadlines
        self._ids = itertools.count(1)
        self._exit_cause: tuple[int, str | None] | None = (
            None  # the call that ends the worker, and what it is told
        )
        self._closed: str | None = None
        if timeout is not None:
            threading.Thread(target=self._watch, name="function-timeout", daemon=True).start()

    def add(self, kind: str, name: str) -> Call:
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
        with self._changed:
            return self._calls.pop(call_id, None)

    def set_exiting_call(self, call_id: int | None) -> None:
        """This call has asked for the end of the process."""
        with self._changed:
            if call_id is not None:
                self._exit_cause = (call_id, None)

    def pop_all(self) -> list[Call]:
        with self._changed:
            calls, self._calls = list(self._calls.values()), {}
        return calls

    def fail_unanswered(self, calls: list[Call], exit_text: str) -> None:
        """The worker process has ended: fails what ended it; what did not may run again.

        Where nobody knows what ended it, a signal of the kernel for instance, all that acts fails, as in Azure.
        """
        with self._changed:
            exit_cause, self._exit_cause = self._exit_cause, None
            self._changed.notify_all()
        if exit_cause is None:
            acting = [call for call in calls if call.kind in NON_REPEATABLE_KINDS] or calls
            failing = {call.id: exit_text for call in acting}
        else:
            failing = {exit_cause[0]: exit_cause[1] or exit_text}
        for call in calls:
            if (text := failing.get(call.id)) is not None:
                call.future.set_exception(FunctionTerminatedError(text))
            else:
                call.future.set_exception(WorkerLostError(f"the worker process ended: {exit_text}"))

    def close(self, reason: str) -> None:
        """Nothing will be answered any more."""
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
                elif (left := first.deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    text = f"Timeout value of {_format_timespan(limit)} was exceeded by function: Functions.{first.name}"
                    self._exit_cause = (first.id, text)
                    self._kill_worker()


def _format_timespan(span: timedelta) -> str:
    """`00:30:00`, as .NET writes a TimeSpan.

    >>> _format_timespan(timedelta(days=1, minutes=5, milliseconds=250))
    '1.00:05:00.2500000'
    """
    seconds, micros = divmod(span // timedelta(microseconds=1), 10**6)
    days, rest = divmod(seconds, 86_400)
    fraction = f".{micros * 10:07d}" if micros else ""
    return f"{f'{days}.' if days else ''}{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}{fraction}"
