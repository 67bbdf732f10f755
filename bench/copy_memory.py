"""How much memory one large streamed blob takes: `python -m bench.copy_memory [MB] [content|transfer]`.

Lands a blob of 512 MB (gzip, many members) from one account of the emulator into another and prints this process's
memory before, at the peak and the difference; the goal is at most 130 MB above idle. Another process makes the blob, so
that idle is what a worker has that has loaded the SDK. The rate depends on what else the machine does; CPU does less so.
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
from shared.transfer.copier import Copier, TransferRequest
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import Proof

GOAL_MB = 130
MEMBER_LINES = 120_000


def resident() -> float:
    """MB of this process's resident set now."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


class Peak:
    """The highest resident set seen, looked at every 5 ms by a thread."""

    def __init__(self) -> None:
        self.highest, self._stop = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.highest = max(self.highest, resident())

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def member() -> bytes:
    """Some MB of billing-like lines that pack about six times."""
    return gzip.compress(
        b"".join(
            b'{"InvoiceNumber":"G016907411","ProductId":"DZH318Z0BQ%d","Quantity":"%d.%d","EffectiveUnitPrice":"0.00%d","Id":"%x"}\n'
            % (n % 37, n % 91, n * 7919 % 10_000, n * 104_729 % 100_000, n * 2_654_435_761 % 2**32)
            for n in range(MEMBER_LINES)
        ),
        6,
    )


async def offer(connection_string: str, size: int) -> None:
    from azure.storage.blob import BlobBlock
    from azure.storage.blob.aio import BlobServiceClient

    block = member()
    async with BlobServiceClient.from_connection_string(connection_string) as service:
        await service.create_container("exports")
        blob = service.get_blob_client("exports", "root/large.json.gz")
        ids = [f"{n:05}" for n in range(size // len(block) + 1)]
        for one in ids:
            await blob.stage_block(one, block, validate_content="md5")
        await blob.commit_block_list([BlobBlock(one) for one in ids])


def offer_in_a_child(connection_string: str, size: int) -> None:
    asyncio.run(offer(connection_string, size))


def sas(azurite: Azurite) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    return generate_container_sas(
        azurite.billing.name,
        "exports",
        account_key=azurite.billing.key,
        permission=ContainerSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )


async def land(azurite: Azurite, proof: Proof) -> bool:
    root = f"{azurite.billing.blob_url}/exports/root"

    async def fetch_manifest(_: str) -> Manifest:
        return Manifest("1", "etag", datetime.now(UTC), "2", "t", root, (), 0, sas(azurite))

    landing = LandingStore(container="landing", connection_string=azurite.landing.connection_string)
    copier = Copier(landing, ManifestCache(fetch_manifest, SystemClock()), SystemClock())
    work = TransferRequest("run", "operation", "data/v", "etag", root, proof=proof, mode="stream")
    await landing.ensure_container()
    idle = resident()
    with Peak() as peak:
        began, worked = time.perf_counter(), time.process_time()
        (result,) = await copier.copy_blobs(work, ["large.json.gz"], {})
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
    await copier.close()
    await landing.close()
    if not result.proven or result.bytes is None:
        print(f"not landed: {result.code}")
        return False
    growth = peak.highest - idle
    print(
        f"blob    {result.bytes / 1e6:8.0f} MB, {result.rows} rows, {result.copy_method}, proof {proof}"
    )
    print(
        f"idle    {idle:8.0f} MB\npeak    {peak.highest:8.0f} MB\ngrowth  {growth:8.0f} MB (goal: at most {GOAL_MB})"
    )
    print(f"rate    {result.bytes / 1e6 / seconds:8.0f} MB/s, {worked:.1f} s of CPU")
    print("PASS" if growth <= GOAL_MB else "FALLS SHORT")
    return growth <= GOAL_MB


def main() -> bool:
    size = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 512_000_000
    proof: Proof = "transfer" if "transfer" in sys.argv else "content"
    with Azurite() as azurite:
        child = multiprocessing.get_context("spawn").Process(
            target=offer_in_a_child, args=(azurite.billing.connection_string, size)
        )
        child.start()
        child.join()
        return child.exitcode == 0 and asyncio.run(land(azurite, proof))


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
