"""Splits text into lines."""

from collections.abc import Callable

from shared.errors import InvalidDataError

MAX_LINE_BYTES = 16 * 1024 * 1024


class LineSplitter:
    """Passes each line of a text to `consume`, without its newline."""

    def __init__(self, consume: Callable[[bytes], None]) -> None:
        self._consume = consume
        self._partial = bytearray()

    def feed(self, text: bytes) -> None:
        """Split the next piece of text.

        Raises:
            InvalidDataError: `proof_lines` if a line is longer than `MAX_LINE_BYTES`.
        """
        *lines, rest = text.split(b"\n")
        for line in lines:
            if self._partial:
                line = bytes(self._partial) + line
                self._partial.clear()
            self._consume(line)
        self._partial += rest
        if len(self._partial) > MAX_LINE_BYTES:
            raise InvalidDataError("proof_lines", f"A line exceeds {MAX_LINE_BYTES} bytes")

    def finish(self) -> None:
        """Deliver the last line if it has no newline."""
        if self._partial:
            self._consume(bytes(self._partial))
            self._partial.clear()
