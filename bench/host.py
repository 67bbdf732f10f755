"""Benchmarks the local host: `python -m bench.host`.

The SDK replays the whole history in every episode. The benchmark excludes this cost: it replays the
recorded requests again without the engine and subtracts the duration.

Each measurement runs with the functions in the host process and with the functions in a worker
process, for which the targets are 1.6 times higher. The state is on disk. Memory is measured
separately for the host and the worker. Durations are wall-clock times, which depend on the load of
the machine; the CPU times do not.

For comparison, the benchmark runs a fan-out with the in-memory backend of durabletask, which it
installs in .state/peer.
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
from local.host.history import EventType
from local.host.isolation import Isolation

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "bench" / "host_app"
PEER = ROOT / ".state" / "peer"
FAN_OUT_SIZE, MEMORY_FAN_OUT_SIZE, TIMER_COUNT = 1_000, 5_000, 300
WORKER_FACTOR = 1.6
IDLE_SECONDS, HTTP_SECONDS, CONNECTION_COUNT = 10.0, 3.0, 20


def report(
    name: str,
    value: float,
    target: float,
    unit: str,
    *,
    at_least: bool = False,
    isolated: bool = False,
) -> bool:
    """Print a result and return whether it meets its target."""
    if isolated:
        target = target / WORKER_FACTOR if at_least else target * WORKER_FACTOR
    is_met = value >= target if at_least else value <= target
    limit = "at least" if at_least else "at most"
    mode = "worker process" if isolated else "in process"
    print(
        f"host: {name}, {mode}: {value:.4g} {unit} (target {limit} {target:.4g}): "
        f"{'pass' if is_met else 'fail'}",
        flush=True,
    )
    return is_met


@contextmanager
def start_host(isolated: bool) -> Iterator[LocalHost]:
    """Start a host with its state on disk."""
    with (
        tempfile.TemporaryDirectory() as state_dir,
        LocalHost(
            APP,
            listen=True,
            state_dir=state_dir,
            settings={"AZURE_FUNCTIONS_DURABLE_STRICT_TYPING": "1"},
            isolated=Isolation(memory_mb=0) if isolated else None,
        ) as host,
    ):
        yield host


class RequestRecorder:
    """Records the requests to orchestrators and replays them without the engine."""

    def __init__(self, host: LocalHost) -> None:
        self.requests: list[str] = []
        self._call = host._invoker.call_orchestrator
        host._invoker.call_orchestrator = self  # type: ignore[method-assign]

    def __call__(self, function: object, context: str) -> str:
        self.requests.append(context)
        return self._call(function, context)  # type: ignore[arg-type]

    def replay(self, host: LocalHost) -> float:
        """Return the duration of the replay in seconds. `host` must run in this process."""
        function = host.functions.find("fan_out")
        assert function is not None
        started_at = time.perf_counter()
        for request in self.requests:
            function.call(request)
        return time.perf_counter() - started_at


def measure_fan_out(isolated: bool) -> bool:
    """Measure the duration of a fan-out and the overhead of the host."""
    with start_host(isolated) as host:
        host.wait(host.start_orchestration("fan_out", 50))
        recorder = RequestRecorder(host)
        started_at, cpu_before = time.perf_counter(), cpu_seconds(host)
        output = host.wait(host.start_orchestration("fan_out", FAN_OUT_SIZE))["output"]
        duration, cpu_used = time.perf_counter() - started_at, cpu_seconds(host) - cpu_before
        assert output == FAN_OUT_SIZE * (FAN_OUT_SIZE + 1) // 2
        replay_seconds = replay_in_process(recorder) if isolated else recorder.replay(host)
    print(
        f"host: fan-out to {FAN_OUT_SIZE} activities: {duration:.2f} s "
        f"({cpu_used:.2f} s of CPU time), {len(recorder.requests)} episodes; "
        f"SDK replay {replay_seconds:.2f} s, ratio {duration / replay_seconds:.2f}"
    )
    overhead_ms = 1000 * (duration - replay_seconds) / FAN_OUT_SIZE
    return all(
        [
            report(f"fan-out to {FAN_OUT_SIZE} activities", duration, 1.2, "s", isolated=isolated),
            report("engine overhead per activity", overhead_ms, 1.0, "ms", isolated=isolated),
        ]
    )


def replay_in_process(recorder: RequestRecorder) -> float:
    """Return the duration of the replay on a new host in this process."""
    with start_host(False) as host:
        return recorder.replay(host)


def measure_memory(isolated: bool) -> bool:
    """Measure the peak memory in a new process that has not loaded the modules of this one."""
    process = subprocess.run(
        [sys.executable, "-c", f"from bench.host import print_memory; print_memory({isolated})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    host_mb, *worker_mb = (float(text) for text in process.stdout.split())
    is_met = report(
        f"peak resident memory of the host, {MEMORY_FAN_OUT_SIZE} activities",
        host_mb,
        80,
        "MB",
        isolated=isolated,
    )
    for peak_mb in worker_mb:
        is_met = (
            report(
                f"peak resident memory of the worker, {MEMORY_FAN_OUT_SIZE} activities",
                peak_mb,
                80,
                "MB",
                isolated=True,
            )
            and is_met
        )
    return is_met


def print_memory(isolated: bool) -> None:
    """Run a fan-out and print the peak memory of the host and of the worker in MB."""
    with start_host(isolated) as host:
        host.wait(host.start_orchestration("fan_out", MEMORY_FAN_OUT_SIZE), 300)
        print(
            peak_megabytes(os.getpid()),
            *([peak_megabytes(host._worker.pid)] if host._worker else []),
        )


def peak_megabytes(pid: int) -> float:
    """Return the peak resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure_timers_and_idle(isolated: bool) -> bool:
    """Measure the threads for pending timers and the CPU usage of an idle host."""
    with start_host(isolated) as host:
        host.wait(host.start_orchestration("fan_out", 10))
        host.settle()
        threads_before = threading.active_count()
        instance_id = host.start_orchestration("timers", TIMER_COUNT)
        host.run_until(
            lambda: (
                sum(
                    event["EventType"] == EventType.TIMER_CREATED
                    for event in host.history(instance_id)
                )
                == TIMER_COUNT
            )
        )
        host.settle()
        threads = threading.active_count() - threads_before
        cpu_before, started_at = cpu_seconds(host), time.perf_counter()
        time.sleep(IDLE_SECONDS)
        idle_percent = 100 * (cpu_seconds(host) - cpu_before) / (time.perf_counter() - started_at)
        host.terminate(instance_id)
        host.wait(instance_id)
    return all(
        [
            report(
                f"additional threads for {TIMER_COUNT} pending timers",
                threads,
                0,
                "threads",
                isolated=isolated,
            ),
            report("CPU usage when idle", idle_percent, 0.1, "%", isolated=isolated),
        ]
    )


