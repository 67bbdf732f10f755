"""Counts the invocations in flight and lets threads wait for changes without polling."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Traffic:
    """Counts the invocations in flight. Every change increments `version` and wakes the waiters."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._in_flight = 0
        self._watchers: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        with self._changed:
            return self._version

    @property
    def in_flight(self) -> int:
        with self._changed:
            return self._in_flight

    def changed(self) -> None:
        """Increment `version`, wake the waiters and call the watchers."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call `watcher` after every call to `changed`, in the calling thread."""
        with self._changed:
            self._watchers.append(watcher)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(watcher)

    def enter(self) -> None:
        """Count an invocation as in flight until `leave`."""
        with self._changed:
            self._in_flight += 1
            self._version += 1

    def leave(self) -> None:
        """End an invocation."""
        with self._changed:
            self._in_flight -= 1
            self._version += 1
            self._changed.notify_all()

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count an invocation as in flight inside the `with` block."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def wait_for_change(self, version: int, timeout: float | None) -> bool:
        """Wait for a change after `version`. Return False after `timeout` real seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._version != version, timeout)

    def wait_until_quiet(self, timeout: float) -> bool:
        """Wait until nothing is in flight. Return False after `timeout` real seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout)
