"""HTTP requests and responses as plain values, usable with or without an open port."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class HostRequest:
    """An HTTP request, as received on the port or passed to `LocalHost.request`."""

    method: str
    path: str  # percent-encoded
    query_string: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    origin: str = "http://localhost"  # scheme and host that the caller used

    @classmethod
    def from_target(
        cls, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, origin: str
    ) -> "HostRequest":
        """Build a request from its target (path and query string).

        Raises:
            ValueError: If the target is not a valid URL.
        """
        parts = urlsplit(target)
        return cls(method.upper(), parts.path or "/", parts.query, tuple(headers), body, origin)

    @property
    def url(self) -> str:
        return f"{self.origin}{self.path}" + (f"?{self.query_string}" if self.query_string else "")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class HostResponse:
    """An HTTP response; `LocalHost.request` returns it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def json_response(status: int, content: Any, *headers: tuple[str, str]) -> HostResponse:
    return HostResponse(
        status,
        (("Content-Type", "application/json; charset=utf-8"), *headers),
        json.dumps(content).encode(),
    )
