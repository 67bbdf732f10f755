"""What the ledger costs: `python -m bench.ledger`, on the storage emulator.

GET /runs of a month with 10,000 runs and GET /catalogue of a dataset with 1,000 keys and 10,000 versions: a first page of
100 in one request to the tables. Starting a run: 3 requests. The ledger's share of copying 1,000 blobs of 8 MiB, goal 5 %:
its own calls for such a copy, timed alone, against the same copy by the app's own copier, proven and unproven, of which
SAMPLE blobs are really copied, in a process of their own, before and behind. Both on the same emulator and machine;
as the calls of one batch really pass while blobs of others are copied, the true share is smaller.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import peers
from bench.copy_speed import act
from local.azurite import Azurite
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
)  # the default, and the fastest: storage fetches, nothing is read back
FAST = 200e6  # bytes a second: faster than one worker copies here
GOAL_SHARE = 0.05
NOW = datetime(2026, 11, 1, tzinfo=UTC)


class Counted:
    def __init__(self) -> None:
        self.requests = 0

    def note(self, _: Any) -> None:
        self.requests += 1


def verdict(what: str, met: bool) -> bool:
    print(f"ledger: {what}: {'pass' if met else 'falls short'}")
    return met


async def fill(tables: Tables) -> None:
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
    month, rows, versions = BillingMonth(2020, 1), {}, {}
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
    """Seconds of the ledger's calls of a copy of BLOBS blobs, as its activities make them, AT_ONCE side by side."""
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
                    BlobRow(name, True, made, "0x8D", 8 << 20, 9, "m" * 24, "s" * 64)
                    for name in names
                ],
            )

    began = time.perf_counter()
    await asyncio.gather(*(batch(first) for first in range(0, BLOBS, BATCH)))
    return time.perf_counter() - began


def copied(azurite: Azurite, container: str, mode: str, proof: str) -> float:
    """Seconds that BLOBS blobs take by the rate at which SAMPLE of them are copied."""
    billing, landing = azurite.billing, azurite.landing
    peers.make_container(azurite, container)
    said = act(
        "ours",
        landing=landing.connection_string,
        container=container,
        root=f"{billing.blob_url}/exports/root",
        sas=peers.sas(billing.name, billing.key, "exports"),
        mode=mode,
        proof=proof,
        blobs=SAMPLE,
    )
    return float(said["seconds"]) / SAMPLE * BLOBS


async def measure(azurite: Azurite) -> bool:
    counted = Counted()
    tables = Tables(
        "bench", connection_string=azurite.landing.connection_string, raw_request_hook=counted.note
    )
    ledger = Ledger(tables, SystemClock(), hub="Bench")
    await fill(tables)
    met = []
    for what, page in (
        (f"first page of {RUNS} runs", lambda: ledger.runs.get_page("202611", limit=100)),
        (
            f"first page of {KEYS} keys with {VERSIONS} versions",
            lambda: ledger.catalogue.get_page(Dataset.UNBILLED_USAGE, limit=100),
        ),
    ):
        counted.requests, began = 0, time.perf_counter()
        found, following = await page()
        took = time.perf_counter() - began
        met.append(
            verdict(
                f"{what}: {len(found)} rows, {counted.requests} request (goal 1), {took * 1000:.0f} ms",
                len(found) == 100 and counted.requests == 1 and following is not None,
            )
        )
    counted.requests = 0
    key = ExportKey.parse("unbilled_usage/2026-11/USD/full")
    await claim(ledger, Run(run_id(key, NOW, "bnch"), str(key)), leave_trace=False)
    met.append(
        verdict(f"starting a run: {counted.requests} requests (goal 3)", counted.requests == 3)
    )
    act("offer", source=azurite.billing.connection_string, blobs=SAMPLE, bytes=BLOB_BYTES)
    before = [copied(azurite, f"before{n}", *way) for n, way in enumerate(WAYS)]
    seconds = await copy_overhead(ledger)
    for n, (mode, proof) in enumerate(WAYS):
        copy = (before[n] + copied(azurite, f"behind{n}", mode, proof)) / 2
        share = seconds / (copy + seconds)
        met.append(
            verdict(
                f"copy of {BLOBS} blobs of 8 MiB, COPY_MODE={mode}, PROOF={proof}: {seconds:.1f} s of ledger beside {copy:.0f} s of "
                f"copying ({BLOBS * BLOB_BYTES / copy / 1e6:.0f} MB/s): {share:.1%} (goal {GOAL_SHARE:.0%})",
                share <= GOAL_SHARE,
            )
        )
    fast = BLOBS * BLOB_BYTES / FAST
    met.append(
        verdict(
            f"the same beside a copy at {FAST / 1e6:.0f} MB/s: {seconds / (fast + seconds):.1%}",
            seconds / (fast + seconds) <= GOAL_SHARE,
        )
    )
    await ledger.close()
    return all(met)


def main() -> bool:
    with Azurite() as azurite:
        return asyncio.run(measure(azurite))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
