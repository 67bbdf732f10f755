"""How the app is kept apart from the host: in a worker process with limits of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .settings import HostOptions
from .worker import Worker
from .worker_main import WorkerOptions

DEFAULT_MEMORY_MB = 2048


def _nobody(reason: str) -> None:
    """Who does not ask is not told; the log has it."""


@dataclass(frozen=True)
class Isolation:
    """`gone_for_good` is called, with the reason, when the worker process cannot be started again."""

    memory_mb: int = DEFAULT_MEMORY_MB  # 0: no limit
    json_log: bool = False
    colour: bool = False
    gone_for_good: Callable[[str], None] = _nobody

    def worker(self, root: Path, options: HostOptions, client_binding: Callable[[], str]) -> Worker:
        said = WorkerOptions(str(root), options.route_prefix, self.json_log, self.colour, self.memory_mb)
        return Worker(
            said, timeout=options.function_timeout, client_binding=client_binding, gone_for_good=self.gone_for_good)
