"""One contestant of `bench.copy_speed`, in a process of its own: `python -m bench.copy_contestant ACT JSON`. Prints JSON.

Acts: `offer` makes the blobs, `ours` copies them, `check` compares every landed byte, `proof` races the proof against isal.
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

from bench.copy_memory import Peak, resident
from local.simulator import NoStorage, Simulator
from local.simulator.partner import Partner
from shared.clock import SystemClock
from shared.landing.store import LandingStore
from shared.manifest import Manifest
from shared.transfer.copier import Copier, TransferRequest
from shared.transfer.manifest_cache import ManifestCache
from shared.transfer.proof import ContentProof
from shared.transfer.server_side import ServerSideCopier

FOLDER, ROOT = "data/v", "root"
STEP = 8 * 1024 * 1024


@cache
def unit() -> bytes:
    """A gzip member of some 10 MB of lines as the simulated Microsoft writes them: as wide as theirs."""
    simulator = Simulator(storage=NoStorage(), partner=Partner(customers=40, resources=8))
    text = b"".join(
        gzip.decompress(blob.content)
        for key in simulator.export_keys()
        for blob in simulator.expected(key).blobs
    )
    return gzip.compress(text[: text.rindex(b"\n", 0, 10_000_000) + 1], 6)


def content(size: int, number: int) -> bytes:
    """A gzip file of exactly `size` bytes, of many members; the last one has a comment as long as it takes."""
    packed = unit()
    last = gzip.compress(b'{"Number":%d}\n' % number)
    whole, rest = divmod(size - len(last) - 1, len(packed))
    padded = last[:3] + b"\x10" + last[4:10] + b"x" * rest + b"\0" + last[10:]
    return packed * whole + padded


def names(blobs: int) -> list[str]:
    return [f"part-{n:05}.json.gz" for n in range(blobs)]


async def offer(told: dict[str, Any]) -> dict[str, Any]:
    from azure.storage.blob import BlobBlock, ContentSettings
    from azure.storage.blob.aio import BlobServiceClient

    digests = {}
    async with BlobServiceClient.from_connection_string(told["source"]) as service:
        await service.create_container("exports")
        for number, name in enumerate(names(told["blobs"])):
            data = content(told["bytes"], number)
            md5 = hashlib.md5(data).digest()
            blob, parts = (
                service.get_blob_client("exports", f"{ROOT}/{name}"),
                range(0, len(data), STEP),
            )
            for at in parts:
                await blob.stage_block(f"{at:012}", data[at : at + STEP], validate_content="md5")
            await blob.commit_block_list(
                [BlobBlock(f"{at:012}") for at in parts],
                content_settings=ContentSettings(content_md5=bytearray(md5)),
            )
            digests[name] = md5.hex()
    return digests


async def ours(told: dict[str, Any]) -> dict[str, Any]:
    """`block`: what storage fetches at once, where it is to be the same as a peer's."""

    async def fetch_manifest(_: str) -> Manifest:
        return Manifest("1", "etag", datetime.now(UTC), "2", "t", told["root"], (), 0, told["sas"])

    clock = SystemClock()
    landing = LandingStore(container=told["container"], connection_string=told["landing"])
    copier = Copier(landing, ManifestCache(fetch_manifest, clock), clock)
    if "block" in told:
        copier._server_side = ServerSideCopier(clock, block=told["block"])
    work = TransferRequest(
        "run", "operation", FOLDER, "etag", told["root"], proof=told["proof"], mode=told["mode"]
    )
    await landing.ensure_container()  # and so what a worker has loaded and connected
    idle = resident()
    with Peak() as peak:
        began, worked = time.perf_counter(), time.process_time()
        results = await copier.copy_blobs(work, names(told["blobs"]), {})
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
    await copier.close()
    await landing.close()
    assert all(result.proven for result in results), {result.code for result in results}
    return {
        "seconds": seconds,
        "cpu": worked,
        "peak": peak.highest,
        "growth": peak.highest - idle,
        "copy_methods": sorted({str(result.copy_method) for result in results}),
    }


async def check(told: dict[str, Any]) -> dict[str, Any]:
    """The MD5 of every landed blob, of its bytes as they are read back."""
    from azure.storage.blob.aio import ContainerClient

    found = {}
    async with ContainerClient.from_connection_string(
        told["landing"], told["container"]
    ) as container:
        async for listed in container.list_blobs():
            digest = hashlib.md5()
            stream = await container.download_blob(listed.name, decompress=False)
            async for piece in stream.chunks():
                digest.update(piece)
            found[listed.name.rsplit("/", 1)[-1]] = digest.hexdigest()
    return found


def proof(told: dict[str, Any]) -> dict[str, Any]:
    """Seconds of isal's own gunzip and SHA-256, and of our proof, on the same bytes in the same pieces, turn by turn."""
    from isal import igzip_lib

    data = content(told["bytes"], 0)
    pieces = [data[at : at + STEP] for at in range(0, len(data), STEP)]

    def isal() -> None:
        digest, inflater = hashlib.sha256(), igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        for piece in pieces:
            digest.update(piece)
            rest = piece
            while rest:
                inflater.decompress(rest, 256 * 1024)
                while not inflater.eof and not inflater.needs_input:
                    inflater.decompress(b"", 256 * 1024)
                rest = inflater.unused_data if inflater.eof else b""
                if inflater.eof:
                    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    def mine() -> None:
        looking = ContentProof()
        for piece in pieces:
            looking.feed(piece)
        looking.finish()

    times: dict[str, list[float]] = {"isal": [], "ours": []}
    for _ in range(told["max_rounds"]):
        for name, run in (("isal", isal), ("ours", mine)):
            times[name].append(timed(run))
    return {name: sorted(all_)[len(all_) // 2] for name, all_ in times.items()}


def timed(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


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
    act, told = sys.argv[1], json.loads(sys.argv[2])
    acts: dict[str, Any] = {"offer": offer, "ours": ours, "check": check}
    print(json.dumps(proof(told) if act == "proof" else asyncio.run(acts[act](told))))


if __name__ == "__main__":
    main()
