"""Waits for conditions inside the host, and advances virtual time while the host is idle."""

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

Result = TypeVar("Result")
MAX_LISTED_INSTANCES = 10


class Waiting:
    """Waits for conditions. Changes in the host wake the waiting threads, so no wait polls.

    Only `until` and `advance_to` move virtual time.
    """

    def __init__(self, engine: Engine, store: Store, clock: Clock, traffic: Traffic) -> None:
        self._engine, self._store, self._clock, self._traffic = engine, store, clock, traffic

    def idle(self) -> bool:
        """Return whether nothing is in flight and nothing is due."""
        version = self._traffic.version
        return (
            self._traffic.in_flight == 0
            and self._engine.is_idle()
            and self._traffic.version == version
        )

    def settle(self, timeout: float) -> None:
        """Wait until the host is idle.

        Raises:
            WaitTimeoutError: If the wait exceeds `timeout` real seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            version = self._traffic.version
            if self.idle():
                return
            self._wait_for_change(version, deadline, "the host to settle")

    def until(
        self,
        predicate: Callable[[], Result | None],
        timeout: float,
        condition: str,
        within: timedelta | None = None,
    ) -> Result:
        """Wait until `predicate` returns a true value and return that value.

        A virtual clock jumps to the next due time whenever the host is idle.

        Args:
            predicate: Evaluated after every change.
            timeout: Maximum wait in real seconds.
            condition: Description of what the predicate tests, for error messages.
            within: Maximum wait on the clock of the host.

        Raises:
            WaitTimeoutError: If a time limit is exceeded, or if the condition is false and nothing
                is due on the virtual clock.
        """
        deadline = time.monotonic() + timeout
        limit = self._clock.now() + within if within is not None else None
        while True:
            version = self._traffic.version
            if result := predicate():
                return result
            if time.monotonic() > deadline:
                raise self._timeout_error(condition)
            if (
                isinstance(self._clock, VirtualClock)
                and self.idle()
                and self._traffic.version == version
            ):
                due = self._engine.next_due()
                if limit is not None and (due is None or due > limit):
                    raise WaitTimeoutError(
                        f"Waited for {condition} until {limit} without success. "
                        f"{self._live_instances()}"
                    )
                if due is None:
                    raise WaitTimeoutError(
                        f"Waited for {condition}, but no work or timer is left. "
                        f"{self._live_instances()}"
                    )
                self._jump(self._clock, due)
            else:
                self._wait_for_change(version, deadline, condition)

    def advance_to(self, moment: datetime, timeout: float) -> None:
        """Advance virtual time to `moment`; process everything that is due by then.

        Raises:
            TypeError: If the clock is not a `VirtualClock`.
            WaitTimeoutError: If the wait exceeds `timeout` real seconds.
        """
        clock = self._clock
        if not isinstance(clock, VirtualClock):
            raise TypeError("Only a host with a VirtualClock can advance the time.")
        deadline = time.monotonic() + timeout
        while True:
            version = self._traffic.version
            if self.idle() and self._traffic.version == version:
                if clock.now() >= moment:
                    return
                due = self._engine.next_due()
                self._jump(clock, moment if due is None else min(due, moment))
            self._wait_for_change(version, deadline, f"the clock to reach {moment}")

    def _jump(self, clock: VirtualClock, moment: datetime) -> None:
        clock.move_to(moment)
        self._engine.notify()

    def _wait_for_change(self, version: int, deadline: float, condition: str) -> None:
        if not self._traffic.wait_for_change(version, max(0.0, deadline - time.monotonic())):
            raise self._timeout_error(condition)

    def _timeout_error(self, condition: str) -> WaitTimeoutError:
        return WaitTimeoutError(
            f"Timed out while waiting for {condition}. "
            f"The clock of the host shows {self._clock.now()}. {self._live_instances()}"
        )

    def _live_instances(self) -> str:
        live = [instance for instance in self._store.instances(Filter()) if instance.is_live]
        listed = ", ".join(
            f"{instance.instance_id} ({instance.name}, {instance.status})"
            for instance in live[:MAX_LISTED_INSTANCES]
        )
        more = ", ..." if len(live) > MAX_LISTED_INSTANCES else ""
        return f"Live instances: {listed or 'none'}{more}."

    async def wait_for_end(self, instance_id: str, seconds: float) -> None:
        """Wait on the server loop until the instance has ended or the real time has elapsed."""
        has_ended = asyncio.Event()
        loop = asyncio.get_running_loop()

        def check() -> None:
            instance = self._store.instance(instance_id)
            if instance is None or not instance.is_live:
                loop.call_soon_threadsafe(has_ended.set)

        with self._traffic.watched(check):
            check()
            try:
                await asyncio.wait_for(has_ended.wait(), seconds)
            except TimeoutError:
                return
