"""What the local host itself costs: `python -m bench.host`.

The SDK replays the whole history in every episode; that cost is not the host's, so it is measured again with the engine off, on
the very requests of the run, and taken away. Each figure in-process and with the worker process (which may be 1.6 times worse),
with the state on disk as a developer has it; memory for host and worker apart. Times are of the wall clock: on a machine that
does other things they say little, but the processor seconds beside them do. The peer is durabletask's in-memory backend, which is
installed for this into .state/peer.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from local.host import LocalHost
from local.host.isolation import Isolation

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "bench" / "host_app"
PEER = ROOT / ".state" / "peer"
FAN_OUT, MANY, TIMERS = 1_000, 5_000, 300
WORKER_FACTOR = 1.6
SECONDS_IDLE, SECONDS_HTTP, CONNECTIONS = 10.0, 3.0, 20


def line(
    name: str,
    value: float,
    goal: float,
    unit: str,
    *,
    at_least: bool = False,
    isolated: bool = False,
) -> bool:
    """Prints one figure; True if it meets its goal."""
    if isolated:
        goal = goal / WORKER_FACTOR if at_least else goal * WORKER_FACTOR
    met = value >= goal if at_least else value <= goal
    mode = "worker process" if isolated else "in process"
    print(
        f"host: {name}, {mode}: {value:.4g} {unit} (goal {'at least' if at_least else 'at most'} {goal:.4g}): "
        f"{'pass' if met else 'falls short'}",
        flush=True,
    )
    return met


@contextmanager
def running(isolated: bool) -> Iterator[LocalHost]:
    with (
        tempfile.TemporaryDirectory() as state,
        LocalHost(
            APP,
            listen=True,
            state_dir=state,
            settings={"AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1"},
            isolated=Isolation(memory_mb=0) if isolated else None,
        ) as host,
    ):
        yield host


class Recorded:
    """Every request that an orchestrator gets, and what the whole of them takes again with the engine off."""

    def __init__(self, host: LocalHost) -> None:
        self.requests: list[str] = []
        self._call = host._invoker.orchestrator
        host._invoker.orchestrator = self  # type: ignore[method-assign,assignment]

    def __call__(self, function: object, context: str) -> str:
        self.requests.append(context)
        return self._call(function, context)  # type: ignore[arg-type]

    def replay(self, host: LocalHost) -> float:
        """`host`: one that has the app in this process."""
        function = host.functions.find("fan_out")
        assert function is not None
        began = time.perf_counter()
        for request in self.requests:
            function.call(request)
        return time.perf_counter() - began


def fan_out(isolated: bool) -> bool:
    with running(isolated) as host:
        host.wait(host.start_orchestration("fan_out", 50))
        recorded = Recorded(host)
        began, used = time.perf_counter(), cpu(host)
        output = host.wait(host.start_orchestration("fan_out", FAN_OUT))["output"]
        took, used = time.perf_counter() - began, cpu(host) - used
        assert output == FAN_OUT * (FAN_OUT + 1) // 2
        replayed = again(recorded) if isolated else recorded.replay(host)
    print(
        f"host: fan-out of {FAN_OUT} in {took:.2f} s ({used:.2f} s of processors), {len(recorded.requests)} episodes; "
        f"the SDK's replay alone {replayed:.2f} s, ratio {took / replayed:.2f}"
    )
    overhead = 1000 * (took - replayed) / FAN_OUT
    return all(
        [
            line(f"fan-out of {FAN_OUT}", took, 1.2, "s", isolated=isolated),
            line("engine overhead per trivial activity", overhead, 1.0, "ms", isolated=isolated),
        ]
    )


def again(recorded: Recorded) -> float:
    with running(False) as host:
        return recorded.replay(host)


def memory(isolated: bool) -> bool:
    """In a process of its own, so that what this one has loaded does not count."""
    told = subprocess.run(
        [sys.executable, "-c", f"from bench.host import many; many({isolated})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    host, *worker = (float(text) for text in told.stdout.split())
    met = line(
        f"{MANY} activities, resident_mb set of the host at its peak",
        host,
        80,
        "MB",
        isolated=isolated,
    )
    for peak in worker:
        met = (
            line(
                f"{MANY} activities, resident_mb set of the worker at its peak",
                peak,
                80,
                "MB",
                isolated=True,
            )
            and met
        )
    return met


def many(isolated: bool) -> None:
    with running(isolated) as host:
        host.wait(host.start_orchestration("fan_out", MANY), 300)
        print(
            peak_megabytes(os.getpid()),
            *([peak_megabytes(host._worker.pid)] if host._worker else []),
        )


def peak_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def timers_and_idle(isolated: bool) -> bool:
    with running(isolated) as host:
        host.wait(host.start_orchestration("fan_out", 10))
        host.settle()
        before = threading.active_count()
        iid = host.start_orchestration("timers", TIMERS)
        host.run_until(
            lambda: sum(event["EventType"] == 10 for event in host.history(iid)) == TIMERS
        )
        host.settle()
        threads = threading.active_count() - before
        used, began = cpu(host), time.perf_counter()
        time.sleep(SECONDS_IDLE)
        idle = 100 * (cpu(host) - used) / (time.perf_counter() - began)
        host.terminate(iid)
        host.wait(iid)
    return all(
        [
            line(
                f"threads that {TIMERS} pending timers add",
                threads,
                0,
                "threads",
                isolated=isolated,
            ),
            line("processor while idle", idle, 0.1, "%", isolated=isolated),
        ]
    )


def cpu(host: LocalHost) -> float:
    total = time.process_time()
    if host._worker is not None:
        fields = (
            Path(f"/proc/{host._worker.pid}/stat")
            .read_text(encoding="ascii")
            .rpartition(")")[2]
            .split()
        )
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def http(isolated: bool) -> bool:
    with running(isolated) as host:
        used = cpu(host)
        told = subprocess.run(
            [sys.executable, "-c", f"from bench.host import requests; requests({host.base_url!r})"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        used = cpu(host) - used
    rate = float(told.stdout)
    print(f"host: an HTTP request takes {1e6 * used / (rate * SECONDS_HTTP):.0f} us of processors")
    return line("HTTP trigger", rate, 2_000, "requests/s", at_least=True, isolated=isolated)


def requests(url: str) -> None:
    """The client: as little as can be, on 20 connections, so that the host is what is measured."""
    address = urlsplit(url)
    request = f"GET /api/ping HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
    done = 0

    async def one(until: float) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while time.perf_counter() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(4)
            done += 1
        writer.close()

    async def all_of_them() -> None:
        until = time.perf_counter() + SECONDS_HTTP
        await asyncio.gather(*(one(until) for _ in range(CONNECTIONS)))

    asyncio.run(all_of_them())
    print(done / SECONDS_HTTP)


PEER_SCRIPT = """
import time
from durabletask import client, task, worker
from durabletask.testing import create_test_backend

