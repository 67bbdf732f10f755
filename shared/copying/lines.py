"""JSON lines, counted and looked at as they stream by. Pure; bounded memory whatever the lines are like.

Every line that is not blank must begin with `{` and end with `}`, JSON's white space aside; the first of them must be a
whole JSON object, whose member names become the columns. The other lines are not parsed: that costs several times the
inflating (reference: blob-copy, 9), and what a line holds is the reader's business. A byte order mark, blank lines, a
missing last newline and no line at all are accepted: Microsoft's files have been seen with each.
"""

import json

from shared.errors import Rejected

BLANK = b" \t\r"
BOM = b"\xef\xbb\xbf"
LONGEST_FIRST_LINE = 16 * 1024 * 1024  # bytes; only this line is ever kept
OPENING, CLOSING, NONE = ord("{"), ord("}"), -1


class JsonLines:
    """Feed it the text in pieces of any size, then finish(). Raises Rejected(proof_lines); the error names a line's number."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: tuple[str, ...] = ()
        self._lines = 0  # ended ones, blank or not
        self._start: bytearray | None = bytearray()  # of the text, until it is known whether a mark is there
        self._first_line: bytearray | None = bytearray()  # None once the first line that is not blank is parsed
        self._opening = self._closing = NONE  # the first and the last byte of the unfinished line that are not blank

    def feed(self, piece: bytes) -> None:
        if self._start is not None:
            self._start += piece
            if len(self._start) < len(BOM):
                return
            piece, self._start = bytes(self._start).removeprefix(BOM), None
        while self._first_line is not None and piece:
            line, newline, piece = piece.partition(b"\n")
            self._continue(line)
            if newline:
                self._end_line()
        if piece:
            self._many(piece)

    def finish(self) -> None:
        if self._start:
            piece, self._start = bytes(self._start).removeprefix(BOM) + b"\n", None
            self.feed(piece)
        elif self._opening != NONE:
            self._end_line()

    def _many(self, piece: bytes) -> None:
        """The bulk: counting is a hundred times faster than a loop over lines, and says the same where all is as usual."""
        newlines = piece.count(b"\n")
        if not newlines:
            self._continue(piece)
            return
        first, last = piece.index(b"\n"), piece.rindex(b"\n")
        self._continue(piece[:first])
        self._end_line()
        if newlines > 1:
            usual = (
                piece.count(b"}\n{", first + 1, last) == newlines - 2
                and piece[first + 1] == OPENING and piece[last - 1] == CLOSING and last - first > 2)
            if usual:
                self.rows += newlines - 1
                self._lines += newlines - 1
            else:
                for line in piece[first + 1:last].split(b"\n"):
                    self._continue(line)
                    self._end_line()
        self._continue(piece[last + 1:])

    def _continue(self, part: bytes) -> None:
        if self._first_line is not None:
            self._first_line += part
            if len(self._first_line) > LONGEST_FIRST_LINE:
                raise Rejected("proof_lines", f"line {self._lines + 1} is longer than any billing line")
        if part := part.strip(BLANK):
            self._opening = part[0] if self._opening == NONE else self._opening
            self._closing = part[-1]

    def _end_line(self) -> None:
        self._lines += 1
        if self._opening != NONE:
            if self._opening != OPENING or self._closing != CLOSING:
                raise Rejected("proof_lines", f"line {self._lines} is not a JSON object")
            self.rows += 1
            if self._first_line is not None:
                self._parse_first(bytes(self._first_line))
        if self._first_line is not None:
            self._first_line = bytearray() if self._opening == NONE else None
        self._opening = self._closing = NONE

    def _parse_first(self, line: bytes) -> None:
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Rejected("proof_lines", f"line {self._lines} is not a JSON object")
        self.columns = tuple(value)
