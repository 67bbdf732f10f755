"""An HTTP server that returns scripted bytes, for responses that no emulator sends."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

RawResponse = bytes | None  # None: keep the connection open without a response


@dataclass(frozen=True)
class RawRequest:
    """A request that the server received; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def byte_range(self) -> tuple[int, int]:
        """The first and last byte of the requested range."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["range"])
        assert match
        return int(match[1]), int(match[2])


def build_response(status: int, body: bytes = b"", **headers: object) -> bytes:
    """Return the bytes of a response.

    Header names use underscores instead of hyphens, unless they also contain hyphens. A header
    whose value is None is omitted, and `Content_Length` can be incorrect.
    """
    lines = {
        "Content-Length": len(body),
        **{
            name if "-" in name else name.replace("_", "-"): value
            for name, value in headers.items()
        },
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status} Some Reason\r\n{head}Connection: close\r\n\r\n".encode() + body


class RawHttpServer:
    """A server on a loopback port: `async with RawHttpServer(respond) as server: server.origin`.

    `requests` contains each received request, in order.
    """

    def __init__(
        self, respond: Callable[[RawRequest], RawResponse | Awaitable[RawResponse]]
    ) -> None:
        self._respond = respond
        self.requests: list[RawRequest] = []
        self.origin = ""

    async def __aenter__(self) -> "RawHttpServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            request = RawRequest(method, target, headers, body)
            self.requests.append(request)
            response = self._respond(request)
            response = await response if isinstance(response, Awaitable) else response
            if response is None:
                await asyncio.sleep(5)
            else:
                writer.write(response)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
