"""Measures the completion marker of a version with many blobs: `python -m bench.marker [BLOBS]`.

The marker is written to the storage emulator as a stream, and, for comparison, as one body. Goals
for 100,000 blobs: writing it as a stream needs at most 100 MB of additional memory, and the marker
has at most 60 MB.
"""

import asyncio
import hashlib
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable

from bench.copy_memory import Peak, resident_mb
from local.azurite import Azurite
from shared.blob_facts import BlobFacts
from shared.exports import ExportKey
from shared.landing.documents import (
    MarkerBlob,
    build_completion_marker,
    parse_completion_marker,
)
from shared.landing.store import LandingStore

KEY = ExportKey.parse("billed_usage/G016907411/full")
VERSION = {"version": "20261108T093700Z-3f9a1c20", "etag": "e1"}
COLUMNS = tuple(f"DocumentedColumn{number:02}" for number in range(60))
MAX_GROWTH_MB, MAX_MARKER_MB = 100, 60


def create_blob(number: int) -> MarkerBlob:
    """Return a blob with a name and facts as Microsoft's have."""
    digest = hashlib.sha256(str(number).encode())
    name = f"part-{number:05}-f6254502-f985-41bc-9dda-8d766b84b087.c000.json.gz"
    md5 = b64encode(digest.digest()[:16]).decode()
    facts = BlobFacts(1_000_000, md5, digest.hexdigest(), 5_000, "gzip", COLUMNS)
    return MarkerBlob(name, "default", f'"0x8DE{number:012X}"', facts)


async def measure(
    store: LandingStore, path: str, build: Callable[[], bytes | Iterable[bytes]]
) -> float:
    """Write a marker, print the duration, and return the memory growth in MB."""
    idle = resident_mb()
    with Peak() as peak:
        started_at = time.perf_counter()
        assert await store.put_if_match(path, build(), None)
        seconds = time.perf_counter() - started_at
    growth = peak.highest - idle
    print(f"marker: {path} written in {seconds:.1f} s, memory +{growth:.0f} MB")
    return growth


async def run(azurite: Azurite, count: int) -> bool:
    """Write and read the marker, and return whether the goals are met."""
    store = LandingStore(container="bench", connection_string=azurite.landing.connection_string)
    await store.ensure_container()
    blobs = [create_blob(number) for number in range(count)]

    def build() -> Iterable[bytes]:
        return build_completion_marker(
            KEY, version=VERSION, source={}, request={}, run={}, proof="content", blobs=blobs
        )

    growth = await measure(store, "stream", build)
    stored = await store.read("stream")
    assert stored is not None
    size = len(stored[0]) / 1e6
    parsed = parse_completion_marker(stored[0], VERSION["version"], VERSION["etag"])
    assert parsed is not None and len(parsed) == count
    del stored, parsed
    await measure(store, "one body", lambda: b"".join(build()))
    await store.close()
    passed = growth <= MAX_GROWTH_MB and size <= MAX_MARKER_MB
    print(
        f"marker: {count} blobs: {size:.0f} MB (goal {MAX_MARKER_MB}), memory +{growth:.0f} MB "
        f"(goal {MAX_GROWTH_MB}): {'pass' if passed else 'FAIL'}"
    )
    return passed


def main(count: int = 100_000) -> bool:
    """Run the benchmark with a temporary storage emulator."""
    with Azurite() as azurite:
        return asyncio.run(run(azurite, count))


if __name__ == "__main__":
    sys.exit(0 if main(*(int(text) for text in sys.argv[1:2])) else 1)
