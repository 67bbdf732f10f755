"""Runs all benchmarks. The exit code is 1 if any benchmark misses its goal."""

import sys

from bench import copy_memory, cycle, host, ledger, marker, scale, start_up, year

if __name__ == "__main__":
    passed = [
        start_up.main(),
        copy_memory.main(),
        scale.main(),
        host.main(),
        ledger.main(),
        marker.main(),
        cycle.main(),
        year.main(),
    ]
    sys.exit(0 if all(passed) else 1)
