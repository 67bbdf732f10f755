"""Measures how a run scales: 500 and 2,000 blobs of 64 KiB, in 3 rounds.

    python -m bench.scale [SMALL LARGE [BYTES [ROUNDS]]]

The whole app runs with the storage emulator, the simulator and the local host on a virtual clock,
so that waits take no time. Goals: no orchestration instance has more than 1,000 history events; a
blob in the large run takes at most 1.2 times as long as a blob in the small run.
"""

import statistics
import sys
import time

from bench.copy_memory import Peak, resident_mb
from local.azurite import Azurite
from tests.support.app_environment import AppEnvironment

BLOB_BYTES = 65_536
MAX_EVENTS = 1_000
MAX_RATIO = 1.2
ROUNDS = 3


def land(azurite: Azurite, blobs: int, blob_bytes: int) -> tuple[float, int, float]:
    """Land an export.

    Returns the duration in seconds, the number of history events in the instance with the longest
    history, and the memory growth in MB.
    """
    with AppEnvironment(azurite) as env:
        key = f"billed_usage/{env.invoice_id}/full"
        env.simulator.fill(key, blobs=blobs, blob_bytes=blob_bytes)
        env.simulator.publish(key)
        idle = resident_mb()
        with Peak() as peak:
            started_at = time.perf_counter()
            run_id = env.start()
            end = env.finish(run_id, 3600)
            seconds = time.perf_counter() - started_at
        assert end["outcome"] == "landed" and end["blobs"]["landed"] == blobs, end
        longest = max(
            len(env.host.history(instance["instanceId"])) for instance in env.host.instances()
        )
        return seconds, longest, peak.highest - idle


def main(
    small: int = 500, large: int = 2_000, blob_bytes: int = BLOB_BYTES, rounds: int = ROUNDS
) -> bool:
    """Run the benchmark and return whether it meets its goals."""
    per_blob: dict[int, list[float]] = {small: [], large: []}
    events = 0
    for _ in range(rounds):
        for blobs in (small, large):
            with Azurite() as azurite:
                seconds, longest, growth = land(azurite, blobs, blob_bytes)
            per_blob[blobs].append(seconds / blobs)
            events = max(events, longest)
            print(
                f"scale: {blobs} blobs in {seconds:.1f} s, "
                f"{1000 * seconds / blobs:.1f} ms per blob; "
                f"longest history {longest} events; memory +{growth:.0f} MB, including host and "
                "simulator"
            )
    ratio = statistics.median(per_blob[large]) / statistics.median(per_blob[small])
    passed = events <= MAX_EVENTS and ratio <= MAX_RATIO
    print(
        f"scale: with {large} blobs, a blob takes {ratio:.2f} times as long as with {small} blobs "
        f"(goal {MAX_RATIO}); longest history {events} events (goal {MAX_EVENTS}): "
        f"{'pass' if passed else 'FAIL'}"
    )
    return passed


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:5])) else 1)
