"""How a landing grows: `python -m bench.scale [SMALL LARGE [BYTES [ROUNDS]]]`, 500 and 2,000 blobs of 64 KiB, 3 rounds.

The whole app on one virtual clock, so that no wait is counted: real storage emulator, simulated Microsoft, local host.
Goals: no orchestration instance over 1,000 history events; wall time per blob of the large one at most 1.2 times the
small one's.
"""

import statistics
import sys
import time

from bench.copy_memory import Peak, resident
from local.azurite import Azurite
from tests.support.world import World

BLOB_BYTES = 65_536
MOST_EVENTS = 1_000
GOAL = 1.2
ROUNDS = 3


def land(azurite: Azurite, blobs: int, blob_bytes: int) -> tuple[float, int, float]:
    """Seconds from the start of the run to its end, the events of its longest instance, and MB by which memory grew."""
    with World(azurite) as world:
        key = f"billed_usage/{world.invoice_id}/full"
        world.simulator.fill(key, blobs=blobs, blob_bytes=blob_bytes)
        world.simulator.publish(key)
        idle = resident()
        with Peak() as peak:
            began = time.perf_counter()
            run_id = world.start()
            end = world.finish(run_id, 3600)
            took = time.perf_counter() - began
        assert end["outcome"] == "landed" and end["blobs"]["landed"] == blobs, end
        longest = max(
            len(world.host.history(instance["instanceId"])) for instance in world.host.instances()
        )
        return took, longest, peak.highest - idle


def main(
    small: int = 500, large: int = 2_000, blob_bytes: int = BLOB_BYTES, rounds: int = ROUNDS
) -> bool:
    per_blob: dict[int, list[float]] = {small: [], large: []}
    events = 0
    for _ in range(rounds):
        for blobs in (small, large):
            with Azurite() as azurite:
                took, longest, grown = land(azurite, blobs, blob_bytes)
            per_blob[blobs].append(took / blobs)
            events = max(events, longest)
            print(
                f"scale: {blobs} blobs in {took:.1f} s, {1000 * took / blobs:.1f} ms each; longest history {longest} events; "
                f"memory +{grown:.0f} MB, with emulated host and simulator in the same process"
            )
    ratio = statistics.median(per_blob[large]) / statistics.median(per_blob[small])
    met = events <= MOST_EVENTS and ratio <= GOAL
    print(
        f"scale: a blob of {large} costs {ratio:.2f} of a blob of {small} (goal {GOAL}); longest history {events} events "
        f"(goal {MOST_EVENTS}): {'pass' if met else 'falls short'}"
    )
    return met


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:5])) else 1)
