"""Measures the memory that a large streamed blob needs.

    python -m bench.copy_memory [MB] [content|transfer]

It copies a blob of 512 MB (gzip with many members) between two accounts of the emulator and prints
the memory of this process before the copy, at the peak, and the difference. Goal: at most 130 MB.
Another process creates the blob, so that the memory before the copy is that of an idle worker.
"""

import asyncio
import gzip
import multiprocessing
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.azurite import Azurite
from shared.clock import SystemClock
from shared.landing.store import LandingStore
from shared.manifest import Manifest
from shared.transfer.copier import Copier
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import ProofMode, TransferRequest

MAX_GROWTH_MB = 130
MEMBER_LINES = 120_000


def resident_mb() -> float:
    """Return the resident set size of this process in MB."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


class Peak:
    """Records the peak resident set size, which a thread samples every 5 ms."""

    def __init__(self) -> None:
        self.highest, self._stop = resident_mb(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.highest = max(self.highest, resident_mb())

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def create_member() -> bytes:
    """Return a gzip member with several MB of lines, compressed to about a sixth."""
    return gzip.compress(
        b"".join(
            b'{"InvoiceNumber":"G016907411","ProductId":"DZH318Z0BQ%d","Quantity":"%d.%d",'
            b'"EffectiveUnitPrice":"0.00%d","Id":"%x"}\n'
            % (n % 37, n % 91, n * 7919 % 10_000, n * 104_729 % 100_000, n * 2_654_435_761 % 2**32)
            for n in range(MEMBER_LINES)
        ),
        6,
    )


async def upload_source(connection_string: str, size: int) -> None:
    """Upload a blob of about `size` bytes to the source account."""
    from azure.storage.blob import BlobBlock
    from azure.storage.blob.aio import BlobServiceClient

    block = create_member()
    async with BlobServiceClient.from_connection_string(connection_string) as service:
        await service.create_container("exports")
        blob = service.get_blob_client("exports", "root/large.json.gz")
        ids = [f"{n:05}" for n in range(size // len(block) + 1)]
        for block_id in ids:
            await blob.stage_block(block_id, block, validate_content="md5")
        await blob.commit_block_list([BlobBlock(block_id) for block_id in ids])


def upload_source_in_child(connection_string: str, size: int) -> None:
    asyncio.run(upload_source(connection_string, size))


def sas(azurite: Azurite) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    return generate_container_sas(
        azurite.billing.name,
        "exports",
        account_key=azurite.billing.key,
        permission=ContainerSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


async def land(azurite: Azurite, proof: ProofMode) -> bool:
    root = f"{azurite.billing.blob_url}/exports/root"

    async def fetch_manifest(_: str) -> Manifest:
        return Manifest("1", "etag", datetime.now(UTC), "2", "t", root, (), 0, sas(azurite))

    landing = LandingStore(container="landing", connection_string=azurite.landing.connection_string)
    copier = Copier(landing, ManifestCache(fetch_manifest, SystemClock()), SystemClock())
    work = TransferRequest("run", "operation", "data/v", "etag", root, proof=proof, mode="stream")
    await landing.ensure_container()
    idle = resident_mb()
    with Peak() as peak:
        started_at, cpu_seconds = time.perf_counter(), time.process_time()
        (result,) = await copier.copy_blobs(work, ["large.json.gz"], {})
        seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_seconds
    await copier.close()
    await landing.close()
    if not result.proven:
        print(f"not landed: {result.code}")
        return False
    growth = peak.highest - idle
    print(
        f"blob    {result.facts.bytes / 1e6:8.0f} MB, {result.facts.rows} rows, "
        f"{result.copy_method}, proof {proof}"
    )
    print(
        f"idle    {idle:8.0f} MB\npeak    {peak.highest:8.0f} MB\n"
        f"growth  {growth:8.0f} MB (goal: at most {MAX_GROWTH_MB})"
    )
    print(f"rate    {result.facts.bytes / 1e6 / seconds:8.0f} MB/s, {cpu_seconds:.1f} s of CPU")
    print("PASS" if growth <= MAX_GROWTH_MB else "FAIL")
    return growth <= MAX_GROWTH_MB


def main() -> bool:
    """Run the benchmark and return whether it meets its goal."""
    size = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 512_000_000
    proof: ProofMode = "transfer" if "transfer" in sys.argv else "content"
    with Azurite() as azurite:
        child = multiprocessing.get_context("spawn").Process(
            target=upload_source_in_child, args=(azurite.billing.connection_string, size)
        )
        child.start()
        child.join()
        return child.exitcode == 0 and asyncio.run(land(azurite, proof))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
