"""The durable engine: a dispatcher that runs episodes and activities, and writes what they lead to.

Nothing polls. The dispatcher waits for an event with the time to the next due timer as its limit, and is woken by every
commit. An instance never has two episodes at once. What is in memory here only mirrors the database.

An episode costs as much as the history is long. While activities of an instance are under way, its next episode therefore waits
as long as the last one took, so that it hears of several results at once: replay is at most half of what a fan-out costs.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from . import history
from .action_replay import missing_function_text
from .activities import Activities
from .calls import FunctionInvoker, WorkerLostError
from .clock import Clock, SystemClock
from .episode import Identity, run_episode, version_mismatch
from .functions import FunctionIndex
from .history import Event
from .records import CommitResult, Instance, Step
from .schedules import Schedules
from .steps import StepPlanner, describe
from .store import Store, StoreClosedError
from .timestamps import from_micros, to_micros
from .traffic import Traffic
from .versions import VersionRule

log = logging.getLogger(__name__)
MAX_WAIT_SECONDS = 5.0  # seconds; bounds what a jump of the system's clock can do
MAX_PAUSE_SECONDS = (
    0.25  # seconds between two episodes of an instance, while its activities are under way
)
EPISODE_THREADS = 4


@dataclass
class PastEvents:
    """The history of one execution, parsed and as JSON, so that an episode need not read it again."""

    execution_id: str
    events: list[Event]
    texts: list[str]
    pause_until: float = 0.0  # on the monotonic clock


@dataclass(frozen=True)
class Limits:
    activities: int
    orchestrators: int
    serial: bool = False  # one thing at a time; episodes first


class Engine:
    def __init__(
        self,
        *,
        store: Store,
        functions: FunctionIndex,
        invoker: FunctionInvoker,
        clock: Clock,
        limits: Limits,
        planner: StepPlanner,
        versions: VersionRule,
        schedules: Schedules,
        traffic: Traffic,
    ) -> None:
        self._store, self._functions, self._invoker, self._format_timespan, self._limits = (
            store,
            functions,
            invoker,
            clock,
            limits,
        )
        self._activities = Activities(
            store=store,
            functions=functions,
            invoker=invoker,
            clock=clock,
            wake=self._activity_changed,
        )
        self._planner, self._versions, self._schedules, self._traffic = (
            planner,
            versions,
            schedules,
            traffic,
        )
        self._real_time = isinstance(clock, SystemClock)
        # on a virtual clock episodes run one after the other, in the order in which they came due: runs are repeatable
        threads = min(EPISODE_THREADS, limits.orchestrators) if self._real_time else 1
        self._episodes = ThreadPoolExecutor(threads, thread_name_prefix="episode")
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._ready: dict[str, None] = {}  # instances that have mail, in the order in which it came
        self._running: set[str] = set()  # instances with an episode under way
        self._next_timer: int | None = None  # no timer is due before it; the one it was may be gone
        self._past: dict[str, PastEvents] = {}
        self._rejected: set[str] = (
            set()
        )  # instances of a version that is not for this app; they are left alone
        self._thread = threading.Thread(
            target=self._dispatch_until_stopped, name="dispatcher", daemon=True
        )

    def start(self) -> None:
        """Takes up whatever the database holds: that is all the recovery there is."""
        self._ready.update(dict.fromkeys(self._store.instances_with_messages()))
        self._activities.add(self._store.unfinished_work())
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

    def _activity_changed(self) -> None:
        self._wake.set()
        if self._stopping:  # the dispatcher has gone; `stop` looks after results
            self._traffic.changed()

    def idle(self) -> bool:
        """Nothing runs and nothing is due."""
        now = to_micros(self._format_timespan.now())
        with self._lock:
            if (
                self._ready
                or self._running
                or self._activities.is_busy
                or self._wake.is_set()
                or self._timer_due(now)
            ):
                return False
        return not self._schedules.busy(now)

    def _timer_due(self, now: int) -> bool:
        return self._next_timer is not None and self._next_timer <= now

    def next_due(self) -> datetime | None:
        """When the next durable timer or timer trigger is due."""
        now = to_micros(self._format_timespan.now())
        moments = [
            due
            for due in (self._store.next_due(now), self._schedules.next_due())
            if due is not None
        ]
        return from_micros(min(moments)) if moments else None

    def stop(self, *, drain: bool, timeout: float) -> bool:
        """Starts nothing new; `drain` waits for what runs. False: something still runs. What is cut off runs again."""
        self._stopping = self._activities.stopping = True
        self._wake.set()
        self._thread.join()
        deadline = time.monotonic() + timeout
        while drain:
            version = self._traffic.version
            try:
                self._write_results()
            except StoreClosedError:
                drain = False
                break
            with self._lock:
                drained = not self._running and not self._activities.running_count
            if drained:
                break
            if not self._traffic.wait_for_change(version, max(0.0, deadline - time.monotonic())):
                drain = False
        self._episodes.shutdown(wait=drain, cancel_futures=True)
        return drain

    # -- dispatching ----------------------------------------------------------

    def _dispatch_until_stopped(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                timeout = self._seconds_to_next_due(self._dispatch())
            except StoreClosedError:
                return
            self._traffic.changed()
            self._wake.wait(timeout)

    def _seconds_to_next_due(self, paused_until: float | None) -> float | None:
        waits = [] if paused_until is None else [paused_until - time.monotonic()]
        if self._real_time:
            with self._lock:
                moments = [
                    due for due in (self._next_timer, self._schedules.next_due()) if due is not None
                ]
            waits += [
                MAX_WAIT_SECONDS,
                *((due - to_micros(self._format_timespan.now())) / 1e6 for due in moments),
            ]
        return (
            max(0.0, min(waits)) if waits else None
        )  # on a virtual clock the host says when it has moved it

    def _dispatch(self) -> float | None:
        """Starts what can be started. Returns when the first of the episodes that pause can start."""
        self._write_results()
        now = to_micros(self._format_timespan.now())
        with self._lock:
            if self._timer_due(now):
                self._ready.update(
                    dict.fromkeys(
                        iid for iid in self._store.timers_due(now) if iid not in self._rejected
                    )
                )
                self._next_timer = self._store.next_due(now)
            pauses = self._pauses()
            startable = [
                iid for iid in self._ready if iid not in self._running and iid not in pauses
            ]
            episodes = (
                self._limits.orchestrators
                if not self._limits.serial
                else 0
                if self._activities.running_count
                else 1
            )
            for instance_id in startable[: max(0, episodes - len(self._running))]:
                del self._ready[instance_id]
                self._running.add(instance_id)
                self._episodes.submit(self._run_step, instance_id)
            activities = (
                self._limits.activities
                if not self._limits.serial
                else 0
                if self._ready or self._running
                else 1
            )
        self._activities.start(activities)
        self._schedules.fire_due(now, self.notify)
        return min(pauses.values(), default=None)

    def _pauses(self) -> dict[str, float]:
        """Instances with mail whose activities go on, and until when each of them waits for more."""
        if self._limits.serial:
            return {}
        now, pauses = time.monotonic(), {}
        for instance_id in self._ready:
            past = self._past.get(instance_id)
            if (
                past is not None
                and past.pause_until > now
                and self._activities.has_unfinished(instance_id)
            ):
                pauses[instance_id] = past.pause_until
        return pauses

    def _write_results(self) -> None:
        finished = self._activities.write_results()
        with self._lock:  # both at once: in between the engine would look idle
            self._activities.mark_written(finished)
            self._ready.update(dict.fromkeys(work.instance_id for work in finished))

    # -- episodes -------------------------------------------------------------

    def _run_step(self, instance_id: str) -> None:
        written = CommitResult()
        try:
            written = self._step(instance_id)
        except StoreClosedError:
            return
        except WorkerLostError:
            written = CommitResult(ready=[] if self._stopping else [instance_id])
        except (
            BaseException
        ):  # also SystemExit, raised by an orchestrator: nobody else would hear of it
            log.exception(
                "%s: the local host failed in this episode; the instance stays as it is",
                instance_id,
            )
        finally:
            with self._lock:
                self._running.discard(instance_id)
                self._activities.add(written.work)
                self._ready.update(dict.fromkeys(written.ready))
                self._next_timer = min(
                    (due for due in (self._next_timer, written.next_timer) if due is not None),
                    default=None,
                )
            self._wake_up()

    def _step(self, instance_id: str) -> CommitResult:
        instance = self._store.instance(instance_id)
        now = self._format_timespan.now()
        messages = self._store.messages(instance_id, to_micros(now))
        mine = [
            message
            for message in messages
            if instance is not None
            and instance.is_live
            and message.execution_id in (None, instance.execution_id)
        ]
        if instance is None or not mine:
            self._store.delete_messages([message.id for message in messages])
            return CommitResult()
        if not self._versions.accepts(instance.version) and self._versions.failure == "Reject":
            self._rejected.add(instance_id)
            log.warning(
                "%s %s is left as it is: its version %s is not for this app (%s)",
                instance_id,
                instance.name,
                instance.version,
                self._versions.current,
            )
            return CommitResult()
        past, started_at = self._get_past_events(instance), time.monotonic()
        new_events = [history.orchestrator_started(now), *(message.event for message in mine)]
        identity = Identity(
            instance_id,
            instance.execution_id,
            instance.name,
            instance.parent.instance_id if instance.parent else None,
        )
        if self._versions.accepts(instance.version):
            outcome = run_episode(
                identity,
                [*past.events, *new_events],
                past.texts,
                self._handler(instance.name),
                self._functions.exists,
            )
        else:
            outcome = version_mismatch(identity, instance.version, self._versions.current)
        if outcome.masked_error is not None:
            log.error(
                "%s %s: an error that Azure hides: %s",
                instance_id,
                instance.name,
                outcome.masked_error,
            )
        step = self._planner.plan(
            instance, [message.id for message in messages], past.events, new_events, outcome, now
        )
        written = self._store.commit_step(step)
        elapsed_seconds = time.monotonic() - started_at
        self._cache_history(instance, past, step, elapsed_seconds)
        level = logging.WARNING if step.status == "Failed" else logging.INFO
        if log.isEnabledFor(level):
            log.log(
                level,
                "%s",
                describe(step, past.events, new_events, outcome, elapsed_seconds),
                extra={
                    "fields": {
                        "instance": instance_id,
                        "orchestrator": instance.name,
                        "status": step.status,
                        "seconds": round(elapsed_seconds, 6),
                    }
                },
            )
        return written

    def _handler(self, name: str) -> Callable[[str], str]:
        function = self._functions.find(name)
        if function is not None and self._functions.exists("orchestrator", name):
            found = function
            return lambda context: self._invoker.orchestrator(found, context)
        return lambda _: json.dumps({"error": missing_function_text("orchestrator", name)})

    def _get_past_events(self, instance: Instance) -> PastEvents:
        past = self._past.get(instance.instance_id)
        if past is None or past.execution_id != instance.execution_id:
            texts = self._store.history(instance.instance_id, instance.execution_id)
            past = PastEvents(instance.execution_id, [json.loads(text) for text in texts], texts)
        return past

    def _cache_history(
        self, instance: Instance, past: PastEvents, step: Step, elapsed_seconds: float
    ) -> None:
        if step.continued is not None or step.status in ("Completed", "Failed", "Terminated"):
            self._past.pop(instance.instance_id, None)
            return
        past.events.extend(step.appended)
        past.texts.extend(step.texts)
        past.pause_until = time.monotonic() + min(elapsed_seconds, MAX_PAUSE_SECONDS)
        self._past[instance.instance_id] = past

    def discard_cached_history(self, instance_id: str) -> None:
        """The history of this instance has been replaced."""
        self._past.pop(instance_id, None)
