"""Runs one program for `bench.copy_speed` in its own process and prints JSON.

    python -m bench.copy_contestant ACTION JSON

Actions: `upload` creates the source blobs, `copy` copies them with this app, `hash` reads back the
landed blobs, and `proof` compares the content proof with isal.
"""

import asyncio
import gzip
import hashlib
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from bench.copy_memory import Peak, resident_mb
from local.simulator import NoStorage, Simulator
from local.simulator.partner import Partner
from shared.clock import SystemClock
from shared.landing.store import LandingStore
from shared.manifest import Manifest
from shared.transfer.copier import Copier
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.models import TransferRequest
from shared.transfer.proof import ContentProof
from shared.transfer.server_side import ServerSideCopier

FOLDER, ROOT = "data/v", "root"
CHUNK_BYTES = 8 * 1024 * 1024


@cache
def create_member() -> bytes:
    """Return a gzip member with about 10 MB of lines from the simulator."""
    simulator = Simulator(storage=NoStorage(), partner=Partner(customers=40, resources=8))
    text = b"".join(
        gzip.decompress(blob.content)
        for key in simulator.export_keys()
        for blob in simulator.expected(key).blobs
    )
    return gzip.compress(text[: text.rindex(b"\n", 0, 10_000_000) + 1], 6)


def create_file(size: int, number: int) -> bytes:
    """Return a gzip file of exactly `size` bytes with many members.

    The comment of the last member pads the file to its size.
    """
    packed = create_member()
    last = gzip.compress(b'{"Number":%d}\n' % number)
    count, rest = divmod(size - len(last) - 1, len(packed))
    padded = last[:3] + b"\x10" + last[4:10] + b"x" * rest + b"\0" + last[10:]
    return packed * count + padded


def blob_names(blobs: int) -> list[str]:
    return [f"part-{n:05}.json.gz" for n in range(blobs)]


async def upload(options: dict[str, Any]) -> dict[str, Any]:
    from azure.storage.blob import BlobBlock, ContentSettings
    from azure.storage.blob.aio import BlobServiceClient

    digests = {}
    async with BlobServiceClient.from_connection_string(options["source"]) as service:
        await service.create_container("exports")
        for number, name in enumerate(blob_names(options["blobs"])):
            data = create_file(options["bytes"], number)
            md5 = hashlib.md5(data).digest()
            blob, parts = (
                service.get_blob_client("exports", f"{ROOT}/{name}"),
                range(0, len(data), CHUNK_BYTES),
            )
            for offset in parts:
                await blob.stage_block(
                    f"{offset:012}", data[offset : offset + CHUNK_BYTES], validate_content="md5"
                )
            await blob.commit_block_list(
                [BlobBlock(f"{offset:012}") for offset in parts],
                content_settings=ContentSettings(content_md5=bytearray(md5)),
            )
            digests[name] = md5.hex()
    return digests


async def copy(options: dict[str, Any]) -> dict[str, Any]:
    """Copy the blobs. The optional `block` is the block size for server-side copies."""

    async def fetch_manifest(_: str) -> Manifest:
        return Manifest(
            "1", "etag", datetime.now(UTC), "2", "t", options["root"], (), 0, options["sas"]
        )

    clock = SystemClock()
    landing = LandingStore(container=options["container"], connection_string=options["landing"])
    server_side = (
        ServerSideCopier(clock, block_bytes=options["block"]) if "block" in options else None
    )
    copier = Copier(landing, ManifestCache(fetch_manifest, clock), clock, server_side=server_side)
    work = TransferRequest(
        "run",
        "operation",
        FOLDER,
        "etag",
        options["root"],
        proof=options["proof"],
        mode=options["mode"],
    )
    await landing.ensure_container()  # loads the SDK and connects, as in an idle worker
    idle = resident_mb()
    with Peak() as peak:
        started_at, cpu_seconds = time.perf_counter(), time.process_time()
        results = await copier.copy_blobs(work, blob_names(options["blobs"]), {})
        seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_seconds
    await copier.close()
    await landing.close()
    assert all(result.proven for result in results), {result.code for result in results}
    return {
        "seconds": seconds,
        "cpu": cpu_seconds,
        "peak": peak.highest,
        "growth": peak.highest - idle,
        "copy_methods": sorted({str(result.copy_method) for result in results}),
    }


async def hash_landed(options: dict[str, Any]) -> dict[str, Any]:
    """Return the MD5 of every landed blob, computed from its content."""
    from azure.storage.blob.aio import ContainerClient

    digests = {}
    async with ContainerClient.from_connection_string(
        options["landing"], options["container"]
    ) as container:
        async for listed in container.list_blobs():
            digest = hashlib.md5()
            stream = await container.download_blob(listed.name, decompress=False)
            async for chunk in stream.chunks():
                digest.update(chunk)
            digests[listed.name.rsplit("/", 1)[-1]] = digest.hexdigest()
    return digests


def proof(options: dict[str, Any]) -> dict[str, Any]:
    """Return the median durations, in seconds, of isal with SHA-256 and of the content proof."""
    from isal import igzip_lib

    data = create_file(options["bytes"], 0)
    chunks = [data[offset : offset + CHUNK_BYTES] for offset in range(0, len(data), CHUNK_BYTES)]

    def isal() -> None:
        digest, inflater = hashlib.sha256(), igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        for chunk in chunks:
            digest.update(chunk)
            rest = chunk
            while rest:
                inflater.decompress(rest, 256 * 1024)
                while not inflater.eof and not inflater.needs_input:
                    inflater.decompress(b"", 256 * 1024)
                rest = inflater.unused_data if inflater.eof else b""
                if inflater.eof:
                    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    def ours() -> None:
        content_proof = ContentProof()
        for chunk in chunks:
            content_proof.feed(chunk)
        content_proof.finish()

    times: dict[str, list[float]] = {"isal": [], "ours": []}
    for _ in range(options["rounds"]):
        for name, run in (("isal", isal), ("ours", ours)):
            times[name].append(measure(run))
    return {name: sorted(seconds)[len(seconds) // 2] for name, seconds in times.items()}


def measure(run: Callable[[], None]) -> float:
    started_at = time.perf_counter()
    run()
    return time.perf_counter() - started_at


def sas(name: str, key: str, container: str, *, write: bool = False) -> str:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    return generate_container_sas(
        name,
        container,
        account_key=key,
        expiry=datetime.now(UTC) + timedelta(hours=3),
        permission=ContainerSasPermissions(
            read=True, list=True, write=write, create=write, delete=write
        ),
    )


def main() -> None:
    action, options = sys.argv[1], json.loads(sys.argv[2])
    actions: dict[str, Any] = {"upload": upload, "copy": copy, "hash": hash_landed}
    print(
        json.dumps(proof(options) if action == "proof" else asyncio.run(actions[action](options)))
    )


if __name__ == "__main__":
    main()
