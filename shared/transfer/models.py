"""What the copier is asked for and what it answers: plain values, without bytes, URLs or signatures."""

from dataclasses import dataclass
from typing import Literal

Proof = Literal["content", "transfer"]
Mode = Literal["auto", "server", "stream"]
Encoding = Literal["gzip", "identity"]


@dataclass(frozen=True)
class TransferRequest:
    """One version to land. `folder` is its path as layout.version_path gives it; `root_directory` as planned: where the
    manifest of now names another root or eTag, every blob fails with source_changed.
    """

    run_id: str
    operation_id: str
    folder: str
    manifest_etag: str
    root_directory: str
    proof: Proof = "content"
    mode: Mode = "auto"


@dataclass(frozen=True)
class BlobResult:
    """How it ended for one blob. `proven` or a `code` of shared.errors, never both.

    `bytes` and `rows` are of the blob as landed; `md5` base64, `sha256` hex, both of the stored bytes; ETags in quotes.
    Only what was proven in this call has rows, hashes and columns: with proof "transfer" there is an MD5 at most, and a
    blob that is `unchanged` (its recorded ETag is still there) keeps what its row says. `transferred`: bytes were
    written by this call. `detail`: a sentence of ours on what went wrong, or on why the blob was streamed. `tries` counts
    the reads and writes that had to be repeated, from 1. `seconds` is wall time.
    """

    name: str
    proven: bool
    code: str | None = None
    detail: str = ""
    bytes: int | None = None
    rows: int | None = None
    md5: str | None = None
    sha256: str | None = None
    source_etag: str | None = None
    destination_etag: str | None = None
    encoding: Encoding | None = None
    columns: tuple[str, ...] = ()
    copy_method: str | None = None
    tries: int = 1
    seconds: float = 0.0
    transferred: bool = False
    retry_after_seconds: int = 0
    unchanged: bool = False
