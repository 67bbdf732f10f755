"""Waiting for something to happen inside the host, and letting virtual time pass while nothing else does."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from .clock import Clock, VirtualClock
from .engine import Engine
from .errors import WaitTimeoutError
from .records import Filter
from .store import Store
from .traffic import Traffic

Found = TypeVar("Found")
MAX_LISTED_INSTANCES = 10


class Waiting:
    """All waits are woken by changes; none polls. Virtual time jumps only in `until` and `advance_to`."""

    def __init__(self, engine: Engine, store: Store, clock: Clock, traffic: Traffic) -> None:
        self._engine, self._store, self._clock, self._traffic = engine, store, clock, traffic

    def idle(self) -> bool:
        """Nothing is in flight and nothing is due."""
        version = self._traffic.version
        return (
            self._traffic.in_flight == 0
            and self._engine.idle()
            and self._traffic.version == version
        )

    def settle(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            version = self._traffic.version
            if self.idle():
                return
            self._wait_for_change(version, deadline, "the host to settle")

    def until(
        self,
        predicate: Callable[[], Found | None],
        timeout: float,
        what: str,
        within: timedelta | None = None,
    ) -> Found:
        """The predicate's first true value. On a virtual clock time jumps to the next due moment whenever the host is idle."""
        deadline = time.monotonic() + timeout
        limit = self._clock.now() + within if within is not None else None
        while True:
            version = self._traffic.version
            if found := predicate():
                return found
            if time.monotonic() > deadline:
                raise self._timeout_error(what)
            if (
                isinstance(self._clock, VirtualClock)
                and self.idle()
                and self._traffic.version == version
            ):
                due = self._engine.next_due()
                if limit is not None and (due is None or due > limit):
                    raise WaitTimeoutError(
                        f"Waited until {limit} for {what}. {self._live_instances()}"
                    )
                if due is None:
                    raise WaitTimeoutError(
                        f"Waited for {what}, but nothing is left to happen. {self._live_instances()}"
                    )
                self._jump(self._clock, due)
            else:
                self._wait_for_change(version, deadline, what)

    def advance_to(self, moment: datetime, timeout: float) -> None:
        clock = self._clock
        if not isinstance(clock, VirtualClock):
            raise TypeError("only a host with a VirtualClock can let time pass")
        deadline = time.monotonic() + timeout
        while True:
            version = self._traffic.version
            if self.idle() and self._traffic.version == version:
                if clock.now() >= moment:
                    return
                due = self._engine.next_due()
                self._jump(clock, moment if due is None else min(due, moment))
            self._wait_for_change(version, deadline, f"{moment} to come")

    def _jump(self, clock: VirtualClock, moment: datetime) -> None:
        clock.move_to(moment)
        self._engine.notify()

    def _wait_for_change(self, version: int, deadline: float, what: str) -> None:
        if not self._traffic.wait_for_change(version, max(0.0, deadline - time.monotonic())):
            raise self._timeout_error(what)

    def _timeout_error(self, what: str) -> WaitTimeoutError:
        return WaitTimeoutError(
            f"Waited in vain for {what}; the host's clock shows {self._clock.now()}. {self._live_instances()}"
        )

    def _live_instances(self) -> str:
        live = [instance for instance in self._store.instances(Filter()) if instance.is_live]
        listed = ", ".join(
            f"{instance.instance_id} ({instance.name}, {instance.status})"
            for instance in live[:MAX_LISTED_INSTANCES]
        )
        return f"Live instances: {listed or 'none'}{', ...' if len(live) > MAX_LISTED_INSTANCES else ''}."

    async def wait_for_end(self, instance_id: str, seconds: float) -> None:
        """Returns when the instance has ended or the (real) time is over; for the start-and-wait call, on the server loop."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look() -> None:
            instance = self._store.instance(instance_id)
            if instance is None or not instance.is_live:
                loop.call_soon_threadsafe(ended.set)

        with self._traffic.watched(look):
            look()
            try:
                await asyncio.wait_for(ended.wait(), seconds)
            except TimeoutError:
                return
