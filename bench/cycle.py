"""Measures how a cycle scales: 48 and 200 due runs, in memory, with a virtual clock.

    python -m bench.cycle [SMALL LARGE]

Goals: no orchestration instance has more than 2,000 history events; the large cycle needs at most
20 MB more than the small one. The stores are in memory, so this includes the rows and files of 152
more runs.
"""

import gc
import logging
import sys
import time
from dataclasses import replace

from bench.copy_memory import Peak, resident_mb
from tests.support.in_memory import InMemoryEnvironment
from tests.support.year import IMMEDIATE, create_partner

MAX_EVENTS = 2_000
MAX_GROWTH_MB = 20
CURRENCIES = ("USD", "EUR", "GBP", "CHF")
RUNS_PER_MONTH = 2 * len(CURRENCIES)  # usage and reconciliation of one invoice per currency


def run_cycle(due: int) -> tuple[float, int, int, float]:
    """Run a cycle.

    Returns the duration in seconds, the number of history events in the cycle, the number in the
    instance with the longest history, and the memory growth in MB.
    """
    months = due // RUNS_PER_MONTH
    with InMemoryEnvironment(
        partner=replace(create_partner(*CURRENCIES), invoice_months=months),
        behaviour=IMMEDIATE,
        INVOICE_SOURCE="partner_center",
        INVOICE_LOOKBACK_MONTHS=str(months),
        EXPORT_DATASETS="billed_usage,billed_reconciliation",
    ) as env:
        gc.collect()
        idle = resident_mb()
        with Peak() as peak:
            started_at = time.perf_counter()
            cycle = env.run_cycle()
            seconds = time.perf_counter() - started_at
        assert len(cycle["runs"]) == due and cycle["outcomes"] == {"landed": due}, cycle["outcomes"]
        events = {
            instance["instanceId"]: len(env.host.history(instance["instanceId"]))
            for instance in env.host.instances()
        }
        return seconds, events[cycle["cycle_id"]], max(events.values()), peak.highest - idle


def main(small: int = 48, large: int = 200) -> bool:
    """Run the benchmark and return whether it meets its goals."""
    logging.disable(logging.CRITICAL)
    run_cycle(RUNS_PER_MONTH)  # imports and compiles everything once
    growth = {}
    for due in (small, large):
        seconds, events, longest, growth[due] = run_cycle(due)
        print(
            f"cycle: {due} due runs in {seconds:.1f} s; {events} history events in the cycle, "
            f"{longest} in the longest instance; memory +{growth[due]:.0f} MB, including host, "
            "stores and simulator"
        )
    passed = longest <= MAX_EVENTS and growth[large] <= growth[small] + MAX_GROWTH_MB
    print(
        f"cycle: longest history {longest} events (goal {MAX_EVENTS}), "
        f"memory +{growth[large] - growth[small]:.0f} MB for {large - small} more runs "
        f"(goal {MAX_GROWTH_MB}): {'pass' if passed else 'FAIL'}"
    )
    return passed


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:3])) else 1)
