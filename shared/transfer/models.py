"""Input and result of the copier. Neither contains content, URLs or signatures."""

from dataclasses import dataclass, field
from typing import Literal

from shared.blob_facts import BlobFacts
from shared.ledger.blobs import BlobRow

ProofMode = Literal["content", "transfer"]
CopyMode = Literal["auto", "server", "stream"]


@dataclass(frozen=True)
class TransferRequest:
    """One version to copy.

    `folder` is the path that `layout.version_path` returns. If the current manifest has another
    `manifest_etag` or `root_directory`, every blob fails with `source_changed`. If `date_member` is
    not "", the proof also finds the newest date of this member of the lines.
    """

    run_id: str
    operation_id: str
    folder: str
    manifest_etag: str
    root_directory: str
    proof: ProofMode = "content"
    mode: CopyMode = "auto"
    date_member: str = ""


@dataclass(frozen=True)
class BlobResult:
    """The result for one blob: either `proven`, or a `code` from `shared.errors`.

    `facts` describe the blob at the destination. They are complete only if the blob was proven in
    this call. For an `unchanged` blob, whose recorded ETag still matches, they contain only the
    size and the MD5 hash, and the ledger row remains valid. ETags include their quotes.

    `transferred` is true if this call wrote the blob. `detail` explains a failure, or why the blob
    was streamed. `rejected_change` is the code of the error if storage rejected the change of the
    properties and metadata of a proven blob. `tries` starts at 1 and counts repeated reads and
    writes. `seconds` is wall-clock time.
    """

    name: str
    proven: bool
    code: str | None = None
    detail: str = ""
    facts: BlobFacts = field(default_factory=BlobFacts)
    source_etag: str | None = None
    destination_etag: str | None = None
    copy_method: str | None = None
    tries: int = 1
    seconds: float = 0.0
    transferred: bool = False
    retry_after_seconds: int = 0
    unchanged: bool = False
    rejected_change: str = ""

    def to_row(self, run_id: str) -> BlobRow:
        """Return the ledger row for this result."""
        return BlobRow(
            name=self.name,
            ok=self.proven,
            run_id=run_id,
            destination_etag=self.destination_etag or "",
            facts=self.facts,
            source_etag=self.source_etag or "",
            copy_method=self.copy_method or "",
            tries=self.tries,
            seconds=round(self.seconds, 3),
            code=self.code or "",
            detail=self.detail,
        )
