"""Reads from Microsoft's storage: one blob pinned to one ETag, in ranges, through a signature that may expire meanwhile.

Plain requests instead of the SDK's: they unpack nothing whatever Content-Encoding says, follow no redirect, repeat
nothing on their own, and check that each answer is the very range that was asked for (reference: blob-copy, 3: the
SDK's defaults give wrong bytes of the right length).

Raises shared.errors only: source_changed, source_missing, source_forbidden, source_sas_expired, source_redirected,
source_short, source_unreachable, storage_busy, and what fetching a manifest raises. No URL leaves this module but
through PinnedSource.url, for a server-side copy.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from shared.clock import Clock
from shared.errors import (
    BillingExportError,
    InvalidDataError,
    PermanentError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.landing.storage_errors import BUSY, word
from shared.retry_after import retry_after_seconds
from shared.transfer.concurrency_limiter import ConcurrencyLimiter
from shared.transfer.limits import BLOCK
from shared.transfer.manifest_cache import ManifestCache, SourceDirectory
from shared.transfer.models import TransferRequest

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

R = TypeVar("R")

CONNECT_SECONDS, SILENCE_SECONDS, ANSWER_SECONDS = (
    10,
    60,
    300,
)  # the last: a whole block, however slowly it drips
SIGNATURE_CODES = (
    None,
    "AuthenticationFailed",
    "AuthorizationFailure",
)  # Azure says the former, Azurite the latter
READ_BUFFER = 256 * 1024
CONTENT_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")
MOST_BYTES = 50_000 * BLOCK  # storage's limit of blocks; a billing file has some hundred MB


@dataclass(frozen=True)
class SourceFacts:
    """What a blob is pinned to. `etag` as the header has it, `size` in bytes, `md5` in base64 where the blob has one."""

    etag: str
    size: int
    md5: str | None


class _SignatureRefused(Exception):
    """A 403 that a new signature may cure."""


class _Broken(Exception):
    """The connection broke or the answer ended early: worth another try. `code` is what it is called if none helps."""

    def __init__(self, code: str = "source_unreachable") -> None:
        super().__init__(code)
        self.code = code


class SourceReader:
    """One per process: it holds the connections. `silence` and `answer` are seconds."""

    def __init__(
        self,
        sources: ManifestCache,
        clock: Clock,
        *,
        silence: float = SILENCE_SECONDS,
        answer: float = ANSWER_SECONDS,
    ) -> None:
        self.sources, self._clock, self._silence, self._answer = sources, clock, silence, answer
        self._session: ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        use: "Callable[[ClientResponse], Awaitable[R]]",
    ) -> R:
        """`use` gets the answer if it is a good one. Raises _SignatureRefused, _Broken or an error of ours; keeps no URL."""
        import aiohttp
        from yarl import URL

        session, exact = self._connected(), URL(url, encoded=True)
        try:
            async with session.request(
                method, exact, headers=headers, allow_redirects=False
            ) as answer:
                self.sources.storage_time.heard(answer.headers.get("Date"))
                self._judge(answer)
                return await use(answer)
        except aiohttp.ClientPayloadError:
            broken = _Broken("source_short")
        except (
            aiohttp.ClientError,
            OSError,
            TimeoutError,
            ValueError,
        ):  # ValueError: an answer that is not HTTP
            broken = _Broken()
        raise broken  # out here: the library's words hold the URL

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _connected(self) -> "ClientSession":
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._answer, sock_connect=CONNECT_SECONDS, sock_read=self._silence
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER,
                headers={"Accept-Encoding": "identity", "User-Agent": "partner-billing-export"},
            )
        return self._session

    def _judge(self, answer: "ClientResponse") -> None:
        status = answer.status
        code, request_id = (
            word(answer.headers.get(name)) for name in ("x-ms-error-code", "x-ms-request-id")
        )
        if status in (200, 206):
            return
        said: BillingExportError
        if status == 403 and code in SIGNATURE_CODES:
            raise _SignatureRefused
        if status in BUSY:
            said = ThrottledError(
                "storage_busy",
                retry_after_seconds=retry_after_seconds(
                    answer.headers.get("Retry-After"), self._clock.now()
                ),
                http_status=status,
                error_code=code,
                request_id=request_id,
            )
        elif status == 408 or status > 500:
            raise _Broken
        elif 300 <= status < 400:
            said = RequestRefusedError(
                "source_redirected", http_status=status, error_code=code, request_id=request_id
            )
        else:
            known = {
                404: "source_missing",
                410: "source_missing",
                412: "source_changed",
                416: "source_short",
            }
            said = PermanentError(
                known.get(status, "source_forbidden"),
                http_status=status,
                error_code=code,
                request_id=request_id,
            )
        raise said


class _Range:
    """Bytes of a blob as they arrive. What a broken connection has left is kept, and taken up where it broke."""

    def __init__(self, start: int, length: int) -> None:
        self._start, self.length, self._received = start, length, 0
        self._parts: list[bytes] = []

    @property
    def at(self) -> int:
        return self._start + self._received

    @property
    def left(self) -> int:
        return self.length - self._received

    @property
    def header(self) -> str:
        return f"bytes={self.at}-{self._start + self.length - 1}"

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)

    async def take(self, answer: "ClientResponse") -> None:
        async for part in answer.content.iter_any():
            self._parts.append(part)
            self._received += len(part)

    def check(self) -> None:
        if self.left:
            raise _Broken("source_short")


class PinnedSource:
    """One blob of the source. `tries` is 1 and one more for everything that had to be repeated."""

    def __init__(
        self, reader: SourceReader, pressure: ConcurrencyLimiter, work: TransferRequest, name: str
    ) -> None:
        self._reader, self._pressure, self._work, self.name = reader, pressure, work, name
        self._facts: SourceFacts | None = None
        self._begun = b""  # the first bytes, from the first look
        self.tries = 1

    @property
    def facts(self) -> SourceFacts:
        assert self._facts is not None
        return self._facts

    @property
    def etag(self) -> str | None:
        return self._facts.etag if self._facts is not None else None

    async def look(self) -> SourceFacts:
        """HEAD. The first look pins; a later one raises source_changed if it sees something else."""
        seen = await self._persistently(lambda: self._signed("HEAD", {}, _facts))
        if self._facts is not None and seen.etag != self._facts.etag:
            raise PermanentError("source_changed")
        self._facts = seen
        return seen

    async def begin(self, most: int) -> None:
        """The first look and the first `most` bytes in one request; `read` from the start gives these. Nothing if pinned."""
        if self._facts is not None:
            return
        wanted = _Range(0, most)

        async def first() -> None:
            if self._facts is not None:  # the answer broke off behind its headers
                await self._rest_of(wanted)
                return

            async def take(answer: "ClientResponse") -> None:
                self._facts = _facts_of_range(answer, most)
                wanted.length = min(most, self._facts.size)
                await wanted.take(answer)

            await self._signed("GET", {"Range": wanted.header}, take)
            wanted.check()

        try:
            await self._persistently(first)
        except PermanentError as error:
            if error.http_status != 416:
                raise
            await self.look()  # a blob without bytes has no range
        else:
            self._begun = wanted.data

    async def read(self, start: int, length: int) -> bytes:
        """The bytes as stored, all of them. A connection that breaks is taken up where it broke, a few times."""
        begun, self._begun = self._begun, b""
        if begun and (start, length) == (0, len(begun)):
            return begun
        wanted = _Range(start, length)
        await self._persistently(lambda: self._rest_of(wanted))
        return wanted.data

    async def _rest_of(self, wanted: "_Range") -> None:
        async def take(answer: "ClientResponse") -> None:
            self._check_range(answer, wanted.at, wanted.left)
            await wanted.take(answer)

        await self._signed("GET", {"Range": wanted.header, "If-Match": self.facts.etag}, take)
        wanted.check()

    async def directory(self) -> SourceDirectory:
        """Where to read from now, with a signature that is good for a while; raises source_changed if it is other data."""
        found = await self._reader.sources.get_directory(self._work.operation_id)
        return found if self._as_planned(found) else await self.renewed(found)

    async def renewed(self, stale: SourceDirectory) -> SourceDirectory:
        found = await self._reader.sources.renew_directory(self._work.operation_id, stale)
        if not self._as_planned(found):
            raise PermanentError("source_changed")
        return found

    def _as_planned(self, found: SourceDirectory) -> bool:
        return found.same_data(self._work.manifest_etag, self._work.root_directory)

    async def _signed(
        self,
        method: str,
        headers: Mapping[str, str],
        use: "Callable[[ClientResponse], Awaitable[R]]",
    ) -> R:
        """One request; where its signature is refused, one more with a new one."""
        directory = await self.directory()
        try:
            return await self._reader.request(method, directory.blob_url(self.name), headers, use)
        except _SignatureRefused:
            pass
        newer = await self.renewed(directory)
        if newer != directory:
            self.tries += 1
            try:
                return await self._reader.request(method, newer.blob_url(self.name), headers, use)
            except _SignatureRefused:
                pass
        raise RequestRefusedError("source_sas_expired", http_status=403)

    async def _persistently(self, ask: Callable[[], Awaitable[R]]) -> R:
        async def once() -> R:
            try:
                return await ask()
            except _Broken as broken:
                code = broken.code
            raise UnavailableError(code)

        return await self._pressure.persist(once, self._repeated)

    def _repeated(self) -> None:
        self.tries += 1

    def _check_range(self, answer: "ClientResponse", start: int, length: int) -> None:
        """That the answer is the range asked for, of the blob pinned: else some box between has made up its own."""
        expected = (206, f"bytes {start}-{start + length - 1}/{self.facts.size}", str(length))
        if (
            answer.status,
            *(answer.headers.get(name) for name in ("Content-Range", "Content-Length")),
        ) != expected:
            raise PermanentError("source_short", http_status=answer.status)
        if answer.headers.get("ETag", self.facts.etag) != self.facts.etag:
            raise PermanentError("source_changed", http_status=answer.status)


async def _facts(answer: "ClientResponse") -> SourceFacts:
    length = answer.headers.get("Content-Length") or ""
    if not length.isdigit():
        raise _Broken
    return _believed(answer.headers.get("ETag"), int(length), answer.headers.get("Content-MD5"))


def _facts_of_range(answer: "ClientResponse", most: int) -> SourceFacts:
    """Of an answer to the first `most` bytes: all there are of a small blob. Its MD5 is of the whole blob in any case."""
    said = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range") or "")
    if answer.status != 206 or said is None:
        raise PermanentError("source_short", http_status=answer.status)
    last, size = int(said[1]), int(said[2])
    if last != min(most, size) - 1 or answer.headers.get("Content-Length") != str(last + 1):
        raise PermanentError("source_short", http_status=answer.status)
    md5 = answer.headers.get("x-ms-blob-content-md5") or (
        answer.headers.get("Content-MD5") if size <= most else None
    )
    return _believed(answer.headers.get("ETag"), size, md5)


def _believed(etag: str | None, size: int, md5: str | None) -> SourceFacts:
    if not etag:
        raise _Broken
    if size > MOST_BYTES:
        raise InvalidDataError(
            "copy_failed", "the source names more bytes than a blob of blocks of ours can have"
        )
    return SourceFacts(etag, size, md5 if md5 and _is_md5(md5) else None)


def _is_md5(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
