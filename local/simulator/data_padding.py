"""Generates exports of a given size for benchmarks. All blobs are different."""

import base64
import gzip
import json
from functools import cache, partial
from random import Random

from local.simulator.data_files import BlobFile

POOL_BYTES = 4 << 20
TAG_BYTES = 1_500  # padding in one line
BASE64_DENSITY = 0.757  # a base64 letter has 6 of 8 bits; gzip compresses to almost this ratio


def padding_files(*, blobs: int, blob_bytes: int, seed: int, guid: str) -> tuple[BlobFile, ...]:
    """Return gzip files whose sizes are approximately `blob_bytes`.

    For sizes of 4 KiB or more, the deviation is at most 5%. The bytes are generated on access.
    """
    rows = max(1, round(blob_bytes / (TAG_BYTES * BASE64_DENSITY + 60)))
    return tuple(
        BlobFile(
            f"part-{number:05d}-{guid}.c000.json.gz",
            rows,
            partial(_padding_file, number, rows, blob_bytes, seed),
            keep=False,
        )
        for number in range(blobs)
    )


@cache
def _pool(seed: int) -> str:
    return base64.b64encode(Random(f"padding {seed}").randbytes(POOL_BYTES)).decode()


def _padding_file(number: int, rows: int, blob_bytes: int, seed: int) -> bytes:
    pool, source = _pool(seed), Random(f"padding {seed} {number}")
    width = int((blob_bytes / rows - 40) / BASE64_DENSITY)
    lines = []
    for row in range(rows):
        start = source.randrange(len(pool) - width)
        lines.append(
            json.dumps(
                {
                    "InvoiceNumber": "",
                    "Line": f"{number}-{row}",
                    "Tags": pool[start : start + width],
                }
            )
        )
    return gzip.compress("\n".join(lines).encode() + b"\n", 1, mtime=0)
