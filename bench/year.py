"""`make year`: a whole year in three currencies on the schedule alone, in memory, and its months as a grid.

.venv/bin/python -m bench.year [DAYS]      365 unless told; ends with 0 only if all is as the calendar says
"""

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from tests.support.in_memory import MemoryWorld
from tests.support.year import CALM, Story, landed, partner, told

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
CURRENCIES = ("USD", "EUR", "GBP")
DATASETS = ("billed_usage", "billed_reconciliation", "unbilled_usage", "unbilled_reconciliation")


def main(days: int = 365) -> bool:
    logging.disable(logging.CRITICAL)  # outages and storms are part of the story
    story, began = Story(START, days, CURRENCIES), time.perf_counter()
    with MemoryWorld(
        start=story.start, partner=partner(*story.currencies), behaviour=CALM, timers=True
    ) as world:
        story.play(
            world,
            progress=lambda now: print(f"\r{now:%Y-%m-%d}", end="", flush=True),
            seconds=3_600,
        )
        found, expected, said = landed(world), story.expected(world), told(world)
        months = {invoice.invoice_id: str(invoice.month) for invoice in world.simulator.invoices()}
    seconds = time.perf_counter() - began
    print("\r" + grid(found, expected, months))
    met = found == expected and said.requests <= said.budget
    ended = ", ".join(f"{count} {outcome}" for outcome, count in said.outcomes.most_common())
    print(
        f"year: {days} days and {said.outcomes.total()} runs in {seconds:.0f} s; {said.requests} requests to Graph, "
        f"{said.refused} of them refused (budget {said.budget}); {ended}"
    )
    print(
        f"year: the catalogue holds {'exactly' if found == expected else 'NOT'} what the calendar says: "
        f"{'pass' if met else 'falls short'}"
    )
    return met


def grid(
    found: dict[str, list[Any]], expected: dict[str, list[Any]], months: dict[str, str]
) -> str:
    """Versions per month and dataset, over all currencies; `!` where they are not those expected."""

    def month_of(key: str) -> str:
        scope = key.split("/")[1]
        return months.get(scope, scope)

    rows = [" ".join([f"{'month':8}", *(f"{dataset:>24}" for dataset in DATASETS)])]
    for month in sorted({month_of(key) for key in {*found, *expected}}):
        cells = []
        for dataset in DATASETS:
            keys = [
                key
                for key in {*found, *expected}
                if key.startswith(f"{dataset}/") and month_of(key) == month
            ]
            count = sum(len(found.get(key, [])) for key in keys)
            right = all(found.get(key) == expected.get(key) for key in keys)
            cells.append(f"{(str(count) if keys else '-') + ('' if right else ' !'):>24}")
        rows.append(" ".join([f"{month:8}", *cells]))
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:2])) else 1)
