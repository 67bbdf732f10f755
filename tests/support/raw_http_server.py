"""An HTTP server that returns scripted bytes, for responses that no emulator sends."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType

Answer = bytes | None  # None: the connection is left open without a word


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def span(self) -> tuple[int, int]:
        """The first and last byte of the requested range."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["range"])
        assert found
        return int(found[1]), int(found[2])


def answer(status: int, body: bytes = b"", **headers: object) -> bytes:
    """Return a response. Headers use underscores for dashes; `Content-Length` can be wrong."""
    lines = {
        "Content-Length": len(body),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status} Some Reason\r\n{head}Connection: close\r\n\r\n".encode() + body


class Double:
    """`async with Double(respond) as double: double.origin`. `asked` holds every request."""

    def __init__(self, respond: Callable[[Asked], Answer | Awaitable[Answer]]) -> None:
        self._respond = respond
        self.asked: list[Asked] = []
        self.origin = ""

    async def __aenter__(self) -> "Double":
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
            asked = Asked(method, target, headers, body)
            self.asked.append(asked)
            said = self._respond(asked)
            said = await said if isinstance(said, Awaitable) else said
            if said is None:
                await asyncio.sleep(5)
            else:
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
