"""Counts the requests to the landing account that landing 1,000 blobs of 1 MiB requires.

    python -m bench.requests [BLOBS [BYTES]]

The whole app runs with the storage emulator. The counts come from the emulator's log; they are the
requests for which Azure would charge the partner. docs/cost.md contains the result.
"""

import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench.scale import land
from local.azurite import Azurite

BLOBS, BLOB_BYTES = 1_000, 1 << 20
LINE = re.compile(r'"([A-Z]+) /(\w+)(/[^ ?"]*)?(\?[^ "]*)? HTTP')
TABLE = re.compile(r"/(\$batch|Tables|\w+(catalogue|versions|runs|blobs|locks)(\(.*)?$)")


def category(method: str, path: str, query: str) -> str:
    """Return the category of a request in the price list."""
    if TABLE.match(path):
        return "table requests"
    if method == "GET" and "comp=list" in query:
        return "blob list"
    return {"PUT": "blob write", "POST": "blob write", "DELETE": "blob delete (free)"}.get(
        method, "blob read and other"
    )


def count_requests(log: str, account: str = "landing") -> Counter[str]:
    """Return the number of requests to an account, by category."""
    requests = (match.groups("") for match in LINE.finditer(log))
    return Counter(
        category(method, path, query) for method, name, path, query in requests if name == account
    )


def main(blobs: int = BLOBS, blob_bytes: int = BLOB_BYTES) -> None:
    """Run the benchmark and print the counts."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "requests.log")
        with Azurite(log=log, requests=True) as azurite:
            land(azurite, blobs, blob_bytes)
        counts = count_requests(log.read_text(encoding="utf-8", errors="replace"))
    for name, number in sorted(counts.items()):
        print(
            f"requests: {name}: {number}, "
            f"{1000 * number / blobs:.0f} per 1,000 blobs of {blob_bytes} bytes"
        )


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:3]))
