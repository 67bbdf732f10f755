"""The facts about the content of a blob, which the proof computes and all records repeat."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What is known about the stored bytes of a blob. A value that is unknown is empty or 0.

    With the proof mode "transfer", only the size, the MD5 hash and, if it was required, the newest
    date are known.

    Attributes:
        bytes: The size.
        md5: The MD5 hash, in base64.
        sha256: The SHA-256 hash, in hexadecimal.
        rows: The number of JSON lines.
        encoding: "gzip" or "identity".
        columns: The column names in the first line.
        byte_order_mark: Whether the text starts with a byte order mark.
        newest_date: The newest date of the lines, see shared/lines/newest_date.py. It is read only
            if the lines must confirm the month of the data.
    """

    bytes: int = 0
    md5: str = ""
    sha256: str = ""
    rows: int = 0
    encoding: str = ""
    columns: tuple[str, ...] = ()
    byte_order_mark: bool = False
    newest_date: str = ""

    @property
    def content(self) -> tuple[int, str, str]:
        """The facts that identify the stored bytes: size and hashes."""
        return self.bytes, self.md5, self.sha256

    @property
    def has_hash(self) -> bool:
        """Whether the content of the blob was proven, even if the blob has been lost since."""
        return bool(self.md5 or self.sha256)

    @property
    def is_content_proven(self) -> bool:
        """Whether the content was read as lines, so that all facts are known."""
        return bool(self.encoding)

    @property
    def known_rows(self) -> int | None:
        """The number of rows, or None if it is unknown."""
        return self.rows if self.is_content_proven else None
