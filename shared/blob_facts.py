"""The facts about the content of a blob, which the proof computes and all records repeat."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BlobFacts:
    """What is known about the stored bytes of a blob. A value that is unknown is empty or 0.

    With the proof mode "transfer", only the size and the MD5 hash are known.

    Attributes:
        bytes: The size.
        md5: The MD5 hash, in base64.
        sha256: The SHA-256 hash, in hexadecimal.
        rows: The number of JSON lines.
        encoding: "gzip" or "identity".
        columns: The column names in the first line.
    """

    bytes: int = 0
    md5: str = ""
    sha256: str = ""
    rows: int = 0
    encoding: str = ""
    columns: tuple[str, ...] = ()
