"""The durable engine: a dispatcher that runs episodes and activities, and writes what they lead to.

Nothing polls. The dispatcher waits for an event with the time to the next due timer as its limit, and is woken by every
commit. An instance never has two episodes at once. What is in memory here (`_ready`, `_queue`) only mirrors the database.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from . import failure_texts, history
from .action_replay import no_such_function
from .calls import Calls, WorkerLost
from .clock import Clock, SystemClock
from .episode import Identity, run_episode, version_mismatch
from .functions import FunctionIndex
from .history import Event
from .records import Instance, Step, Work, Written
from .schedules import Schedules
from .steps import StepPlanner, describe
from .store import Store, StoreClosed
from .timestamps import from_micros, to_micros
from .traffic import Traffic
from .versions import VersionRule

log = logging.getLogger(__name__)
LONGEST_WAIT = 5.0  # seconds; bounds what a jump of the system's clock can do
EPISODE_THREADS = 4


@dataclass
class PastEvents:
    """The history of one execution, parsed and as JSON, so that an episode need not read it again."""

    execution_id: str
    events: list[Event]
    texts: list[str]


@dataclass(frozen=True)
class Limits:
    activities: int
    orchestrators: int
    serial: bool = False  # one thing at a time; episodes first


class Engine:
    def __init__(
        self, *, store: Store, functions: FunctionIndex, invoker: Calls, clock: Clock, limits: Limits, planner: StepPlanner,
        versions: VersionRule, schedules: Schedules, traffic: Traffic,
    ) -> None:
        self._store, self._functions, self._invoker, self._clock, self._limits = store, functions, invoker, clock, limits
        self._planner, self._versions, self._schedules, self._traffic = planner, versions, schedules, traffic
        self._real_time = isinstance(clock, SystemClock)
        # on a virtual clock episodes run one after the other, in the order in which they came due: runs are repeatable
        threads = min(EPISODE_THREADS, limits.orchestrators) if self._real_time else 1
        self._episodes = ThreadPoolExecutor(threads, thread_name_prefix="episode")
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._ready: dict[str, None] = {}   # instances that have mail, in the order in which it came
        self._running: set[str] = set()     # instances with an episode under way
        self._queue: deque[Work] = deque()  # activities that wait for a free slot
        self._active: set[int] = set()      # activities under way
        self._next_timer: int | None = None  # no timer is due before it; the one it was may be gone
        self._past: dict[str, PastEvents] = {}
        self._rejected: set[str] = set()    # instances of a version that is not for this app; they are left alone
        self._thread = threading.Thread(target=self._dispatch_until_stopped, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Takes up whatever the database holds: that is all the recovery there is."""
        self._ready.update(dict.fromkeys(self._store.instances_with_mail()))
        self._queue.extend(self._store.unfinished_work())
        self._next_timer = self._store.next_due(0)
        self._thread.start()

    def notify(self, *instance_ids: str) -> None:
        """Says that these instances have mail, or, without any, that time has moved."""
        with self._lock:
            self._ready.update(dict.fromkeys(instance_ids))
        self._wake_up()

    def _wake_up(self) -> None:
        self._wake.set()
        self._traffic.changed()

    def idle(self) -> bool:
        """Nothing runs and nothing is due."""
        now = to_micros(self._clock.now())
        with self._lock:
            if self._ready or self._running or self._queue or self._active or self._wake.is_set() or self._timer_due(now):
                return False
        return not self._schedules.busy(now)

    def _timer_due(self, now: int) -> bool:
        return self._next_timer is not None and self._next_timer <= now

    def next_due(self) -> datetime | None:
        """When the next durable timer or timer trigger is due."""
        now = to_micros(self._clock.now())
        moments = [due for due in (self._store.next_due(now), self._schedules.next_due()) if due is not None]
        return from_micros(min(moments)) if moments else None

    def stop(self, *, drain: bool, timeout: float) -> bool:
        """Starts nothing new; `drain` waits for what runs. False: something still runs. What is cut off runs again."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        deadline = time.monotonic() + timeout
        while drain:
            version = self._traffic.version
            with self._lock:
                drained = not self._running and not self._active
            if drained:
                break
            if not self._traffic.wait_beyond(version, max(0.0, deadline - time.monotonic())):
                drain = False
        self._episodes.shutdown(wait=drain, cancel_futures=True)
        return drain

    # -- dispatching ----------------------------------------------------------

    def _dispatch_until_stopped(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                self._dispatch()
                timeout = self._seconds_to_next_due()
            except StoreClosed:
                return
            self._traffic.changed()
            self._wake.wait(timeout)

    def _seconds_to_next_due(self) -> float | None:
        if not self._real_time:
            return None  # the host says when it has moved the clock
        with self._lock:
            moments = [due for due in (self._next_timer, self._schedules.next_due()) if due is not None]
        wait = (min(moments) - to_micros(self._clock.now())) / 1e6 if moments else LONGEST_WAIT
        return min(LONGEST_WAIT, max(0.0, wait))

    def _dispatch(self) -> None:
        now = to_micros(self._clock.now())
        with self._lock:
            if self._timer_due(now):
                self._ready.update(dict.fromkeys(iid for iid in self._store.timers_due(now) if iid not in self._rejected))
                self._next_timer = self._store.next_due(now)
            episodes, activities = self._slots()
            while len(self._running) < episodes:
                instance_id = next((iid for iid in self._ready if iid not in self._running), None)
                if instance_id is None:
                    break
                del self._ready[instance_id]
                self._running.add(instance_id)
                self._episodes.submit(self._run_step, instance_id)
            startable = []
            while self._queue and len(self._active) < activities():
                startable.append(self._queue.popleft())
                self._active.add(startable[-1].id)
        for work in startable:
            self._start_activity(work)
        self._schedules.fire_due(now, self.notify)

    def _slots(self) -> tuple[int, Callable[[], int]]:
        """How many episodes may run now, and, asked when those have been started, how many activities."""
        if not self._limits.serial:
            return self._limits.orchestrators, lambda: self._limits.activities
        return (0 if self._active else 1), lambda: 0 if self._ready or self._running else 1

    # -- activities -----------------------------------------------------------

    def _start_activity(self, work: Work) -> None:
        function = self._functions.find(work.name)
        if function is None or not self._functions.exists("activity", work.name):
            reason, details = failure_texts.missing_activity(work.name)
            self._finish_activity(work, history.task_failed(self._clock.now(), work.task_id, reason, details))
            return
        started = time.monotonic()
        future = self._invoker.activity(function, work.input)
        future.add_done_callback(lambda done: self._activity_done(work, done, started))

    def _activity_done(self, work: Work, future: "Future[str | None]", started: float) -> None:
        if self._stopping and future.cancelled():
            return
        if not future.cancelled() and isinstance(future.exception(), WorkerLost):
            self._run_again(work)
            return
        took = time.monotonic() - started
        error = RuntimeError("the activity was cancelled") if future.cancelled() else future.exception()
        if error is None:
            self._log_activity(logging.INFO, work, "done", took)
            event = history.task_completed(self._clock.now(), work.task_id, future.result())
        else:
            reason, details = failure_texts.activity_failure(work.name, error)
            self._log_activity(logging.WARNING, work, f"failed: {reason}", took)
            event = history.task_failed(self._clock.now(), work.task_id, reason, details)
        self._finish_activity(work, event)

    def _log_activity(self, level: int, work: Work, outcome: str, took: float) -> None:
        fields = {"instance": work.instance_id, "activity": work.name, "task": work.task_id, "seconds": round(took, 6)}
        log.log(level, "    activity %s of %s: %s (%.0f ms)", work.name, work.instance_id, outcome, took * 1000,
                extra={"fields": fields})

    def _run_again(self, work: Work) -> None:
        """The worker process ended through no fault of this activity. Its row is still there, as after a restart."""
        if self._stopping:
            return
        log.warning("%s activity %s runs again (task %d): the worker process ended", work.instance_id, work.name, work.task_id)
        with self._lock:
            self._active.discard(work.id)
            self._queue.appendleft(work)
        self._wake_up()

    def _finish_activity(self, work: Work, event: Event) -> None:
        try:
            self._store.finish_work(work, event)
        except StoreClosed:
            return  # the host has stopped: the activity runs again at the next start
        with self._lock:  # both at once: in between the engine would look idle
            self._active.discard(work.id)
            self._ready[work.instance_id] = None
        self._wake_up()

    # -- episodes -------------------------------------------------------------

    def _run_step(self, instance_id: str) -> None:
        written = Written()
        try:
            written = self._step(instance_id)
        except StoreClosed:
            return
        except WorkerLost:
            written = Written(ready=[] if self._stopping else [instance_id])
        except BaseException:  # also SystemExit, raised by an orchestrator: nobody else would hear of it
            log.exception("%s: the local host failed in this episode; the instance stays as it is", instance_id)
        finally:
            with self._lock:
                self._running.discard(instance_id)
                self._queue.extend(written.work)
                self._ready.update(dict.fromkeys(written.ready))
                self._next_timer = min((due for due in (self._next_timer, written.next_timer) if due is not None), default=None)
            self._wake_up()

    def _step(self, instance_id: str) -> Written:
        instance = self._store.instance(instance_id)
        now = self._clock.now()
        messages = self._store.messages(instance_id, to_micros(now))
        mine = [
            message for message in messages
            if instance is not None and instance.live and message.execution_id in (None, instance.execution_id)]
        if instance is None or not mine:
            self._store.delete_messages([message.id for message in messages])
            return Written()
        if not self._versions.accepts(instance.version) and self._versions.failure == "Reject":
            self._rejected.add(instance_id)
            log.warning("%s %s is left as it is: its version %s is not for this app (%s)", instance_id, instance.name,
                        instance.version, self._versions.current)
            return Written()
        past, began = self._past_of(instance), time.monotonic()
        fresh = [history.orchestrator_started(now), *(message.event for message in mine)]
        who = Identity(
            instance_id, instance.execution_id, instance.name, instance.parent.instance_id if instance.parent else None)
        if self._versions.accepts(instance.version):
            outcome = run_episode(who, [*past.events, *fresh], past.texts, self._handler(instance.name), self._functions.exists)
        else:
            outcome = version_mismatch(who, instance.version, self._versions.current)
        if outcome.hidden_error is not None:
            log.error("%s %s: an error that Azure hides: %s", instance_id, instance.name, outcome.hidden_error)
        step = self._planner.plan(instance, [message.id for message in messages], past.events, fresh, outcome, now)
        written = self._store.commit_step(step)
        self._remember(instance, past, step)
        level = logging.WARNING if step.status == "Failed" else logging.INFO
        if log.isEnabledFor(level):
            took = time.monotonic() - began
            log.log(level, "%s", describe(step, past.events, fresh, outcome, took), extra={"fields": {
                "instance": instance_id, "orchestrator": instance.name, "status": step.status, "seconds": round(took, 6)}})
        return written

    def _handler(self, name: str) -> Callable[[str], str]:
        function = self._functions.find(name)
        if function is not None and self._functions.exists("orchestrator", name):
            found = function
            return lambda context: self._invoker.orchestrator(found, context)
        return lambda _: json.dumps({"error": no_such_function("orchestrator", name)})

    def _past_of(self, instance: Instance) -> PastEvents:
        past = self._past.get(instance.instance_id)
        if past is None or past.execution_id != instance.execution_id:
            texts = self._store.history(instance.instance_id, instance.execution_id)
            past = PastEvents(instance.execution_id, [json.loads(text) for text in texts], texts)
        return past

    def _remember(self, instance: Instance, past: PastEvents, step: Step) -> None:
        if step.continued is not None or step.status in ("Completed", "Failed", "Terminated"):
            self._past.pop(instance.instance_id, None)
            return
        past.events.extend(step.appended)
        past.texts.extend(json.dumps(event) for event in step.appended)
        self._past[instance.instance_id] = past

    def forget(self, instance_id: str) -> None:
        """The history of this instance has been replaced."""
        self._past.pop(instance_id, None)
