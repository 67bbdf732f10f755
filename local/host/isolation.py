"""Isolation of the app from the host in a worker process with its own memory limit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .settings import HostOptions
from .terminations import TerminationPlan
from .worker import Worker
from .worker_main import WorkerOptions

DEFAULT_MEMORY_MB = 2048


@dataclass(frozen=True)
class Isolation:
    """Options for the worker process."""

    memory_mb: int = DEFAULT_MEMORY_MB  # 0: no limit
    json_log: bool = False
    colour: bool = False

    def worker(
        self,
        root: Path,
        options: HostOptions,
        client_binding: Callable[[], str],
        on_unrecoverable: Callable[[str], None],
        terminations: TerminationPlan,
        on_termination: Callable[[], None],
    ) -> Worker:
        """Start a worker process that loads the app in `root`."""
        worker_options = WorkerOptions(
            str(root), options.route_prefix, self.json_log, self.colour, self.memory_mb
        )
        return Worker(
            worker_options,
            timeout=options.function_timeout_seconds,
            client_binding=client_binding,
            on_unrecoverable=on_unrecoverable,
            terminations=terminations,
            on_termination=on_termination,
        )
