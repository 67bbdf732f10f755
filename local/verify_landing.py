"""Verifies landed exports independently: it reads storage only and uses none of the app's code.

A run counts as verified when its version folder contains exactly what its `_manifest.json` lists
and every file is a byte-for-byte copy of a blob in Microsoft's storage.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerClient

COMPLETION_MARKER = "_manifest.json"


@dataclass
class VerificationResult:
    """The amount of data that was read, and the problems that were found."""

    blobs: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


class LandingVerifier:
    """Verifies runs in a landing container.

    Args:
        landing: The landing container.
        source: Microsoft's storage account.
        download_dir: The folder that receives a copy of everything that is read.
    """

    def __init__(
        self, landing: ContainerClient, source: BlobServiceClient, download_dir: Path
    ) -> None:
        self._landing, self._source, self._download_dir = landing, source, download_dir
        self._source_hashes: set[str] | None = None

    def verify_run(self, run: Mapping[str, Any]) -> VerificationResult:
        """Verify a landed run, given as the JSON object of the API."""
        result = VerificationResult()
        folder = str(run.get("path") or "").strip("/")
        if not folder:
            result.problems.append(f"Run {run['run_id']} has no path")
            return result
        manifest = self._read_json(f"{folder}/{COMPLETION_MARKER}")
        if manifest is None:
            result.problems.append(f"{folder}/{COMPLETION_MARKER} is missing")
            return result
        blobs = self._landing.list_blobs(name_starts_with=f"{folder}/")
        sizes = {
            name: blob.size
            for blob in blobs
            if (name := blob.name.removeprefix(f"{folder}/")) != COMPLETION_MARKER
        }
        expected = {blob["name"]: blob for blob in manifest["blobs"]}
        result.problems += [
            f"{folder}/{name} is missing, but {COMPLETION_MARKER} lists it"
            for name in sorted(expected.keys() - sizes.keys())
        ]
        result.problems += [
            f"{folder}/{name} exists, but {COMPLETION_MARKER} does not list it"
            for name in sorted(sizes.keys() - expected.keys())
        ]
        for name in sorted(expected.keys() & sizes.keys()):
            self._verify_blob(f"{folder}/{name}", sizes[name], expected[name], result)
        self._verify_totals(run, result, sum_known(blob["rows"] for blob in expected.values()))
        self._verify_catalogue(folder, result)
        return result

    def _verify_blob(
        self, path: str, listed_size: int, expected: Mapping[str, Any], result: VerificationResult
    ) -> None:
        content = self._read(path)
        digest = hashlib.sha256(content).hexdigest()
        result.blobs, result.bytes = result.blobs + 1, result.bytes + len(content)
        if not len(content) == listed_size == expected["bytes"]:
            result.problems.append(
                f"{path} has {len(content)} bytes, but is listed with {listed_size}, and "
                f"{COMPLETION_MARKER} contains {expected['bytes']}"
            )
        if expected["sha256"] and digest != expected["sha256"]:
            result.problems.append(f"{path} does not match the SHA-256 in {COMPLETION_MARKER}")
        if digest not in self._get_source_hashes():
            result.problems.append(f"{path} is not a copy of any blob in Microsoft's storage")
        if expected["rows"] is not None and (rows := count_rows(content)) != expected["rows"]:
            result.problems.append(
                f"{path} has {rows} rows, but {COMPLETION_MARKER} contains {expected['rows']}"
            )

    def _verify_totals(
        self, run: Mapping[str, Any], result: VerificationResult, rows: int | None
    ) -> None:
        for name, actual, reported in (
            ("blobs", result.blobs, run["blobs"]["total"]),
            ("bytes", result.bytes, run["bytes"]),
            ("rows", rows, run["rows"]),
        ):
            if actual != reported:
                result.problems.append(
                    f"Run {run['run_id']} reports {reported} {name}, but {actual} exist"
                )

    def _verify_catalogue(self, folder: str, result: VerificationResult) -> None:
        key_path = folder.removeprefix("data/").rsplit("/version=", 1)[0]
        latest = self._read_json(f"catalogue/{key_path}/latest.json")
        if latest is None or str(latest.get("path")).strip("/") != folder:
            result.problems.append(f"catalogue/{key_path}/latest.json does not point to {folder}")

    def _get_source_hashes(self) -> set[str]:
        """Return the SHA-256 of every blob in Microsoft's storage."""
        if self._source_hashes is None:
            self._source_hashes = set()
            for container in self._source.list_containers():
                client = self._source.get_container_client(container.name)
                for blob in client.list_blobs():
                    content = client.download_blob(blob.name, decompress=False).readall()
                    self._source_hashes.add(hashlib.sha256(content).hexdigest())
        return self._source_hashes

    def _read_json(self, path: str) -> Any:
        try:
            return json.loads(self._read(path))
        except ResourceNotFoundError:
            return None

    def _read(self, path: str) -> bytes:
        """Return a blob's bytes as stored, and save a copy in the download folder."""
        content: bytes = self._landing.download_blob(path, decompress=False).readall()
        copy = self._download_dir / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        return content


def sum_known(rows: Iterable[int | None]) -> int | None:
    """Return the sum, or None if a number is unknown.

    >>> sum_known([1, 2]), sum_known([1, None])
    (3, None)
    """
    known = list(rows)
    counted = [count for count in known if count is not None]
    return sum(counted) if len(counted) == len(known) else None


def count_rows(content: bytes) -> int:
    r"""Return the number of nonblank lines in gzip or plain text.

    >>> count_rows(gzip.compress(b'{"a": 1}\n{"a": 2}')), count_rows(b'{}\n\n'), count_rows(b"")
    (2, 1, 0)
    """
    text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    return sum(1 for line in text.splitlines() if line.strip(b" \t\r\xef\xbb\xbf"))
