"""The auditor believes nothing: each way in which a landing can be wrong is found."""

import gzip
import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContainerClient

from local.azurite import Azurite
from local.verify_landing import LandingVerifier, VerificationResult

FOLDER = (
    "data/billed_usage/invoice_id=G016907411/attribute_set=full/version=20261108T093700Z-3f9a1c20"
)
LATEST = "catalogue/billed_usage/invoice_id=G016907411/attribute_set=full/latest.json"
FILES = {
    "part-0.json.gz": gzip.compress(b'{"a": 1}\n{"a": 2}\n') + gzip.compress(b'{"a": 3}\n'),
    "part-1.json.gz": b'{"a": 4}\n',
}
ROWS = {"part-0.json.gz": 3, "part-1.json.gz": 1}


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    """Of its own: the auditor reads every file of Microsoft's storage, and the one of all tests fills up."""
    with Azurite() as running:
        yield running


def as_landed() -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """The landing's files, the marker in it, and what the API says of the run."""
    blobs = [
        {
            "name": name,
            "bytes": len(content),
            "rows": ROWS[name],
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for name, content in FILES.items()
    ]
    total = sum(len(content) for content in FILES.values())
    run = {
        "run_id": "r1",
        "path": FOLDER,
        "blobs": {"total": 2, "landed": 2, "failed": 0},
        "bytes": total,
        "rows": 4,
    }
    landed = {f"{FOLDER}/{name}": content for name, content in FILES.items()}
    return {**landed, LATEST: json.dumps({"path": FOLDER}).encode()}, {"blobs": blobs}, run


def findings(azurite: Azurite, keep: Path, spoil: Callable[..., None]) -> VerificationResult:
    files, marker, run = as_landed()
    spoil(files=files, marker=marker, run=run)
    files.setdefault(f"{FOLDER}/_manifest.json", json.dumps(marker).encode())
    name = f"c{uuid.uuid4().hex[:20]}"
    landing = ContainerClient.from_connection_string(azurite.landing.connection_string, name)
    source = BlobServiceClient.from_connection_string(azurite.billing.connection_string)
    landing.create_container()
    for path, content in files.items():
        if content != b"":
            landing.upload_blob(path, content)
    originals = source.create_container(name)
    for number, content in enumerate(FILES.values()):
        originals.upload_blob(str(number), content)
    with landing, source:
        return LandingVerifier(landing, source, keep).look_at(run)


def test_a_whole_landing_is_proven_and_kept(azurite: Azurite, tmp_path: Path) -> None:
    found = findings(azurite, tmp_path, lambda **_: None)
    assert (found.faults, found.blobs) == ([], 2)
    assert (tmp_path / FOLDER / "part-0.json.gz").read_bytes() == FILES["part-0.json.gz"]


def drop(path: str) -> Callable[..., None]:
    return lambda files, **_: files.__setitem__(path, b"")


def change_marker(member: str, value: Any) -> Callable[..., None]:
    return lambda marker, **_: marker["blobs"][0].__setitem__(member, value)


def other_bytes(files: dict[str, bytes], marker: dict[str, Any], **_: Any) -> None:
    """Both the file and what is said of it are wrong in the same way: only the original tells."""
    content = gzip.compress(b'{"a": 1}\n{"a": 2}\n{"a": 9}\n')
    files[f"{FOLDER}/part-0.json.gz"] = content
    marker["blobs"][0] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (drop(f"{FOLDER}/part-1.json.gz"), "part-1.json.gz is in _manifest.json and not there"),
        (drop(f"{FOLDER}/_manifest.json"), "_manifest.json is missing"),
        (drop(LATEST), "latest.json does not name"),
        (
            lambda files, **_: files.__setitem__(f"{FOLDER}/foreign", b"x"),
            "foreign is there and not in _manifest.json",
        ),
        (
            lambda files, **_: files.__setitem__(LATEST, b'{"path": "data/other"}'),
            "latest.json does not name",
        ),
        (change_marker("bytes", 1), "_manifest.json says 1"),
        (change_marker("rows", 2), "has 3 rows, _manifest.json says 2"),
        (change_marker("sha256", "0" * 64), "another SHA-256"),
        (other_bytes, "not a file of Microsoft's storage"),
        (lambda run, **_: run.__setitem__("rows", 5), "says 5 rows, there are 4"),
        (lambda run, **_: run["blobs"].__setitem__("total", 3), "says 3 blobs, there are 2"),
        (lambda run, **_: run.__setitem__("path", None), "says no path"),
    ],
)
def test_what_is_wrong_is_found(
    azurite: Azurite, tmp_path: Path, spoil: Callable[..., None], fault: str
) -> None:
    assert any(fault in found for found in findings(azurite, tmp_path, spoil).faults)
