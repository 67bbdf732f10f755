"""What a cold start pays: `python -m bench.start_up`.

Importing function_app against importing the two SDKs that every such app imports, each in a process of its own, turn by
turn, so that the ratio holds on a noisy machine. Goal: at most 1.6 times.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOAL = 1.6
ROUNDS = 11
SDKS = "import azure.functions, azure.durable_functions"
APP = "import function_app"


def environment() -> dict[str, str]:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    return {**os.environ, **{name: value for name, value in sample.items() if value}}


def seconds(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, env=environment(), check=True)
    return time.perf_counter() - began


def main() -> bool:
    nothing, sdks, app = [], [], []
    for statement in (SDKS, APP):  # warm the caches of compiled modules
        seconds(statement)
    for _ in range(ROUNDS):
        nothing.append(seconds("pass"))
        sdks.append(seconds(SDKS))
        app.append(seconds(APP))
    empty = statistics.median(nothing)
    ratio = statistics.median(
        (mine - empty) / (theirs - empty) for mine, theirs in zip(app, sdks, strict=True)
    )
    print(
        f"start-up: an empty interpreter {empty * 1000:.0f} ms, with the SDKs {statistics.median(sdks) * 1000:.0f} ms, "
        f"with function_app {statistics.median(app) * 1000:.0f} ms"
    )
    met = ratio <= GOAL
    print(
        f"start-up: importing function_app takes {ratio:.2f} of what the SDKs alone take (goal {GOAL}): "
        f"{'pass' if met else 'falls short'}"
    )
    return met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
