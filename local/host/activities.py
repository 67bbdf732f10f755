"""Tracks the engine's activities: queued activities, running activities and unwritten results.

Each pass of the dispatcher writes all new results in one transaction because, in a wide fan-out,
results arrive faster than transactions complete. An activity counts as running until its result is
written. If the host is killed before that, the activity runs again.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future

from . import failure_texts, history
from .calls import FunctionInvoker, HostStoppedError
from .clock import Clock
from .functions import FunctionIndex
from .history import Event
from .records import Work
from .store import Store

log = logging.getLogger(__name__)


class Activities:
    """The queued and running activities and their results. Thread-safe."""

    def __init__(
        self,
        *,
        store: Store,
        functions: FunctionIndex,
        invoker: FunctionInvoker,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        """Create an empty queue.

        Args:
            store: The store that receives the results.
            functions: The functions of the app.
            invoker: Calls the activities.
            clock: The source of the timestamps for results.
            wake: Called when a result or a queued activity is available.
        """
        self._store, self._functions, self._invoker, self._clock, self._wake = (
            store,
            functions,
            invoker,
            clock,
            wake,
        )
        self._lock = threading.Lock()
        self._queue: deque[Work] = deque()
        self._active: set[int] = set()
        self._unfinished_by_instance: Counter[str] = Counter()
        self._results: deque[tuple[Work, Event]] = deque()
        self.stopping = False

    def add(self, work: list[Work]) -> None:
        """Queue activities in the given order."""
        with self._lock:
            self._queue.extend(work)
            self._unfinished_by_instance.update(item.instance_id for item in work)

    @property
    def is_busy(self) -> bool:
        """Whether an activity is queued or running."""
        with self._lock:
            return bool(self._queue or self._active)

    @property
    def running_count(self) -> int:
        """The number of started activities whose results have not been written yet."""
        return len(self._active)

    def has_unfinished(self, instance_id: str) -> bool:
        """Return whether the instance has queued or running activities."""
        return instance_id in self._unfinished_by_instance

    def start(self, limit: int) -> None:
        """Start queued activities in order until `limit` activities are running."""
        with self._lock:
            starting = []
            while self._queue and len(self._active) < limit:
                starting.append(self._queue.popleft())
                self._active.add(starting[-1].id)
        for work in starting:
            self._start(work)

    def _start(self, work: Work) -> None:
        function = self._functions.find(work.name)
        if function is None or not self._functions.exists("activity", work.name):
            reason, details = failure_texts.missing_activity(work.name)
            self._finish(
                work, history.task_failed(self._clock.now(), work.task_id, reason, details)
            )
            return
        started_at = time.monotonic()
        future = self._invoker.call_activity(function, work.input)
        future.add_done_callback(lambda done: self._on_completed(work, done, started_at))

    def _on_completed(self, work: Work, future: "Future[str | None]", started_at: float) -> None:
        if self.stopping and future.cancelled():
            return
        if not future.cancelled() and isinstance(future.exception(), HostStoppedError):
            with self._lock:
                self._active.discard(work.id)  # the next host runs it again
            self._wake()
            return
        elapsed_seconds = time.monotonic() - started_at
        error = (
            RuntimeError("the activity was cancelled") if future.cancelled() else future.exception()
        )
        if error is None:
            self._log(logging.INFO, work, "completed", elapsed_seconds)
            event = history.task_completed(self._clock.now(), work.task_id, future.result())
        else:
            reason, details = failure_texts.activity_failure(work.name, error)
            self._log(logging.WARNING, work, f"failed: {reason}", elapsed_seconds)
            event = history.task_failed(self._clock.now(), work.task_id, reason, details)
        self._finish(work, event)

    def _log(self, level: int, work: Work, outcome: str, elapsed_seconds: float) -> None:
        if log.isEnabledFor(level):
            fields = {
                "instance": work.instance_id,
                "activity": work.name,
                "task": work.task_id,
                "seconds": round(elapsed_seconds, 6),
            }
            log.log(
                level,
                "    activity %s of %s: %s (%.0f ms)",
                work.name,
                work.instance_id,
                outcome,
                elapsed_seconds * 1000,
                extra={"fields": fields},
            )

    def _finish(self, work: Work, event: Event) -> None:
        self._results.append((work, event))
        self._wake()

    def write_results(self) -> list[Work]:
        """Write all new results to the inboxes of their instances; return the finished activities.

        The activities count as running until `mark_written` is called.
        """
        results = [self._results.popleft() for _ in range(len(self._results))]
        if results:
            self._store.finish_work(results)
        return [work for work, _ in results]

    def mark_written(self, finished: list[Work]) -> None:
        """From the running activities, remove those whose results have been written."""
        with self._lock:
            for work in finished:
                self._active.discard(work.id)
                self._unfinished_by_instance[work.instance_id] -= 1
                if not self._unfinished_by_instance[work.instance_id]:
                    del self._unfinished_by_instance[work.instance_id]
