"""Calculates when timer triggers are due, runs their functions and stores their last run times."""

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta

from ncrontab import Crontab

from .calls import FunctionInvoker
from .clock import Clock
from .functions import AppFunction
from .store import Store, StoreClosedError
from .timestamps import EPOCH, from_micros, to_micros
from .traffic import Traffic

log = logging.getLogger(__name__)
MIN_MONITORED_INTERVAL = timedelta(minutes=1)
MAX_EARLY_FIRING = timedelta(milliseconds=500)


@dataclass
class TimerTrigger:
    """State of a timer trigger. Times are microseconds since 1970."""

    function: AppFunction
    monitored: bool  # the last run is stored and survives restarts
    last: int | None = None
    next: int | None = None
    past_due: bool = False
    running: bool = False
    early: int = 0  # microseconds between firing and the scheduled time

    @property
    def due(self) -> int | None:
        return None if self.next is None else self.next - self.early


class Schedules:
    """All timer triggers of the app.

    A function does not run twice at the same time. Occurrences that are missed while it runs are
    skipped.
    """

    def __init__(
        self,
        functions: list[AppFunction],
        *,
        store: Store,
        invoker: FunctionInvoker,
        clock: Clock,
        traffic: Traffic,
        active: bool,
        early: bool = False,
    ) -> None:
        """Calculate the next occurrence of each timer.

        If `active` is False, timers run only through `fire_now`. With `early`, they fire up to
        `MAX_EARLY_FIRING` before the scheduled time, as can happen on Azure.
        """
        self._store, self._invoker, self._clock, self._traffic = store, invoker, clock, traffic
        self._lock = threading.Lock()
        now, lead = clock.now(), to_micros(EPOCH + MAX_EARLY_FIRING) if early else 0
        self._timers = [
            self._restored(function, now, lead)
            if active
            else TimerTrigger(function, monitored=False)
            for function in functions
        ]

    def _restored(self, function: AppFunction, now: datetime, early: int) -> TimerTrigger:
        assert function.timer is not None
        first = function.timer.schedule.next_after(now)
        monitored = (
            function.timer.use_monitor
            and function.timer.schedule.next_after(first) - first >= MIN_MONITORED_INTERVAL
        )
        timer = TimerTrigger(function, monitored, next=to_micros(first), early=early)
        if monitored:
            timer.last, following = self._store.schedule(function.name)
            if following is not None and following < to_micros(now):
                # Occurrences were missed while no host was running. The timer fires once for all.
                timer.next, timer.past_due = following, True
        if function.timer.run_on_startup:
            timer.next = to_micros(now)
        return timer

    def is_busy(self, now: int) -> bool:
        """Return whether a function is running or due."""
        with self._lock:
            return any(
                timer.running or (timer.due is not None and timer.due <= now)
                for timer in self._timers
            )

    def next_due(self) -> int | None:
        with self._lock:
            due_times = [
                timer.due for timer in self._timers if not timer.running and timer.due is not None
            ]
        return min(due_times, default=None)

    def fire_due(self, now: int, on_end: Callable[[], None]) -> None:
        """Start every function that is due and call `on_end` when each one ends."""
        with self._lock:
            due = [
                timer
                for timer in self._timers
                if not timer.running and timer.due is not None and timer.due <= now
            ]
            for timer in due:
                timer.running = True
        for timer in sorted(due, key=lambda timer: timer.due or 0):
            self._fire(timer, on_end)

    def _fire(self, timer: TimerTrigger, on_end: Callable[[], None]) -> None:
        assert timer.function.timer is not None and timer.next is not None
        started_at, schedule = self._clock.now(), timer.function.timer.schedule
        following = schedule.next_after(max(started_at, from_micros(timer.next)))

        def finish(_: "Future[None]") -> None:
            with self._lock:
                timer.last, timer.running, timer.past_due = to_micros(started_at), False, False
                now = self._clock.now()
                # A timer that fired early must not fire again at its scheduled time.
                earliest = max(now, from_micros(timer.next or 0))
                timer.next = to_micros(
                    following if following > earliest else schedule.next_after(earliest)
                )
            try:
                if timer.monitored:
                    self._store.save_schedule(timer.function.name, timer.last, timer.next)
            except StoreClosedError:
                return
            on_end()

        self.call(timer, from_micros(timer.next)).add_done_callback(finish)

    def call(self, timer: TimerTrigger, tick: datetime) -> "Future[None]":
        """Run the function of a timer for the occurrence `tick`.

        During the call, ScheduleStatus.Next is the time of this occurrence.
        """
        assert timer.function.timer is not None
        log.info("timer %s fired%s", timer.function.name, " (past due)" if timer.past_due else "")
        last = from_micros(timer.last) if timer.last is not None else EPOCH.replace(year=1)
        datum = json.dumps(
            {
                "IsPastDue": timer.past_due,
                "Schedule": {"AdjustForDST": isinstance(timer.function.timer.schedule, Crontab)},
                "ScheduleStatus": {
                    "Last": last.isoformat(),
                    "Next": tick.isoformat(),
                    "LastUpdated": self._clock.now().isoformat(),
                },
            }
        )
        self._traffic.enter()
        future = self._invoker.call_timer(timer.function, datum)
        future.add_done_callback(lambda finished: self._called(timer, finished))
        return future

    def _called(self, timer: TimerTrigger, future: "Future[None]") -> None:
        self._traffic.leave()
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error(
                "timer %s failed: %s: %s",
                timer.function.name,
                type(error).__name__,
                error,
                exc_info=error,
            )

    def fire_now(self, name: str) -> "Future[None] | None":
        """Run a timer function now, or return None if the timer is unknown."""
        for timer in self._timers:
            if timer.function.name.lower() == name.lower():
                assert timer.function.timer is not None
                return self.call(timer, timer.function.timer.schedule.next_after(self._clock.now()))
        return None
