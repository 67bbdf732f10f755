"""`make year`: simulates a year of scheduled cycles with three currencies and prints the versions.

    python -m bench.year [DAYS]

The exit code is 0 only if exactly the expected versions landed.
"""

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from tests.support.in_memory import InMemoryEnvironment
from tests.support.year import (
    IMMEDIATE,
    Scenario,
    count_requests,
    create_partner,
    list_landed_versions,
)

START = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
CURRENCIES = ("USD", "EUR", "GBP")
DATASETS = ("billed_usage", "billed_reconciliation", "unbilled_usage", "unbilled_reconciliation")


def main(days: int = 365) -> bool:
    """Run the simulation and return whether all versions landed as expected."""
    logging.disable(logging.CRITICAL)  # the simulation includes outages and throttling
    story, started_at = Scenario(START, days, CURRENCIES), time.perf_counter()
    with InMemoryEnvironment(
        start=story.start,
        partner=create_partner(*story.currencies),
        behaviour=IMMEDIATE,
        timers=True,
    ) as env:
        story.run(
            env,
            progress=lambda now: print(f"\r{now:%Y-%m-%d}", end="", flush=True),
            seconds=3_600,
        )
        versions, expected, summary = (
            list_landed_versions(env),
            story.expected(env),
            count_requests(env),
        )
        months = {invoice.invoice_id: str(invoice.month) for invoice in env.simulator.invoices()}
    seconds = time.perf_counter() - started_at
    print("\r" + grid(versions, expected, months))
    passed = versions == expected and summary.requests <= summary.budget
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.most_common())
    print(
        f"year: {days} days and {summary.outcomes.total()} runs in {seconds:.0f} s; "
        f"{summary.requests} requests to Graph, "
        f"{summary.refused} of them rejected (budget {summary.budget}); {outcomes}"
    )
    print(
        f"year: the catalogue {'matches' if versions == expected else 'does NOT match'} "
        "the calendar: "
        f"{'pass' if passed else 'FAIL'}"
    )
    return passed


def grid(
    versions: dict[str, list[Any]], expected: dict[str, list[Any]], months: dict[str, str]
) -> str:
    """Return the number of versions per month and dataset; `!` marks unexpected versions."""

    def month_of(key: str) -> str:
        scope = key.split("/")[1]
        return months.get(scope, scope)

    rows = [" ".join([f"{'month':8}", *(f"{dataset:>24}" for dataset in DATASETS)])]
    for month in sorted({month_of(key) for key in {*versions, *expected}}):
        cells = []
        for dataset in DATASETS:
            keys = [
                key
                for key in {*versions, *expected}
                if key.startswith(f"{dataset}/") and month_of(key) == month
            ]
            count = sum(len(versions.get(key, [])) for key in keys)
            is_expected = all(versions.get(key) == expected.get(key) for key in keys)
            cells.append(f"{(str(count) if keys else '-') + ('' if is_expected else ' !'):>24}")
        rows.append(" ".join([f"{month:8}", *cells]))
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:2])) else 1)
