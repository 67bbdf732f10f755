"""Activities of the engine: those that wait for a slot, those under way, and results that are not written yet.

The dispatcher writes all results that have come in since its last round in one transaction: in a wide fan-out results come faster
than transactions. Until then the activity counts as under way, and a kill makes it run again, as at any moment before.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future

from . import failure_texts, history
from .calls import FunctionInvoker, WorkerLostError
from .clock import Clock
from .functions import FunctionIndex
from .history import Event
from .records import Work
from .store import Store

log = logging.getLogger(__name__)


class Activities:
    def __init__(
        self,
        *,
        store: Store,
        functions: FunctionIndex,
        invoker: FunctionInvoker,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called when `write_results` or `start` has something to do."""
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
        self._unfinished_by_instance: Counter[str] = Counter()  # by instance
        self._results: deque[tuple[Work, Event]] = deque()
        self.stopping = False

    def add(self, work: list[Work]) -> None:
        with self._lock:
            self._queue.extend(work)
            self._unfinished_by_instance.update(item.instance_id for item in work)

    @property
    def is_busy(self) -> bool:
        with self._lock:
            return bool(self._queue or self._active)

    @property
    def running_count(self) -> int:
        return len(self._active)

    def has_unfinished(self, instance_id: str) -> bool:
        return instance_id in self._unfinished_by_instance

    def start(self, limit: int) -> None:
        """Starts what waits, in its order, until `limit` are under way."""
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
        future = self._invoker.activity(function, work.input)
        future.add_done_callback(lambda done: self._done(work, done, started_at))

    def _done(self, work: Work, future: "Future[str | None]", started_at: float) -> None:
        if self.stopping and future.cancelled():
            return
        if not future.cancelled() and isinstance(future.exception(), WorkerLostError):
            self._run_again(work)
            return
        elapsed_seconds = time.monotonic() - started_at
        error = (
            RuntimeError("the activity was cancelled") if future.cancelled() else future.exception()
        )
        if error is None:
            self._log(logging.INFO, work, "done", elapsed_seconds)
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

    def _run_again(self, work: Work) -> None:
        """The worker process ended through no fault of this activity. Its row is still there, as after a restart."""
        if self.stopping:
            return
        log.warning(
            "%s activity %s runs again (task %d): the worker process ended",
            work.instance_id,
            work.name,
            work.task_id,
        )
        with self._lock:
            self._active.discard(work.id)
            self._queue.appendleft(work)
        self._wake()

    def _finish(self, work: Work, event: Event) -> None:
        self._results.append((work, event))
        self._wake()

    def write_results(self) -> list[Work]:
        """Puts all results into the inboxes of their instances. They count as under way until `written` is called."""
        results = [self._results.popleft() for _ in range(len(self._results))]
        if results:
            self._store.finish_work(results)
        return [work for work, _ in results]

    def mark_written(self, finished: list[Work]) -> None:
        with self._lock:
            for work in finished:
                self._active.discard(work.id)
                self._unfinished_by_instance[work.instance_id] -= 1
                if not self._unfinished_by_instance[work.instance_id]:
                    del self._unfinished_by_instance[work.instance_id]
