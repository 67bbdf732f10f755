"""Command line of the local host.

python -m local.host --app-root DIR [--port N] [--state-dir DIR] [options]
python -m local.host inspect ...
"""

import argparse
import os
import sys
from pathlib import Path

from . import inspect_state, logs
from .errors import HostError
from .isolation import DEFAULT_MEMORY_MB, Isolation
from .local_host import LocalHost
from .stop_requests import StopRequests
from .terminations import Termination


def main(arguments: list[str] | None = None) -> int:
    """Run the host until SIGTERM or SIGINT, and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["inspect"]:
        return inspect_state.main(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m local.host", description="Run an Azure Functions app on this machine."
    )
    parser.add_argument(
        "--app-root",
        type=Path,
        required=True,
        help="folder that contains function_app.py and host.json",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=7071,
        help="port on 127.0.0.1; 0 selects a free port (default: 7071)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=None,
        help="folder for the state database (default: APP_ROOT/.state/host)",
    )
    parser.add_argument(
        "--early-timers",
        action="store_true",
        help="fire durable timers up to one second early, as Azure does",
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run the app in the host process instead of a worker process",
    )
    parser.add_argument(
        "--worker-memory",
        type=int,
        default=DEFAULT_MEMORY_MB,
        metavar="MB",
        help="memory limit for the worker process; 0 disables it (default: 2048)",
    )
    parser.add_argument(
        "--terminate-during",
        type=_parse_termination,
        action="append",
        default=[],
        metavar="NAME:N",
        help="test switch: end the worker process with SIGKILL during the Nth call of a function",
    )
    parser.add_argument("--json-log", action="store_true", help="write the log as JSON lines")
    options = parser.parse_args(arguments)
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    logs.configure(json_lines=options.json_log, colour=colour)
    stop_requests = StopRequests()
    stop_requests.install_signal_handlers()
    host = LocalHost(
        options.app_root,
        state_dir=options.state_dir or options.app_root / ".state" / "host",
        port=options.port,
        listen=True,
        early_timers=options.early_timers,
        isolated=None
        if options.in_process
        else Isolation(options.worker_memory, options.json_log, colour),
        on_failure=stop_requests.fail,
        terminations=options.terminate_during,
    )
    try:
        host.start()
    except HostError as error:
        print(f"local host: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    if options.in_process and host.function_timeout_seconds is not None:
        print(
            f"local host: functionTimeout ({host.function_timeout_seconds:g} s) is not enforced "
            "with --in-process: the host cannot stop a function that does not return.",
            file=sys.stderr,
            flush=True,
        )
    print("\n".join(host.list_functions()))
    print(f"Listening on {host.base_url}", flush=True)
    stop_requests.wait()
    if stop_requests.failure is not None:
        host.stop(drain=False)
        return 1
    print("Stopping: waiting for running functions.", flush=True)
    if not host.stop(drain=True):
        print("Stopped. Unfinished functions will run again on the next start.", flush=True)
        os._exit(0)  # threads that are still running would keep the process alive
    print("Stopped.", flush=True)
    return 0


def _parse_termination(text: str) -> Termination:
    try:
        return Termination.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
