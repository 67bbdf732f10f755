"""Requests to stop a program, made by a signal or by a thread of the program."""

import os
import signal
from types import FrameType


class StopRequests:
    """Lets the main thread wait for SIGTERM, SIGINT or a failure.

    The first signal requests a graceful stop. The second signal exits immediately.

    The requests are bytes in a pipe. A `threading.Event` is not safe here: a signal handler that
    calls `set` deadlocks if `wait` holds the lock of the event when the signal arrives, and a
    signal that arrives just before `wait` blocks is not handled until the next signal.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self._is_stopping = False
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)

    def install_signal_handlers(self) -> None:
        """Handle SIGTERM and SIGINT from now on. Only the main thread can call this."""
        signal.set_wakeup_fd(self._write_end)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def wait(self) -> None:
        """Wait for the first request. `failure` is then the reason if something failed."""
        os.read(self._read_end, 1)

    def fail(self, reason: str) -> None:
        """Request a stop because an essential part of the program failed."""
        self.failure = reason
        os.write(self._write_end, b"\0")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # The interpreter has already written the number to the pipe, because of `set_wakeup_fd`.
        if self._is_stopping:
            os._exit(128 + number)
        self._is_stopping = True
