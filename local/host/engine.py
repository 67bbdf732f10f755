"""The durable engine: a dispatcher that runs episodes and activities and commits their results.

The engine does not poll. The dispatcher waits on a `threading.Event` until the next timer is due,
and every commit sets the event. An instance never runs two episodes at the same time. The state in
memory is only a cache of the database.

The duration of an episode is proportional to the length of the history. While an instance has
running activities, its next episode therefore waits as long as the previous one took and then
processes several results together. As a result, replay takes at most half of the duration of a
fan-out.
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
from .calls import FunctionInvoker, HostStoppedError
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
MAX_WAIT_SECONDS = 5.0  # limits the effect of a change to the system clock
MAX_PAUSE_SECONDS = 0.25  # between episodes of an instance that has running activities
EPISODE_THREADS = 4


@dataclass
class PastEvents:
    """The cached history of one execution, parsed and as JSON.

    The instance pauses until `pause_until`, which is a time on the monotonic clock.
    """

    execution_id: str
    events: list[Event]
    texts: list[str]
    pause_until: float = 0.0


@dataclass(frozen=True)
class Limits:
    """Maximum numbers of concurrent activities and episodes.

    If `serial` is true, the engine runs one episode or activity at a time, episodes first.
    """

    activities: int
    orchestrators: int
    serial: bool = False


class Engine:
    """The engine that runs the instances of one task hub."""

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
        # With a virtual clock, episodes run sequentially in the order of their due times, so that
        # test runs are reproducible.
        threads = min(EPISODE_THREADS, limits.orchestrators) if self._real_time else 1
        self._episodes = ThreadPoolExecutor(threads, thread_name_prefix="episode")
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._ready: dict[str, None] = {}  # instances with messages, in order of arrival
        self._running: set[str] = set()  # instances with a running episode
        # No timer is due before this time, in microseconds. The timer itself may be deleted.
        self._next_timer: int | None = None
        self._past: dict[str, PastEvents] = {}
        # Instances with a version that the app does not accept. The engine does not run them.
        self._rejected: set[str] = set()
        self._thread = threading.Thread(
            target=self._dispatch_until_stopped, name="dispatcher", daemon=True
        )

    def start(self) -> None:
        """Load the pending work from the database and start the dispatcher.

        Recovery after a crash requires no other steps.
        """
        self._ready.update(dict.fromkeys(self._store.instances_with_messages()))
        self._activities.add(self._store.unfinished_work())
        self._next_timer = self._store.next_due(0)
        self._thread.start()

    def notify(self, *instance_ids: str) -> None:
        """Signal that these instances have messages or, without IDs, that time has passed."""
        with self._lock:
            self._ready.update(dict.fromkeys(instance_ids))
        self._wake_up()

    def _wake_up(self) -> None:
        self._wake.set()
        self._traffic.changed()

    def _activity_changed(self) -> None:
        self._wake.set()
        if self._stopping:  # the dispatcher has exited, and `stop` writes the results
            self._traffic.changed()

    def is_idle(self) -> bool:
        """Return whether nothing is running and nothing is due."""
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
        return not self._schedules.is_busy(now)

    def _timer_due(self, now: int) -> bool:
        return self._next_timer is not None and self._next_timer <= now

    def next_due(self) -> datetime | None:
        """Return when the next durable timer or timer trigger is due, or None."""
        now = to_micros(self._format_timespan.now())
        moments = [
            due
            for due in (self._store.next_due(now), self._schedules.next_due())
            if due is not None
        ]
        return from_micros(min(moments)) if moments else None

    def stop(self, *, drain: bool, timeout: float) -> bool:
        """Stop the engine and return whether all running work has completed.

        Interrupted work runs again on the next start.

        Args:
            drain: Whether to wait for running episodes and activities.
            timeout: How long to wait, in seconds.
        """
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
        # With a virtual clock, the host calls `notify` when it has changed the time.
        return max(0.0, min(waits)) if waits else None

    def _dispatch(self) -> float | None:
        """Start all episodes and activities that can start.

        Returns the monotonic time when the first paused instance can continue, or None.
        """
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
            pauses = self._get_pauses()
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
                self._episodes.submit(self._process_instance, instance_id)
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

    def _get_pauses(self) -> dict[str, float]:
        """Return the paused instances and the monotonic times when their pauses end."""
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
        with self._lock:  # update both together; otherwise the engine could appear idle
            self._activities.mark_written(finished)
            self._ready.update(dict.fromkeys(work.instance_id for work in finished))

    # -- episodes -------------------------------------------------------------

    def _process_instance(self, instance_id: str) -> None:
        commit_result = CommitResult()
        try:
            commit_result = self._run_episode(instance_id)
        except (StoreClosedError, HostStoppedError):
            return  # the next host runs the episode again
        except BaseException:  # includes a SystemExit that an orchestrator raises
            log.exception(
                "%s: the local host failed during this episode; the instance is unchanged",
                instance_id,
            )
        finally:
            with self._lock:
                self._running.discard(instance_id)
                self._activities.add(commit_result.work)
                self._ready.update(dict.fromkeys(commit_result.ready))
                self._next_timer = min(
                    (
                        due
                        for due in (self._next_timer, commit_result.next_timer)
                        if due is not None
                    ),
                    default=None,
                )
            self._wake_up()

    def _run_episode(self, instance_id: str) -> CommitResult:
        instance = self._store.instance(instance_id)
        now = self._format_timespan.now()
        messages = self._store.messages(instance_id, to_micros(now))
        current_messages = [
            message
            for message in messages
            if instance is not None
            and instance.is_live
            and message.execution_id in (None, instance.execution_id)
        ]
        if instance is None or not current_messages:
            self._store.delete_messages([message.id for message in messages])
            return CommitResult()
        if not self._versions.accepts(instance.version) and self._versions.failure == "Reject":
            self._rejected.add(instance_id)
            log.warning(
                "%s %s is not run: the app (version %s) does not accept its version %s",
                instance_id,
                instance.name,
                self._versions.current,
                instance.version,
            )
            return CommitResult()
        past, started_at = self._get_past_events(instance), time.monotonic()
        new_events = [
            history.orchestrator_started(now),
            *(message.event for message in current_messages),
        ]
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
                self._get_handler(instance.name),
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
        commit_result = self._store.commit_step(step)
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
        return commit_result

    def _get_handler(self, name: str) -> Callable[[str], str]:
        function = self._functions.find(name)
        if function is not None and self._functions.exists("orchestrator", name):
            orchestrator = function
            return lambda context: self._invoker.call_orchestrator(orchestrator, context)
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
        """Discard the cached history of an instance after its stored history has changed."""
        self._past.pop(instance_id, None)
