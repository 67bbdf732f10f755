"""How a cycle grows: `python -m bench.cycle [SMALL LARGE]`, 48 and 200 due runs, in memory, on one virtual clock.

Goals: no orchestration instance of the large cycle over 2,000 history events; memory flat: the large cycle
adds at most 20 MB to what the small one does, which is the rows and files of 152 runs more, as the stores are in memory.
"""

import gc
import logging
import sys
import time
from dataclasses import replace

from bench.copy_memory import Peak, resident
from tests.support.in_memory import MemoryWorld
from tests.support.year import CALM, partner

MOST_EVENTS = 2_000
SPARE = 20  # MB
CURRENCIES = ("USD", "EUR", "GBP", "CHF")
RUNS_A_MONTH = 2 * len(CURRENCIES)  # an invoice in each, with its usage and its reconciliation


def play(due: int) -> tuple[float, int, int, float]:
    """Seconds, events of the cycle itself, events of the longest instance, and MB by which memory grew while it ran."""
    months = due // RUNS_A_MONTH
    with MemoryWorld(
        partner=replace(partner(*CURRENCIES), invoice_months=months),
        behaviour=CALM,
        INVOICE_SOURCE="partner_center",
        INVOICE_LOOKBACK_MONTHS=str(months),
        EXPORT_DATASETS="billed_usage,billed_reconciliation",
    ) as world:
        gc.collect()
        idle = resident()
        with Peak() as peak:
            began = time.perf_counter()
            cycle = world.run_cycle()
            took = time.perf_counter() - began
        assert len(cycle["runs"]) == due and cycle["outcomes"] == {"landed": due}, cycle["outcomes"]
        events = {
            one["instanceId"]: len(world.host.history(one["instanceId"]))
            for one in world.host.instances()
        }
        return took, events[cycle["cycle_id"]], max(events.values()), peak.highest - idle


def main(small: int = 48, large: int = 200) -> bool:
    logging.disable(logging.CRITICAL)
    play(RUNS_A_MONTH)  # what is imported and compiled once
    grown = {}
    for due in (small, large):
        took, own, longest, grown[due] = play(due)
        print(
            f"cycle: {due} due runs in {took:.1f} s; history of the cycle {own} events, longest of any instance {longest}; "
            f"memory +{grown[due]:.0f} MB, with host, stores and simulator in the same process"
        )
    met = longest <= MOST_EVENTS and grown[large] <= grown[small] + SPARE
    print(
        f"cycle: longest history {longest} events (goal {MOST_EVENTS}), memory +{grown[large] - grown[small]:.0f} MB for "
        f"{large - small} more runs (goal {SPARE}): {'pass' if met else 'falls short'}"
    )
    return met


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:3])) else 1)
