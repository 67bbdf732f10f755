"""Measures the ledger on the storage emulator: `python -m bench.ledger`.

Goals:

- The first page of `GET /runs` (100 of 10,000 runs in the month) and of `GET /catalogue` (100 of
  1,000 keys, with 10,000 versions) needs one request to the tables.
- Starting a run needs 3 requests.
- The ledger takes at most 5% of the time that is needed to copy 1,000 blobs of 8 MiB. The ledger
  calls of such a copy are timed separately. SAMPLE blobs are copied in another process before and
  after the ledger calls, with and without verification. In production, the ledger calls of a batch
  overlap with the copies of other batches, so the actual share is smaller.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import peers
from bench.copy_contestant import sas
from bench.copy_speed import run_action
from local.azurite import Azurite
from shared.blob_facts import BlobFacts
from shared.clock import SystemClock
from shared.exports import BillingMonth, Dataset, ExportKey, MonthScope
from shared.ledger.blobs import BlobRow
from shared.ledger.claims import claim
from shared.ledger.keys import run_id, run_keys, scope_key, version_row
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.ledger.tables import Tables

RUNS, KEYS, VERSIONS, BLOBS, BATCH, AT_ONCE = 10_000, 1_000, 10_000, 1_000, 10, 8
SAMPLE, BLOB_BYTES = 48, 8 << 20
WAYS = (
    ("auto", "content"),
    ("server", "transfer"),
)  # the default, and the fastest: server-side copy without reading the blobs back
FAST = 200e6  # bytes per second; faster than one worker can copy here
GOAL_SHARE = 0.05
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class RequestCounter:
    """Counts the requests to the tables."""

    def __init__(self) -> None:
        self.requests = 0

    def add(self, _: Any) -> None:
        self.requests += 1


def report(result: str, met: bool) -> bool:
    """Print a result and return whether its goal is met."""
    print(f"ledger: {result}: {'pass' if met else 'fail'}")
    return met


async def fill(tables: Tables) -> None:
    """Insert the runs, the catalogue entries and the versions."""
    key = ExportKey.parse("billed_usage/G016907411/full")
    runs = {}
    for n in range(RUNS):
        made = run_id(key, NOW + timedelta(seconds=n))
        runs[run_keys(made)[1]] = {
            "run_id": made,
            "key": str(key),
            "stage": "ended",
            "outcome": "landed",
            "started_at": "x",
        }
    await tables.upsert_many("runs", "202611", runs)
    month = BillingMonth(2020, 1)
    rows: dict[str, dict[str, Any]] = {}
    versions: dict[str, dict[str, Any]] = {}
    for n in range(KEYS):
        each = ExportKey(
            Dataset.UNBILLED_USAGE,
            MonthScope(month, f"X{chr(65 + n % 26)}{chr(65 + n // 26 % 26)}"),
        )
        month = month.next() if n % 20 == 19 else month
        rows[scope_key(each)] = {"key": str(each), "version": "v", "billing_month": str(month)}
        versions |= {
            version_row(each, f"e{v}", 1): {"key": str(each), "state": "complete"}
            for v in range(VERSIONS // KEYS)
        }
    await tables.upsert_many("catalogue", "unbilled_usage", rows)
    await tables.upsert_many("versions", "unbilled_usage", versions)


async def copy_overhead(ledger: Ledger) -> float:
    """Return the duration, in seconds, of the ledger calls for a copy of BLOBS blobs.

    The calls are those that the activities make, with at most AT_ONCE concurrent batches.
    """
    key = ExportKey.parse("billed_usage/G016907411/full")
    made = run_id(key, NOW + timedelta(days=20), "bnch")
    await claim(ledger, Run(made, str(key)), leave_trace=False)
    gate = asyncio.Semaphore(AT_ONCE)

    async def batch(first: int) -> None:
        async with gate:
            await ledger.holding(made)
            names = [f"part-{n:05}.json.gz" for n in range(first, first + BATCH)]
            await ledger.blobs.get_many(key, "v", names)
            await ledger.blobs.record(
                key,
                "v",
                [
                    BlobRow(name, True, made, "0x8D", BlobFacts(8 << 20, "m" * 24, "s" * 64, 9))
                    for name in names
                ],
            )

    started = time.perf_counter()
    await asyncio.gather(*(batch(first) for first in range(0, BLOBS, BATCH)))
    return time.perf_counter() - started


def measure_copy(azurite: Azurite, container: str, mode: str, proof: str) -> float:
    """Return the seconds needed to copy BLOBS blobs, extrapolated from a copy of SAMPLE blobs."""
    billing, landing = azurite.billing, azurite.landing
    peers.create_container(azurite, container)
    result = run_action(
        "copy",
        landing=landing.connection_string,
        container=container,
        root=f"{billing.blob_url}/exports/root",
        sas=sas(billing.name, billing.key, "exports"),
        mode=mode,
        proof=proof,
        blobs=SAMPLE,
    )
    return float(result["seconds"]) / SAMPLE * BLOBS


async def measure(azurite: Azurite) -> bool:
    """Measure everything and return whether all goals are met."""
    counter = RequestCounter()
    tables = Tables(
        "bench", connection_string=azurite.landing.connection_string, raw_request_hook=counter.add
    )
    ledger = Ledger(tables, SystemClock(), hub="Bench")
    await fill(tables)
    met = []
    for name, page in (
        (f"first page of {RUNS} runs", lambda: ledger.runs.get_page("202611", limit=100)),
        (
            f"first page of {KEYS} keys with {VERSIONS} versions",
            lambda: ledger.catalogue.get_page(Dataset.UNBILLED_USAGE, limit=100),
        ),
    ):
        counter.requests, started = 0, time.perf_counter()
        rows, continuation = await page()
        elapsed = time.perf_counter() - started
        met.append(
            report(
                f"{name}: {len(rows)} rows, {counter.requests} request (goal 1), "
                f"{elapsed * 1000:.0f} ms",
                len(rows) == 100 and counter.requests == 1 and continuation is not None,
            )
        )
    counter.requests = 0
    key = ExportKey.parse("unbilled_usage/2026-11/USD/full")
    await claim(ledger, Run(run_id(key, NOW, "bnch"), str(key)), leave_trace=False)
    met.append(
        report(f"starting a run: {counter.requests} requests (goal 3)", counter.requests == 3)
    )
    run_action("upload", source=azurite.billing.connection_string, blobs=SAMPLE, bytes=BLOB_BYTES)
    before = [measure_copy(azurite, f"before{n}", *way) for n, way in enumerate(WAYS)]
    seconds = await copy_overhead(ledger)
    for n, (mode, proof) in enumerate(WAYS):
        copy = (before[n] + measure_copy(azurite, f"behind{n}", mode, proof)) / 2
        share = seconds / (copy + seconds)
        met.append(
            report(
                f"copy of {BLOBS} blobs of 8 MiB, COPY_MODE={mode}, PROOF={proof}: {seconds:.1f} s "
                f"of ledger calls, {copy:.0f} s of copying "
                f"({BLOBS * BLOB_BYTES / copy / 1e6:.0f} MB/s): "
                f"{share:.1%} (goal {GOAL_SHARE:.0%})",
                share <= GOAL_SHARE,
            )
        )
    fast = BLOBS * BLOB_BYTES / FAST
    met.append(
        report(
            f"the same with a copy at {FAST / 1e6:.0f} MB/s: {seconds / (fast + seconds):.1%}",
            seconds / (fast + seconds) <= GOAL_SHARE,
        )
    )
    await ledger.close()
    return all(met)


def main() -> bool:
    """Run the benchmark with a temporary storage emulator."""
    with Azurite() as azurite:
        return asyncio.run(measure(azurite))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
