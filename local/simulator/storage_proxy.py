"""A reverse proxy for the storage emulator that applies fault rules to blob reads.

A SAS signature does not cover the host, so a root directory can refer to the proxy instead of the
storage account. The proxy works only for copies that stream through the app: a server-side copy
requires the source and the destination to be in the same emulator.
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
    apply_fault_to_bytes,
    drop_connection,
    fault_response,
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
CLIENT_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # added by aiohttp
CHUNK_BYTES = 64 << 10


class StorageProxy:
    """The proxy. `target` is the blob origin of the emulator, such as `http://127.0.0.1:40001`."""

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
        """Return the HTTP application."""
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
            skip_auto_headers=CLIENT_HEADERS,
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
        fault = self._faults().find_response("blob", None, request.method, request.path)
        record.fault = fault is not None
        try:
            if fault:
                await asyncio.sleep(fault.delay)
                if fault.replaces:
                    replaced = fault_response(fault, "blob", "")
                    record.status = replaced.status
                    return replaced
            return await self._forward(request, record, fault or FaultResponse())
        except ConnectionDroppedError:
            return await drop_connection(request)

    async def _forward(
        self, request: web.Request, record: RecordedRequest, fault: FaultResponse
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
                status=fault.status or real.status, headers=self._headers(real, fault)
            )
            response.content_length = self._length(real, fault)
            record.status = response.status
            await response.prepare(request)
            if request.method != "HEAD":
                await self._stream(real, response, fault)
                await response.write_eof()
            return response

    def _headers(self, real: aiohttp.ClientResponse, fault: FaultResponse) -> CIMultiDict[str]:
        headers = CIMultiDict(real.headers)
        for name in (*HOP_BY_HOP, *fault.without_headers):
            headers.popall(name, None)
        headers.update(fault.headers)
        return headers

    def _length(self, real: aiohttp.ClientResponse, fault: FaultResponse) -> int | None:
        """Return the Content-Length: the real length unless the rule sets a different one."""
        if "Content-Length" in fault.headers:
            return int(fault.headers["Content-Length"])
        if "Content-Length" not in real.headers:
            return None
        length = int(real.headers["Content-Length"])
        if fault.body == "truncated":
            return length // 2
        return min(length, fault.cut_to) if fault.cut_to is not None else length

    async def _stream(
        self, real: aiohttp.ClientResponse, response: web.StreamResponse, fault: FaultResponse
    ) -> None:
        end = (
            self._length(real, fault)
            if fault.body == "truncated" or fault.cut_to is not None
            else None
        )
        sent = 0
        chunk_bytes = min(CHUNK_BYTES, fault.bytes_per_second or CHUNK_BYTES)
        async for chunk in real.content.iter_chunked(chunk_bytes):
            if fault.drop_after is not None and sent + len(chunk) >= fault.drop_after:
                await response.write(
                    apply_fault_to_bytes(chunk, fault, sent)[: fault.drop_after - sent]
                )
                raise ConnectionDroppedError
            data = apply_fault_to_bytes(chunk, fault, sent)
            if end is not None:
                data = data[: max(0, end - sent)]
            if data:
                await response.write(data)
            sent += len(chunk)
            if fault.bytes_per_second:
                await asyncio.sleep(len(chunk) / fault.bytes_per_second)
        if "Content-Length" in fault.headers and int(fault.headers["Content-Length"]) > sent:
            raise ConnectionDroppedError  # otherwise the client would wait for the rest
