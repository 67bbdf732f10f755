"""The command: `python -m local.host --app-root DIR --port N --state-dir DIR [options]`, and `python -m local.host inspect`."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from . import inspect_state, logs
from .errors import HostError
from .isolation import DEFAULT_MEMORY_MB, Isolation
from .local_host import LocalHost


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["inspect"]:
        return inspect_state.main(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m local.host", description="Runs an Azure Functions app on this machine."
    )
    parser.add_argument(
        "--app-root", type=Path, required=True, help="the folder with function_app.py and host.json"
    )
    parser.add_argument(
        "--port", type=int, default=7071, help="on 127.0.0.1; 0 takes a free one (default: 7071)"
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=None,
        help="where instances are kept (default: APP_ROOT/.state/host)",
    )
    parser.add_argument(
        "--early-timers",
        action="store_true",
        help="fire durable timers up to a second early, as Azure does",
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run the app in this process, not in one of its own",
    )
    parser.add_argument(
        "--worker-memory",
        type=int,
        default=DEFAULT_MEMORY_MB,
        metavar="MB",
        help="what the worker process may use; 0: no limit (default: 2048)",
    )
    parser.add_argument("--json-log", action="store_true", help="log JSON lines")
    options = parser.parse_args(arguments)
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    logs.configure(json_lines=options.json_log, colour=colour)
    signals = _Signals()
    host = LocalHost(
        options.app_root,
        state_dir=options.state_dir or options.app_root / ".state" / "host",
        port=options.port,
        listen=True,
        early_timers=options.early_timers,
        isolated=None
        if options.in_process
        else Isolation(options.worker_memory, options.json_log, colour),
        on_failure=signals.fail,
    )
    try:
        host.start()
    except HostError as error:
        print(f"local host: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if options.in_process and host.function_timeout is not None:
        print(
            f"local host: functionTimeout ({host.function_timeout:g} s) is not kept with --in-process: nothing ends a function "
            "that never returns.",
            file=sys.stderr,
            flush=True,
        )
    print("\n".join(host.list_functions()))
    print(f"Listening on {host.base_url}", flush=True)
    signals.stop_requested.wait()
    if signals.failure is not None:
        host.stop(drain=False)
        return 1
    print("Stopping: waiting for what is running.", flush=True)
    if not host.stop(drain=True):
        print("Stopped; what was still running will run again at the next start.", flush=True)
        os._exit(0)  # threads that do not end would keep the process
    print("Stopped.", flush=True)
    return 0


class _Signals:
    """SIGTERM and SIGINT ask for an orderly end; the second one does not wait for it."""

    def __init__(self) -> None:
        self.stop_requested = threading.Event()
        self.failure: str | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def fail(self, reason: str) -> None:
        """Something without which the host is of no use has ended."""
        self.failure = reason
        self.stop_requested.set()

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested.is_set():
            os._exit(128 + number)
        self.stop_requested.set()


if __name__ == "__main__":
    sys.exit(main())
