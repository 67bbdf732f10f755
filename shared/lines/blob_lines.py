"""Reads the lines of one stored blob."""

from collections.abc import Callable

from shared.lines.line_splitter import LineSplitter
from shared.lines.text_reader import TextReader


class BlobLineReader:
    """Passes each line of a blob to `consume`. The blob can be gzip or plain text."""

    def __init__(self, consume: Callable[[bytes], None]) -> None:
        self._lines = LineSplitter(consume)
        self._text = TextReader(self._lines.feed)

    def feed(self, data: bytes) -> None:
        """Read the next stored bytes.

        Raises:
            InvalidDataError: `proof_gzip`, `proof_bomb` or `proof_lines`.
        """
        self._text.feed(data)

    def finish(self) -> None:
        """Deliver the last line; raise `proof_gzip` if the blob is truncated."""
        self._text.finish()
        self._lines.finish()
