"""Verifies that a blob was transferred completely, by reading its stored bytes in order.

`ContentProof` computes the MD5 and SHA-256 hashes of the stored bytes, decompresses every gzip
member and counts the rows. `TransferProof` computes only the MD5 hash. Both find the newest date of
the lines if the caller needs it. `verify` then compares the result with the size and hash of the
source. The functions are synchronous and run in a worker thread; memory use is bounded.
"""

import base64
import hashlib
from typing import Protocol

from shared.blob_facts import BlobFacts
from shared.errors import InvalidDataError
from shared.lines.blob_lines import BlobLineReader
from shared.lines.json_lines import JsonLineCounter
from shared.lines.line_splitter import LineSplitter
from shared.lines.newest_date import NewestDate
from shared.lines.text_reader import TextReader
from shared.transfer.models import ProofMode


class Prover(Protocol):
    """Computes the facts about one blob from its stored bytes."""

    def feed(self, data: bytes) -> None:
        """Read the next bytes.

        Raises:
            InvalidDataError: `proof_gzip`, `proof_lines` or `proof_bomb`.
        """
        ...

    def finish(self) -> BlobFacts:
        """Return the facts after the last byte; raise the same errors as `feed`."""
        ...


def create_prover(mode: ProofMode, date_member: str = "") -> Prover:
    """Return a prover for one blob.

    If `date_member` is not "", the prover also reads the lines for the newest date of this member.
    """
    dates = NewestDate(date_member) if date_member else None
    return ContentProof(dates) if mode == "content" else TransferProof(dates)


def verify(facts: BlobFacts, size: int, md5: str | None) -> None:
    """Compare a blob with its source.

    Args:
        facts: The facts about the bytes that arrived.
        size: The size of the source in bytes.
        md5: The MD5 hash of the source in base64, or None if the source has none.

    Raises:
        InvalidDataError: `proof_size` or `proof_md5`.
    """
    if facts.bytes != size:
        raise InvalidDataError("proof_size", f"Expected {size} bytes, got {facts.bytes}")
    if md5 is not None and facts.md5 != md5:
        raise InvalidDataError("proof_md5", "The MD5 hash differs from the hash of the source")


class TransferProof:
    """Prover for the proof mode "transfer"."""

    def __init__(self, dates: NewestDate | None = None) -> None:
        self._bytes, self._md5 = 0, hashlib.md5(usedforsecurity=False)
        self._dates = dates
        self._lines = BlobLineReader(dates.add) if dates else None

    def feed(self, data: bytes) -> None:
        """Hash the next bytes."""
        self._bytes += len(data)
        self._md5.update(data)
        if self._lines is not None:
            self._lines.feed(data)

    def finish(self) -> BlobFacts:
        """Return the size, the MD5 hash and the newest date."""
        if self._lines is not None:
            self._lines.finish()
        return BlobFacts(
            self._bytes,
            base64.b64encode(self._md5.digest()).decode(),
            newest_date=self._dates.value if self._dates else "",
        )


class ContentProof:
    """Prover for the proof mode "content"."""

    def __init__(self, dates: NewestDate | None = None) -> None:
        self._transfer, self._sha256 = TransferProof(), hashlib.sha256()
        self._lines, self._dates = JsonLineCounter(), dates
        self._splitter = LineSplitter(dates.add) if dates else None
        self._text = TextReader(self._read_text if dates else self._lines.feed)

    def feed(self, data: bytes) -> None:
        """Hash the next bytes and count their lines."""
        self._transfer.feed(data)
        self._sha256.update(data)
        self._text.feed(data)

    def finish(self) -> BlobFacts:
        """Return the complete facts."""
        self._text.finish()
        self._lines.finish()
        if self._splitter is not None:
            self._splitter.finish()
        transferred = self._transfer.finish()
        return BlobFacts(
            transferred.bytes,
            transferred.md5,
            self._sha256.hexdigest(),
            self._lines.rows,
            self._text.encoding,
            self._lines.columns,
            self._text.has_byte_order_mark,
            self._dates.value if self._dates else "",
        )

    def _read_text(self, text: bytes) -> None:
        assert self._splitter is not None
        self._lines.feed(text)
        self._splitter.feed(text)
