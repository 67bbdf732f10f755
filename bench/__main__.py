"""All benchmarks in turn, a line of pass or falls short each; ends with 1 if one falls short."""

import asyncio
import sys

from bench import copy_memory, host, ledger, scale, start_up

if __name__ == "__main__":
    sys.exit(0 if all([start_up.main(), asyncio.run(copy_memory.main()), scale.main(), host.main(), ledger.main()]) else 1)