def inc(context, n): return n + 1
def fan_out(context, n):
    results = yield task.when_all([context.call_activity(inc, input=i) for i in range(n)])
    return sum(results)

backend = create_test_backend(port=50151)
with worker.TaskHubGrpcWorker(host_address="localhost:50151", secure_channel=False) as w:
    w.add_orchestrator(fan_out); w.add_activity(inc); w.start()
    c = client.TaskHubGrpcClient(host_address="localhost:50151", secure_channel=False)
    c.wait_for_orchestration_completion(c.schedule_new_orchestration(fan_out, input=50), timeout=60)
    began = time.perf_counter()
    state = c.wait_for_orchestration_completion(c.schedule_new_orchestration(fan_out, input=%d), timeout=120)
    print(time.perf_counter() - began)
backend.stop()
"""


def peer() -> bool:
    """No goal: for comparison."""
    if not (PEER / "durabletask").exists():
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-qq",
                "--disable-pip-version-check",
                "--target",
                str(PEER),
                "durabletask==1.12.0",
            ],
            check=True,
            capture_output=True,
        )
    told = subprocess.run(
        [sys.executable, "-c", PEER_SCRIPT % FAN_OUT],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(PEER)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    shown = (
        f"{float(told.stdout.split()[-1]):.2f} s"
        if told.returncode == 0
        else f"did not run: {told.stderr[-300:]}"
    )
    print(f"host: the same fan-out of {FAN_OUT} with durabletask's in-memory backend: {shown}")
    return told.returncode == 0


def main() -> bool:
    results: list[bool] = []
    measures: list[Callable[[bool], bool]] = [fan_out, memory, timers_and_idle, http]
    for measure in measures:
        results += [measure(isolated) for isolated in (False, True)]
    return all([*results, peer()])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
