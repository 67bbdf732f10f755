"""A storage account in memory that answers as Azure's documents say, for what the emulator does not have.

It has Put Blob From URL and Copy Blob From URL with the headers that name the source's error, immutability and legal
holds, and signatures that end when a test says so. Every answer may be replaced: `account.faults.append(rule)`.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.raw_http_server import Answer, Asked, Double, answer


@dataclass
class Stored:
    content: bytes
    etag: str
    properties: dict[str, str] = field(default_factory=dict)  # headers as they are answered
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """`kind`: HEAD, GET, LIST, DELETE, CONTAINER, PUT, PUT block, PUT list, PUT properties, PUT from URL,
    PUT block from URL, COPY. `nth` counts the requests of this kind from 1.
    """

    kind: str
    path: str
    nth: int
    asked: Asked


Rule = Callable[
    [Request], Answer
]  # b"" here means: as if there were no rule; see `nothing` for a dropped connection
NOTHING = b"-"  # the connection is closed without an answer


class Account:
    """`async with Account() as account`. `log` holds every request; `sent`, `received`: bytes of blobs over the wire."""

    def __init__(self, name: str = "landing") -> None:
        self.name, self.blobs, self.blocks = (
            name,
            dict[str, Stored](),
            dict[str, dict[str, bytes]](),
        )
        self.faults: list[Rule] = []
        self.after: Callable[[Request], None] | None = None
        self.log: list[Request] = []
        self.sent = self.received = self.fetched = 0
        self.made: Counter[str] = Counter()  # how often a blob came to be, by path
        self.signature: str | None = None  # the only `sig` that may read; None: any may
        self.held: set[str] = set()  # paths under a policy or a legal hold
        self.reads_from: Account | None = None
        self._etags = 0
        self._double = Double(self._respond)

    async def __aenter__(self) -> "Account":
        await self._double.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._double.__aexit__(None, None, None)

    @property
    def origin(self) -> str:
        return self._double.origin

    @property
    def connection_string(self) -> str:
        return f"AccountName={self.name};AccountKey=a2V5;BlobEndpoint={self.origin}/{self.name};"

    def put(self, path: str, content: bytes, **properties: str) -> Stored:
        self._etags += 1
        stored = Stored(
            content,
            f'"0x{self._etags:04X}"',
            {name.replace("_", "-"): one for name, one in properties.items()},
        )
        self.blobs[path] = stored
        return stored

    def kinds(self) -> list[str]:
        return [one.kind for one in self.log]

    def _respond(self, asked: Asked) -> Answer:
        path = unquote(urlsplit(asked.target).path).removeprefix(f"/{self.name}/")
        kind = kind_of(asked)
        request = Request(kind, path, 1 + self.kinds().count(kind), asked)
        self.log.append(request)
        for rule in self.faults:
            said = rule(request)
            if said == NOTHING:
                return b""
            if said:
                return said
        reply = self.serve(request)
        if self.after is not None:
            self.after(request)
        return reply

    def serve(self, request: Request) -> bytes:
        if refused := self._refused(request):
            return refused
        match request.kind:
            case "CONTAINER":
                return answer(200, ETag='"0x1"', Last_Modified=formatdate(0, usegmt=True))
            case "HEAD" | "GET":
                return self._read(request)
            case "LIST":
                return self._list(request)
            case "DELETE":
                del self.blobs[request.path]
                return answer(202)
            case "PUT block":
                return self._stage(request, request.asked.body)
            case "PUT block from URL" | "PUT from URL" | "COPY":
                return self._fetch(request)
            case "PUT list":
                ids = re.findall(r"<Latest>(.*?)</Latest>", request.asked.body.decode())
                staged = self.blocks.pop(request.path, {})
                if any(one not in staged for one in ids):
                    return error(400, "InvalidBlockList")
                return self._store(request, b"".join(staged[one] for one in ids))
            case "PUT properties":
                stored = self.blobs[request.path]
                stored.properties, stored.etag = own_properties(request.asked), self._next()
                return answer(200, ETag=stored.etag)
        self.received += len(request.asked.body)
        if (md5 := request.asked.headers.get("content-md5")) and md5 != md5_of(request.asked.body):
            return error(400, "Md5Mismatch")
        return self._store(request, request.asked.body)

    def _refused(self, request: Request) -> bytes | None:
        headers, there = request.asked.headers, self.blobs.get(request.path)
        signature = parse_qs(urlsplit(request.asked.target).query).get("sig", [None])[0]
        if self.signature is not None and signature != self.signature:
            return error(403, "AuthenticationFailed")
        if request.kind in ("HEAD", "GET", "DELETE", "PUT properties") and there is None:
            return error(404, "BlobNotFound")
        if there is not None and headers.get("if-match", there.etag) != there.etag:
            return error(412, "ConditionNotMet")
        if there is not None and headers.get("if-none-match") == "*":
            return error(409, "BlobAlreadyExists")
        if request.path in self.held and request.kind in ("DELETE", "PUT", "PUT list"):
            return error(409, "BlobImmutableDueToPolicy")
        return None

    def _read(self, request: Request) -> bytes:
        stored = self.blobs[request.path]
        common = {
            "ETag": stored.etag,
            "Date": formatdate(usegmt=True),
            "Last-Modified": formatdate(0, usegmt=True),
            "x-ms-blob-type": "BlockBlob",
            **stored.properties,
            **{f"x-ms-meta-{name}": value for name, value in stored.metadata.items()},
        }
        if request.kind == "HEAD":
            return answer(200, **{"Content-Length": len(stored.content), **common})
        span = request.asked.headers.get("range") or request.asked.headers.get("x-ms-range")
        if span is None:
            self.sent += len(stored.content)
            return answer(200, stored.content, **common)
        first, last = (int(one) for one in span.removeprefix("bytes=").split("-"))
        part = stored.content[first : last + 1]
        if not part:
            return error(416, "InvalidRange")
        self.sent += len(part)
        if md5 := common.pop("Content-MD5", None):
            common["x-ms-blob-content-md5"] = md5
        return answer(
            206,
            part,
            **{
                **common,
                "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(stored.content)}",
            },
        )

    def _list(self, request: Request) -> bytes:
        container, query = request.path, parse_qs(urlsplit(request.asked.target).query)
        start = f"{container}/{query.get('prefix', [''])[0]}"
        entries = "".join(
            f"<Blob><Name>{escape(path.removeprefix(container + '/'))}</Name><Properties><Etag>{stored.etag}</Etag>"
            f"<Content-Length>{len(stored.content)}</Content-Length><BlobType>BlockBlob</BlobType></Properties><Metadata>"
            + "".join(
                f"<{name}>{escape(value)}</{name}>" for name, value in stored.metadata.items()
            )
            + "</Metadata></Blob>"
            for path, stored in sorted(self.blobs.items())
            if path.startswith(start)
        )
        body = f'<?xml version="1.0"?><EnumerationResults><Blobs>{entries}</Blobs><NextMarker/></EnumerationResults>'
        return answer(200, body.encode(), Content_Type="application/xml")

    def _fetch(self, request: Request) -> bytes:
        """As the documents say: the status is the source's, under one code, with the source's own in two headers."""
        headers, source = request.asked.headers, self.reads_from
        url = urlsplit(headers["x-ms-copy-source"])
        assert source is not None, "no account to read from"
        if (
            source.signature is not None
            and parse_qs(url.query).get("sig", [None])[0] != source.signature
        ):
            return of_source(403, "AuthenticationFailed")
        stored = source.blobs.get(unquote(url.path).removeprefix(f"/{source.name}/"))
        if stored is None:
            return of_source(404, "BlobNotFound")
        if headers.get("x-ms-source-if-match", stored.etag) != stored.etag:
            return error(412, "SourceConditionNotMet", x_ms_copy_source_status_code=412)
        content = stored.content
        if span := headers.get("x-ms-source-range"):
            first, last = (int(one) for one in span.removeprefix("bytes=").split("-"))
            content = content[first : last + 1]
        if (md5 := headers.get("x-ms-source-content-md5")) and md5 != md5_of(content):
            return error(400, "Md5Mismatch")
        self.fetched += len(content)
        if request.kind == "PUT block from URL":
            return self._stage(request, content)
        reply = self._store(request, content)
        if request.kind == "COPY":
            self.blobs[request.path].properties = dict(stored.properties)
            return reply.replace(b"201 ", b"202 ").replace(
                b"\r\n\r\n", b"\r\nx-ms-copy-status: success\r\n\r\n"
            )
        return reply

    def _stage(self, request: Request, content: bytes) -> bytes:
        if request.kind == "PUT block":
            self.received += len(content)
            if (md5 := request.asked.headers.get("content-md5")) and md5 != md5_of(content):
                return error(400, "Md5Mismatch")
        query = parse_qs(urlsplit(request.asked.target).query)
        self.blocks.setdefault(request.path, {})[query["blockid"][0]] = content
        return answer(201)

    def _store(self, request: Request, content: bytes) -> bytes:
        headers = request.asked.headers
        stored = self.put(request.path, content)
        self.made[request.path] += 1
        stored.properties = own_properties(request.asked)
        stored.metadata = {
            name.removeprefix("x-ms-meta-"): one
            for name, one in headers.items()
            if name.startswith("x-ms-meta-")
        }
        self.blocks.pop(request.path, None)
        return answer(201, ETag=stored.etag, Last_Modified=formatdate(0, usegmt=True))

    def _next(self) -> str:
        self._etags += 1
        return f'"0x{self._etags:04X}"'


def kind_of(asked: Asked) -> str:
    query, copies = parse_qs(urlsplit(asked.target).query), "x-ms-copy-source" in asked.headers
    match asked.method, query.get("comp", [""])[0]:
        case "PUT", "block":
            return "PUT block from URL" if copies else "PUT block"
        case "PUT", "blocklist":
            return "PUT list"
        case "PUT", "properties":
            return "PUT properties"
        case "PUT", _ if copies:
            return "COPY" if asked.headers.get("x-ms-blob-type") is None else "PUT from URL"
        case "GET", "list":
            return "LIST"
        case _ if query.get("restype") == ["container"]:
            return "CONTAINER"
    return asked.method


def own_properties(asked: Asked) -> dict[str, str]:
    names = {"type": "Content-Type", "encoding": "Content-Encoding", "md5": "Content-MD5"}
    return {
        header: asked.headers[f"x-ms-blob-content-{name}"]
        for name, header in names.items()
        if f"x-ms-blob-content-{name}" in asked.headers
    }


def error(status: int, code: str | None, **headers: object) -> bytes:
    """Storage's error; the code in its header, as for all answers, and no body: the SDK reads the header."""
    return answer(
        status,
        **({"x-ms-error-code": code} if code else {}),
        **{"x-ms-request-id": "0f1c-aa", **headers},
    )


def of_source(status: int, code: str, said: int | None = None) -> bytes:
    """The landing account could not read the source, which answered `status` and `code`."""
    return error(
        said or status,
        "CannotVerifyCopySource",
        **{"x-ms-copy-source-status-code": status, "x-ms-copy-source-error-code": code},
    )


def md5_of(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()
