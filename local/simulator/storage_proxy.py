"""A reverse proxy before the storage emulator, byte for byte, in which reads of blobs can go wrong.

SAS signatures do not cover the host, so a root directory may name the proxy instead of the storage. For copies that
stream through the app only: a copy on the storage's side needs source and destination in one emulator.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from local.simulator.faults import FaultResponse, Faults
from local.simulator.request_log import RecordedRequest, RequestLog, without_credentials
from local.simulator.responses import (
    ConnectionDroppedError,
    drop_connection,
    fault_response,
    spoiled_bytes,
)

HOP_BY_HOP = (
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
)
OWN = (
    "User-Agent",
    "Accept",
    "Accept-Encoding",
    "Content-Type",
)  # what the client would put in by itself
PIECE = 64 << 10


class StorageProxy:
    """`target` is the emulator's blob origin, `http://127.0.0.1:40001`."""

    def __init__(
        self,
        target: str,
        faults: Callable[[], Faults],
        log: RequestLog,
        now: Callable[[], datetime],
    ) -> None:
        self._target, self._faults, self._log, self._now = target, faults, log, now
        self._session: aiohttp.ClientSession | None = None

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_startup.append(self._open)
        app.on_cleanup.append(self._close)
        return app

    async def _open(self, _: web.Application) -> None:
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=600),
            skip_auto_headers=OWN,
        )

    async def _close(self, _: web.Application) -> None:
        assert self._session is not None
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        record = RecordedRequest(
            request.method,
            request.path,
            "",
            "",
            datetime.now(UTC),
            self._now(),
            without_credentials(request.headers),
            "Authorization" in request.headers,
            "blob",
            None,
        )
        self._log.records.append(record)
        answer = self._faults().find_response("blob", None, request.method, request.path)
        record.fault = answer is not None
        try:
            if answer:
                await asyncio.sleep(answer.delay)
                if answer.replaces:
                    replaced = fault_response(answer, "blob", "")
                    record.status = replaced.status
                    return replaced
            return await self._pass_on(request, record, answer or FaultResponse())
        except ConnectionDroppedError:
            return await drop_connection(request)

    async def _pass_on(
        self, request: web.Request, record: RecordedRequest, answer: FaultResponse
    ) -> web.StreamResponse:
        assert self._session is not None
        headers = CIMultiDict(request.headers)
        for name in (*HOP_BY_HOP, "Host"):
            headers.popall(name, None)
        body = await request.read() if request.can_read_body else None
        url = URL(self._target + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as real:
            response = web.StreamResponse(
                status=answer.status or real.status, headers=self._headers(real, answer)
            )
            response.content_length = self._length(real, answer)
            record.status = response.status
            await response.prepare(request)
            if request.method != "HEAD":
                await self._stream(real, response, answer)
                await response.write_eof()
            return response

    def _headers(self, real: aiohttp.ClientResponse, answer: FaultResponse) -> CIMultiDict[str]:
        headers = CIMultiDict(real.headers)
        for name in (*HOP_BY_HOP, *answer.without_headers):
            headers.popall(name, None)
        headers.update(answer.headers)
        return headers

    def _length(self, real: aiohttp.ClientResponse, answer: FaultResponse) -> int | None:
        """What Content-Length says: the truth, unless the rule sets another number."""
        if "Content-Length" in answer.headers:
            return int(answer.headers["Content-Length"])
        if "Content-Length" not in real.headers:
            return None
        length = int(real.headers["Content-Length"])
        if answer.body == "truncated":
            return length // 2
        return min(length, answer.cut_to) if answer.cut_to is not None else length

    async def _stream(
        self, real: aiohttp.ClientResponse, response: web.StreamResponse, answer: FaultResponse
    ) -> None:
        end = (
            self._length(real, answer)
            if answer.body == "truncated" or answer.cut_to is not None
            else None
        )
        sent = 0
        piece_size = min(PIECE, answer.bytes_per_second or PIECE)
        async for piece in real.content.iter_chunked(piece_size):
            if answer.drop_after is not None and sent + len(piece) >= answer.drop_after:
                await response.write(spoiled_bytes(piece, answer, sent)[: answer.drop_after - sent])
                raise ConnectionDroppedError
            kept = spoiled_bytes(piece, answer, sent)
            if end is not None:
                kept = kept[: max(0, end - sent)]
            if kept:
                await response.write(kept)
            sent += len(piece)
            if answer.bytes_per_second:
                await asyncio.sleep(len(piece) / answer.bytes_per_second)
        if "Content-Length" in answer.headers and int(answer.headers["Content-Length"]) > sent:
            raise ConnectionDroppedError  # the reader would wait for the rest for ever
