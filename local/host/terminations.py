"""Planned terminations of the worker process, which tests use to interrupt calls.

    host.terminate_worker_during("copy_blobs", 2)

The worker process ends as with `kill -9`. With `TerminationPoint.BEFORE`, it ends when the call
starts, and with `TerminationPoint.AFTER`, when the function has ended but before the host receives
the result.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum


class TerminationPoint(StrEnum):
    """Specifies whether the worker process ends before or after the function does its work."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Termination:
    """The termination of the worker process during the nth call of a function, counted from 1."""

    name: str
    nth: int = 1
    point: TerminationPoint = TerminationPoint.BEFORE

    @classmethod
    def parse(cls, text: str) -> "Termination":
        """Parse `NAME:N`.

        Raises:
            ValueError: If N is missing or less than 1.

        >>> Termination.parse("copy_blobs:2").nth
        2
        """
        name, _, nth = text.rpartition(":")
        if not name or not nth.isdecimal() or int(nth) < 1:
            raise ValueError(f"'{text}' must have the format NAME:N, where N is at least 1")
        return cls(name, int(nth))


class TerminationPlan:
    """The planned terminations. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[tuple[Termination, int]] = []  # with the number of remaining calls

    def add(self, termination: Termination) -> None:
        """Plan a termination; calls count from now."""
        with self._lock:
            self._planned.append((termination, termination.nth))

    def count_call(self, name: str) -> TerminationPoint | None:
        """Count a call, and return when the worker process must end because of it, or None."""
        due: TerminationPoint | None = None
        with self._lock:
            remaining = []
            for termination, calls in self._planned:
                if termination.name.lower() != name.lower():
                    remaining.append((termination, calls))
                elif calls > 1:
                    remaining.append((termination, calls - 1))
                else:
                    due = termination.point
            self._planned = remaining
        return due
