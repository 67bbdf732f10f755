"""What is in flight inside the host, and a way to wait for the next change without polling."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Traffic:
    """Counts invocations in flight. Every change raises `version`; waiters sleep until it moves."""

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
        with self._changed:
            self._version += 1
            self._changed.notify_all()
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Calls `watcher` after every `changed`, in the thread that made the change."""
        with self._changed:
            self._watchers.append(watcher)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(watcher)

    def enter(self) -> None:
        with self._changed:
            self._in_flight += 1
            self._version += 1

    def leave(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._version += 1
            self._changed.notify_all()

    @contextmanager
    def track(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def wait_for_change(self, version: int, timeout: float | None) -> bool:
        """Waits until something has changed since `version`; False after `timeout` real seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._version != version, timeout)

    def wait_until_quiet(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, timeout)
