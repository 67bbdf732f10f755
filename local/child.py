"""Runs a module, as `python -m` does, and exits when standard input closes.

    python -m local.child local.simulator --port 0

The parent process holds the other end of the pipe. The operating system closes that end when the
parent exits for any reason, including SIGKILL, so no child outlives its parent.
"""

import os
import runpy
import signal
import sys
import threading
import time

TERMINATION_GRACE_SECONDS = 10.0


def main() -> None:
    """Run the module that the first command-line argument specifies."""
    threading.Thread(target=exit_with_parent, name="parent-watch", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def exit_with_parent() -> None:
    """Wait until standard input closes, send SIGTERM to this process, then force its exit."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # lets the module shut down cleanly
    time.sleep(TERMINATION_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
