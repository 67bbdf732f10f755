"""Runs a module as `python -m` would, and ends the process when its standard input closes.

    python -m local.child local.simulator --port 0

The parent holds the other end of the pipe. It closes however the parent ends, kill -9 included, so no child outlives it.
"""

import os
import runpy
import signal
import sys
import threading
import time

TERMINATION_GRACE_SECONDS = 10.0


def main() -> None:
    threading.Thread(target=exit_with_parent, name="parent-watch", daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def exit_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # the module's own clean end
    time.sleep(TERMINATION_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