def cpu_seconds(host: LocalHost) -> float:
    """Return the CPU time that this process and the worker have used."""
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


def measure_http(isolated: bool) -> bool:
    """Measure the rate of HTTP requests and their CPU time."""
    with start_host(isolated) as host:
        cpu_before = cpu_seconds(host)
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                f"from bench.host import send_requests; send_requests({host.base_url!r})",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        cpu_used = cpu_seconds(host) - cpu_before
    rate = float(process.stdout)
    cpu_micros = 1e6 * cpu_used / (rate * HTTP_SECONDS)
    print(f"host: CPU time per HTTP request: {cpu_micros:.0f} us")
    return report("HTTP trigger", rate, 2_000, "requests/s", at_least=True, isolated=isolated)


def send_requests(url: str) -> None:
    """Send requests on several connections and print the rate.

    The client does as little as possible because it shares the CPU with the host.
    """
    address = urlsplit(url)
    request = f"GET /api/ping HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
    response_count = 0

    async def use_connection(deadline: float) -> None:
        nonlocal response_count
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        while time.perf_counter() < deadline:
            writer.write(request)
            header = await reader.readuntil(b"\r\n\r\n")
            assert header.startswith(b"HTTP/1.1 200"), header
            await reader.readexactly(4)
            response_count += 1
        writer.close()

    async def use_all_connections() -> None:
        deadline = time.perf_counter() + HTTP_SECONDS
        await asyncio.gather(*(use_connection(deadline) for _ in range(CONNECTION_COUNT)))

    asyncio.run(use_all_connections())
    print(response_count / HTTP_SECONDS)


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
    c.wait_for_orchestration_completion(
        c.schedule_new_orchestration(fan_out, input=50), timeout=60
    )
    started_at = time.perf_counter()
    state = c.wait_for_orchestration_completion(
        c.schedule_new_orchestration(fan_out, input=%d), timeout=120
    )
    print(time.perf_counter() - started_at)
backend.stop()
"""


def measure_peer() -> bool:
    """Measure the fan-out with durabletask for comparison. It has no target."""
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
    process = subprocess.run(
        [sys.executable, "-c", PEER_SCRIPT % FAN_OUT_SIZE],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(PEER)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    result = (
        f"{float(process.stdout.split()[-1]):.2f} s"
        if process.returncode == 0
        else f"failed: {process.stderr[-300:]}"
    )
    print(
        f"host: fan-out to {FAN_OUT_SIZE} activities with durabletask's in-memory backend: {result}"
    )
    return process.returncode == 0


def main() -> bool:
    """Run all measurements and return whether all targets are met."""
    results: list[bool] = []
    measurements: list[Callable[[bool], bool]] = [
        measure_fan_out,
        measure_memory,
        measure_timers_and_idle,
        measure_http,
    ]
    for measure in measurements:
        results += [measure(isolated) for isolated in (False, True)]
    return all([*results, measure_peer()])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
