"""Input and result of the copier. Neither contains content, URLs or signatures."""

from dataclasses import dataclass
from typing import Literal

from shared.ledger.blobs import BlobRow
from shared.lines.text_reader import Encoding

ProofMode = Literal["content", "transfer"]
CopyMode = Literal["auto", "server", "stream"]


@dataclass(frozen=True)
class TransferRequest:
    """One version to copy.

    `folder` is the path that `layout.version_path` returns. If the current manifest has another
    `manifest_etag` or `root_directory`, every blob fails with `source_changed`.
    """

    run_id: str
    operation_id: str
    folder: str
    manifest_etag: str
    root_directory: str
    proof: ProofMode = "content"
    mode: CopyMode = "auto"


@dataclass(frozen=True)
class BlobResult:
    """The result for one blob: either `proven`, or a `code` from `shared.errors`.

    `bytes` and `rows` describe the blob at the destination. `md5` is base64 and `sha256`
    hexadecimal, both of the stored bytes. ETags include their quotes.

    Only a blob that was proven in this call has rows, hashes and columns; in the "transfer" proof
    mode, it has at most an MD5 hash. For an `unchanged` blob, whose recorded ETag still matches,
    the ledger row remains valid.

    `transferred` is true if this call wrote the blob. `detail` explains a failure, or why the blob
    was streamed. `tries` starts at 1 and counts repeated reads and writes. `seconds` is wall-clock
    time.
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

    def to_row(self, run_id: str) -> BlobRow:
        """Return the ledger row for this result."""
        return BlobRow(
            name=self.name,
            ok=self.proven,
            run_id=run_id,
            destination_etag=self.destination_etag or "",
            bytes=self.bytes or 0,
            rows=self.rows or 0,
            md5=self.md5 or "",
            sha256=self.sha256 or "",
            source_etag=self.source_etag or "",
            encoding=self.encoding or "",
            columns=",".join(self.columns),
            copy_method=self.copy_method or "",
            tries=self.tries,
            seconds=round(self.seconds, 3),
            code=self.code or "",
            detail=self.detail,
        )
