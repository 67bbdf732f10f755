"""Measures a cold start: the time to import function_app.

    python -m bench.start_up

The result is compared with the import of the two SDKs that every such app needs. Each import runs
in its own process, alternately, so that the ratio is stable on a busy machine. Goal: at most 1.6
times as long.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_RATIO = 1.6
ROUNDS = 11
SDKS = "import azure.functions, azure.durable_functions"
APP = "import function_app"


def environment() -> dict[str, str]:
    """Return the environment with the sample settings."""
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    return {**os.environ, **{name: value for name, value in sample.items() if value}}


def measure(statement: str) -> float:
    """Return the seconds that a new interpreter needs for a statement."""
    started_at = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, env=environment(), check=True)
    return time.perf_counter() - started_at


def main() -> bool:
    """Run the benchmark and return whether it meets its goal."""
    empty, sdks, app = [], [], []
    for statement in (SDKS, APP):  # write the compiled modules
        measure(statement)
    for _ in range(ROUNDS):
        empty.append(measure("pass"))
        sdks.append(measure(SDKS))
        app.append(measure(APP))
    baseline = statistics.median(empty)
    ratio = statistics.median(
        (with_app - baseline) / (with_sdks - baseline)
        for with_app, with_sdks in zip(app, sdks, strict=True)
    )
    print(
        f"start-up: empty interpreter {baseline * 1000:.0f} ms, "
        f"with the SDKs {statistics.median(sdks) * 1000:.0f} ms, "
        f"with function_app {statistics.median(app) * 1000:.0f} ms"
    )
    passed = ratio <= MAX_RATIO
    print(
        f"start-up: function_app takes {ratio:.2f} times as long as the SDKs alone "
        f"(goal {MAX_RATIO}): {'pass' if passed else 'FAIL'}"
    )
    return passed


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
