"""Formats lines as files: JSON Lines in UTF-8, with gzip, in every documented or observed form."""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

from local.simulator.behaviour import Behaviour
from local.simulator.data_attributes import SAMPLE_CASE

BOM = b"\xef\xbb\xbf"


class BlobFile:
    """One blob of an export.

    Its bytes are generated on first access. They are kept in memory or, if `keep` is False,
    generated again on every access.
    """

    def __init__(
        self,
        name: str,
        rows: int,
        make: Callable[[], bytes],
        *,
        partition_value: str = "default",
        keep: bool = True,
    ) -> None:
        self.name, self.rows, self.partition_value = name, rows, partition_value
        self._make, self._keep, self._content = make, keep, None if keep else b""

    def __repr__(self) -> str:
        return f"BlobFile({self.name!r}, rows={self.rows})"

    @property
    def content(self) -> bytes:
        """The bytes of the blob."""
        if not self._keep:
            return self._make()
        if self._content is None:
            self._content = self._make()
        return self._content

    @cached_property
    def _facts(self) -> tuple[int, bytes, str]:
        content = self.content
        return (
            len(content),
            hashlib.md5(content, usedforsecurity=False).digest(),
            hashlib.sha256(content).hexdigest(),
        )

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._facts[0]

    @property
    def md5(self) -> bytes:
        """The MD5 digest."""
        return self._facts[1]

    @property
    def sha256(self) -> str:
        """The SHA-256 digest in hexadecimal."""
        return self._facts[2]


def json_line(row: Mapping[str, Any], names: Sequence[str], behaviour: Behaviour) -> str:
    """Return a line without its newline. `row` contains a value or None for each name."""
    members = []
    for name in names:
        value = row[name]
        if value is None and behaviour.missing_values != "null":
            if behaviour.missing_values == "absent":
                continue
            value = ""
        spelling = SAMPLE_CASE.get(name, name) if behaviour.field_case == "sample" else name
        members.append(f'"{spelling}":{_json_value(value, behaviour)}')
    return "{" + ",".join(members) + "}"


def _json_value(value: Any, behaviour: Behaviour) -> str:
    match value:
        case str():
            return _json_string(value)
        case Decimal():
            text = plain_number(value)
            return f'"{text}"' if behaviour.numbers == "strings" else text
        case date():
            return f'"{_date_text(value, behaviour.dates)}"'
    return json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=10_000)  # the same strings occur in many lines
def _json_string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def plain_number(value: Decimal) -> str:
    """Return a number without an exponent and without trailing zeros.

    >>> [plain_number(Decimal(text)) for text in ("1E+2", "0.500", "-0.00")]
    ['100', '0.5', '0']
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _date_text(day: date, form: str) -> str:
    match form:
        case "iso":
            return f"{day.isoformat()}T00:00:00Z"
        case "iso_naive":
            return f"{day.isoformat()}T00:00:00"
        case "us":
            return f"{day.month}/{day.day}/{day.year}"
    return day.isoformat()


def file_of_lines(lines: Sequence[str], behaviour: Behaviour, *, number: int) -> bytes:
    """Return the bytes of the nth blob in an export."""
    pieces = _split(lines, 3) if _has_members(behaviour, number) else [lines]
    texts = [_text(piece, behaviour) for piece in pieces]
    if behaviour.last_newline == "absent":
        texts[-1] = texts[-1].rstrip(b"\n")
    if behaviour.byte_order_mark == "present":
        texts[0] = BOM + texts[0]
    if behaviour.compression == "plain":
        return b"".join(texts)
    return b"".join(gzip.compress(text, 6, mtime=0) for text in texts)


def _has_members(behaviour: Behaviour, number: int) -> bool:
    return behaviour.compression == "members" or (
        behaviour.compression == "mixed" and number % 2 == 1
    )


def _split(lines: Sequence[str], parts: int) -> list[Sequence[str]]:
    size = max(1, -(-len(lines) // parts))
    return [lines[start : start + size] for start in range(0, len(lines), size)] or [lines]


def _text(lines: Sequence[str], behaviour: Behaviour) -> bytes:
    separator = "\n\n" if behaviour.blank_lines == "some" else "\n"
    return "".join(line + separator for line in lines).encode()
