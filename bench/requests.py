"""What a landing asks of the landing account: `python -m bench.requests [BLOBS [BYTES]]`, 1,000 blobs of 1 MiB.

The whole app against the storage emulator, whose log is counted: the requests that Azure would charge for. What goes to
Microsoft's account is not the partner's to pay. docs/cost.md quotes the result.
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


def kind(method: str, path: str, query: str) -> str:
    """The words of the price list."""
    if TABLE.match(path):
        return "table requests"
    if method == "GET" and "comp=list" in query:
        return "blob list"
    return {"PUT": "blob write", "POST": "blob write", "DELETE": "blob delete (free)"}.get(
        method, "blob read and other"
    )


def count(log: str, account: str = "landing") -> Counter[str]:
    found = (match.groups("") for match in LINE.finditer(log))
    return Counter(
        kind(method, path, query) for method, name, path, query in found if name == account
    )


def main(blobs: int = BLOBS, blob_bytes: int = BLOB_BYTES) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "requests.log")
        with Azurite(log=log, requests=True) as azurite:
            land(azurite, blobs, blob_bytes)
        counted = count(log.read_text(encoding="utf-8", errors="replace"))
    for name, number in sorted(counted.items()):
        print(
            f"requests: {name}: {number}, {1000 * number / blobs:.0f} for 1,000 blobs of {blob_bytes} bytes"
        )


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:3]))
