"""The landing verifier: it accepts a correct landing and detects every kind of damage."""

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
    """An emulator for this module only: the verifier reads every blob of the billing account."""
    with Azurite() as running:
        yield running


def correct_landing() -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """Return the landed files, the completion marker and the run as the API returns it."""
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


def verify_damaged(
    azurite: Azurite, download_dir: Path, damage: Callable[..., None]
) -> VerificationResult:
    """Land correct files, apply the damage to them, and verify."""
    files, marker, run = correct_landing()
    damage(files=files, marker=marker, run=run)
    files.setdefault(f"{FOLDER}/_manifest.json", json.dumps(marker).encode())
    name = f"c{uuid.uuid4().hex[:20]}"
    landing = ContainerClient.from_connection_string(azurite.landing.connection_string, name)
    source = BlobServiceClient.from_connection_string(azurite.billing.connection_string)
    landing.create_container()
    for path, content in files.items():
        if content != b"":
            landing.upload_blob(path, content)
    source_container = source.create_container(name)
    for number, content in enumerate(FILES.values()):
        source_container.upload_blob(str(number), content)
    with landing, source:
        return LandingVerifier(landing, source, download_dir).verify_run(run)


def test_verify_run_correct_landing_has_no_problems_and_saves_files(
    azurite: Azurite, tmp_path: Path
) -> None:
    result = verify_damaged(azurite, tmp_path, lambda **_: None)
    assert (result.problems, result.blobs) == ([], 2)
    assert (tmp_path / FOLDER / "part-0.json.gz").read_bytes() == FILES["part-0.json.gz"]


def remove(path: str) -> Callable[..., None]:
    return lambda files, **_: files.__setitem__(path, b"")


def change_marker(member: str, value: Any) -> Callable[..., None]:
    return lambda marker, **_: marker["blobs"][0].__setitem__(member, value)


def replace_file_and_marker(files: dict[str, bytes], marker: dict[str, Any], **_: Any) -> None:
    """Replace a file and its marker entry consistently; only the source blob reveals it."""
    content = gzip.compress(b'{"a": 1}\n{"a": 2}\n{"a": 9}\n')
    files[f"{FOLDER}/part-0.json.gz"] = content
    marker["blobs"][0] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            remove(f"{FOLDER}/part-1.json.gz"),
            "part-1.json.gz is missing, but _manifest.json lists it",
        ),
        (remove(f"{FOLDER}/_manifest.json"), "_manifest.json is missing"),
        (remove(LATEST), "latest.json does not point to"),
        (
            lambda files, **_: files.__setitem__(f"{FOLDER}/foreign", b"x"),
            "foreign exists, but _manifest.json does not list it",
        ),
        (
            lambda files, **_: files.__setitem__(LATEST, b'{"path": "data/other"}'),
            "latest.json does not point to",
        ),
        (change_marker("bytes", 1), "_manifest.json contains 1"),
        (change_marker("rows", 2), "has 3 rows, but _manifest.json contains 2"),
        (change_marker("sha256", "0" * 64), "does not match the SHA-256"),
        (replace_file_and_marker, "not a copy of any blob"),
        (lambda run, **_: run.__setitem__("rows", 5), "reports 5 rows, but 4 exist"),
        (lambda run, **_: run["blobs"].__setitem__("total", 3), "reports 3 blobs, but 2 exist"),
        (lambda run, **_: run.__setitem__("path", None), "has no path"),
    ],
)
def test_verify_run_damaged_landing_reports_problem(
    azurite: Azurite, tmp_path: Path, damage: Callable[..., None], problem: str
) -> None:
    result = verify_damaged(azurite, tmp_path, damage)
    assert any(problem in reported for reported in result.problems)
