"""All benchmarks in turn, a line of pass or falls short each; ends with 1 if one falls short."""

import asyncio
import sys

from bench import copy_memory, cycle, host, ledger, scale, start_up, year

if __name__ == "__main__":
    met = [
        start_up.main(),
        asyncio.run(copy_memory.main()),
        scale.main(),
        host.main(),
        ledger.main(),
        cycle.main(),
        year.main(),
    ]
    sys.exit(0 if all(met) else 1)
