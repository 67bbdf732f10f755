"""Reads single members of JSON lines without decoding the other members."""

import json
import re
from typing import Any

VALUE = rb'("(?:[^"\\]|\\.)*"|[^\s,}\]"]+)'


class MemberReader:
    """Reads the members with the given names. The names are case-insensitive.

    In an object that contains no other object, an unescaped quote followed by a letter starts a
    name or a string value, and only a name is followed by a colon. A search for the names is
    therefore exact for such lines; all other lines are parsed as JSON.
    """

    def __init__(self, *names: str) -> None:
        self._names = tuple(name.lower() for name in names)
        pattern = "|".join(map(re.escape, self._names)).encode()
        self._member = re.compile(rb'(?<!\\)"(' + pattern + rb')"\s*:\s*' + VALUE, re.IGNORECASE)

    def read(self, line: bytes) -> tuple[list[Any], ...] | None:
        """Return the values of each name, or None if the line is not a JSON object.

        A name can have no value or, if it is ambiguous, several. Numbers are strings, so that they
        are exact.

        >>> MemberReader("Total", "Currency").read(b'{"total": 1.50, "Currency": null}')
        (['1.50'], [None])
        """
        if line.count(b"{") == 1:
            members = self._member.findall(line)
            found = {name.lower(): value for name, value in members}
            if len(found) == len(members) == len(self._names):
                return tuple([_parse_value(found[name.encode()])] for name in self._names)
        try:
            document = json.loads(line, parse_float=str, parse_int=str)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict):
            return None
        return tuple(
            [value for key, value in document.items() if key.lower() == name]
            for name in self._names
        )


def _parse_value(text: bytes) -> Any:
    if text[:1] != b'"':
        return None if text == b"null" else text.decode("ascii", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")
