"""Counts and checks JSON lines in bounded memory, whatever their length.

Every nonblank line must start with `{` and end with `}`, ignoring JSON white space. The first
nonblank line must be a JSON object; its member names are the columns. The other lines are not
parsed: parsing costs several times as much as decompression. Blank lines, a missing last newline
and an empty text are valid, because Microsoft's files contain each of them.
"""

import json
import re

from shared.errors import InvalidDataError

JSON_WHITESPACE = b" \t\r"
NEWLINES = re.compile(rb"\n*")
MAX_FIRST_LINE_BYTES = 16 * 1024 * 1024  # only the first nonblank line is kept in memory
MIN_WIDE_LINE_BYTES = 300  # from this average length, searching is faster than splitting
OPENING, CLOSING, NONE = ord("{"), ord("}"), -1


class JsonLineCounter:
    """Counts the lines of a text that arrives in pieces of any size.

    `rows` is the number of nonblank lines, `columns` the member names of the first one. Error
    messages contain the number of the invalid line.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.columns: tuple[str, ...] = ()
        self._has_wide_lines = False  # in the last piece
        self._lines = 0  # complete lines, including blank ones
        # None once the first nonblank line has been parsed.
        self._first_line: bytearray | None = bytearray()
        # The first and the last byte of the incomplete line that are not white space.
        self._opening = self._closing = NONE

    def feed(self, piece: bytes) -> None:
        """Count the next piece of text.

        Raises:
            InvalidDataError: `proof_lines`.
        """
        position = 0
        while self._first_line is not None and position < len(piece):
            if not self._first_line:  # skip millions of empty lines in one step
                start, position = position, _skip_newlines(piece, position)
                self._lines += position - start
            end = piece.find(b"\n", position)
            self._extend_line(piece[position : end if end >= 0 else len(piece)])
            if end < 0:
                return
            self._end_line()
            position = end + 1
        if position < len(piece):
            self._count(piece[position:] if position else piece)

    def finish(self) -> None:
        """Count the last line if it has no newline."""
        if self._opening != NONE:
            self._end_line()

    def _count(self, piece: bytes) -> None:
        """Count the lines after the first one: in bulk, or one by one if a line is unusual."""
        first, last = piece.find(b"\n"), piece.rfind(b"\n")
        if first < 0:
            self._extend_line(piece)
            return
        self._extend_line(piece[:first])
        self._end_line()
        if first < last:
            count = _count_wide_lines if self._has_wide_lines else _count_lines
            rows = count(piece, first, last)
            if rows is None:
                for line in piece[first + 1 : last].split(b"\n"):
                    if line:
                        self._extend_line(line)
                        self._end_line()
                    else:
                        self._lines += 1
            else:
                self.rows += rows
                self._lines += rows
                self._has_wide_lines = last - first > MIN_WIDE_LINE_BYTES * rows
        self._extend_line(piece[last + 1 :])

    def _extend_line(self, part: bytes) -> None:
        if self._first_line is not None:
            self._first_line += part
            if len(self._first_line) > MAX_FIRST_LINE_BYTES:
                raise InvalidDataError(
                    "proof_lines", f"Line {self._lines + 1} exceeds {MAX_FIRST_LINE_BYTES} bytes"
                )
        if part := part.strip(JSON_WHITESPACE):
            self._opening = part[0] if self._opening == NONE else self._opening
            self._closing = part[-1]

    def _end_line(self) -> None:
        self._lines += 1
        if self._opening != NONE:
            if self._opening != OPENING or self._closing != CLOSING:
                raise InvalidDataError("proof_lines", f"Line {self._lines} is not a JSON object")
            self.rows += 1
            if self._first_line is not None:
                self._parse_columns(bytes(self._first_line))
        if self._first_line is not None:
            self._first_line = bytearray() if self._opening == NONE else None
        self._opening = self._closing = NONE

    def _parse_columns(self, line: bytes) -> None:
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InvalidDataError("proof_lines", f"Line {self._lines} is not a JSON object")
        self.columns = tuple(value)


def _count_lines(piece: bytes, first: int, last: int) -> int | None:
    """Return the number of lines between two newlines.

    Returns None if a line is blank or does not have `{` as its first character and `}` as its last.
    """
    lines = piece[first + 1 : last].split(b"\n")
    if any(not line or line[0] != OPENING or line[-1] != CLOSING for line in lines):
        return None
    return len(lines)


def _count_wide_lines(piece: bytes, first: int, last: int) -> int | None:
    """Return the same result as `_count_lines` without copying each line.

    This is 1.5 times as fast for lines as long as those of a billing file, and slower for short
    lines.
    """
    find, lines = piece.find, 0
    while first < last:
        end = find(b"\n", first + 1)
        if piece[first + 1] != OPENING or piece[end - 1] != CLOSING:
            return None
        first, lines = end, lines + 1
    return lines


def _skip_newlines(piece: bytes, position: int) -> int:
    newlines = NEWLINES.match(piece, position)
    return newlines.end() if newlines else position
