"""Looks at a landing from outside, as an auditor would: storage alone, none of the app's code.

A run that says `landed` is believed only when what lies in its version folder is what its `_manifest.json` says, and when
every file is byte for byte one that Microsoft's storage holds.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerClient

MARKER = "_manifest.json"


@dataclass
class VerificationResult:
    """What was looked at, and what was wrong with it."""

    blobs: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)


class LandingVerifier:
    """Reads the landing; `source` is Microsoft's storage, `keep` the folder that everything read is written to."""

    def __init__(self, landing: ContainerClient, source: BlobServiceClient, keep: Path) -> None:
        self._landing, self._source, self._keep = landing, source, keep
        self._originals: set[str] | None = None

    def look_at(self, run: Mapping[str, Any]) -> VerificationResult:
        """All that is wrong with a landed run; no faults = proven. `run` is the API's JSON."""
        found = VerificationResult()
        folder = str(run.get("path") or "").strip("/")
        if not folder:
            found.faults.append(f"{run['run_id']} says no path")
            return found
        marker = self._json(f"{folder}/{MARKER}")
        if marker is None:
            found.faults.append(f"{folder}/{MARKER} is missing")
            return found
        there = self._landing.list_blobs(name_starts_with=f"{folder}/")
        listed = {
            name: blob.size
            for blob in there
            if (name := blob.name.removeprefix(f"{folder}/")) != MARKER
        }
        said = {blob["name"]: blob for blob in marker["blobs"]}
        found.faults += [
            f"{folder}/{name} is in {MARKER} and not there"
            for name in sorted(said.keys() - listed.keys())
        ]
        found.faults += [
            f"{folder}/{name} is there and not in {MARKER}"
            for name in sorted(listed.keys() - said.keys())
        ]
        for name in sorted(said.keys() & listed.keys()):
            self._look_at_blob(f"{folder}/{name}", listed[name], said[name], found)
        self._look_at_totals(run, found, sum(blob["rows"] for blob in said.values()))
        self._look_at_catalogue(folder, found)
        return found

    def _look_at_blob(
        self, path: str, listed: int, said: Mapping[str, Any], found: VerificationResult
    ) -> None:
        content = self._read(path)
        digest = hashlib.sha256(content).hexdigest()
        found.blobs, found.bytes = found.blobs + 1, found.bytes + len(content)
        if not len(content) == listed == said["bytes"]:
            found.faults.append(
                f"{path} has {len(content)} bytes, listed {listed}, {MARKER} says {said['bytes']}"
            )
        if digest != said["sha256"]:
            found.faults.append(f"{path} has another SHA-256 than {MARKER} says")
        if digest not in self._all_originals():
            found.faults.append(f"{path} is not a file of Microsoft's storage")
        if (rows := rows_of(content)) != said["rows"]:
            found.faults.append(f"{path} has {rows} rows, {MARKER} says {said['rows']}")

    def _look_at_totals(self, run: Mapping[str, Any], found: VerificationResult, rows: int) -> None:
        for name, seen, told in (
            ("blobs", found.blobs, run["blobs"]["total"]),
            ("bytes", found.bytes, run["bytes"]),
            ("rows", rows, run["rows"]),
        ):
            if seen != told:
                found.faults.append(f"{run['run_id']} says {told} {name}, there are {seen}")

    def _look_at_catalogue(self, folder: str, found: VerificationResult) -> None:
        key_path = folder.removeprefix("data/").rsplit("/version=", 1)[0]
        latest = self._json(f"catalogue/{key_path}/latest.json")
        if latest is None or str(latest.get("path")).strip("/") != folder:
            found.faults.append(f"catalogue/{key_path}/latest.json does not name {folder}")

    def _all_originals(self) -> set[str]:
        """SHA-256 of every file in Microsoft's storage."""
        if self._originals is None:
            self._originals = set()
            for container in self._source.list_containers():
                client = self._source.get_container_client(container.name)
                for blob in client.list_blobs():
                    content = client.download_blob(blob.name, decompress=False).readall()
                    self._originals.add(hashlib.sha256(content).hexdigest())
        return self._originals

    def _json(self, path: str) -> Any:
        try:
            return json.loads(self._read(path))
        except ResourceNotFoundError:
            return None

    def _read(self, path: str) -> bytes:
        """The bytes as stored; a copy of them is kept."""
        content: bytes = self._landing.download_blob(path, decompress=False).readall()
        kept = self._keep / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
        return content


def rows_of(content: bytes) -> int:
    r"""Lines that are not blank, of gzip or plain text.

    >>> rows_of(gzip.compress(b'{"a": 1}\n{"a": 2}')), rows_of(b'{}\n\n'), rows_of(b"")
    (2, 1, 0)
    """
    text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    return sum(1 for line in text.splitlines() if line.strip(b" \t\r\xef\xbb\xbf"))
