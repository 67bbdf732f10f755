"""A storage account in memory, for behaviour that the emulator does not have.

It implements Put Blob From URL and Copy Blob From URL with the headers that report a source error,
immutability policies and legal holds, and signatures that expire when a test changes
`accepted_signature`. Tests can replace any response: `account.faults.append(rule)`.
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

from tests.support.raw_http_server import RawHttpServer, RawRequest, RawResponse, build_response


@dataclass
class StoredBlob:
    """A blob in the account; `properties` contains the response headers."""

    content: bytes
    etag: str
    properties: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StorageRequest:
    """A request to the account.

    Attributes:
        kind: HEAD, GET, LIST, DELETE, CONTAINER, PUT, PUT block, PUT list, PUT properties,
            PUT from URL, PUT block from URL, or COPY.
        path: The path under the account, including the container.
        nth: The number of requests of this kind up to this one.
        http: The request as received.
    """

    kind: str
    path: str
    nth: int
    http: RawRequest


# Returns the response, or b"" if the rule does not apply.
FaultRule = Callable[[StorageRequest], RawResponse]
CLOSE_CONNECTION = b"-"  # returned by a rule: close the connection without a response


class FakeStorageAccount:
    """A running account: `async with FakeStorageAccount() as account`.

    Attributes:
        requests: Each received request, in order.
        bytes_sent: Bytes of blob content in responses to reads.
        bytes_received: Bytes of blob content in write requests.
        bytes_fetched: Bytes that the account copied from `copy_source`.
        write_counts: The number of times that each blob was written, by path.
        accepted_signature: The only valid `sig` parameter, or None to accept any.
        immutable_paths: Paths with an immutability policy or a legal hold.
        copy_source: The account from which copies by URL read.
        after_request: Called after each request.
        hierarchical: Whether the account has a hierarchical namespace, with directories.
    """

    def __init__(self, name: str = "landing") -> None:
        self.name = name
        self.blobs = dict[str, StoredBlob]()
        self.blocks = dict[str, dict[str, bytes]]()
        self.faults: list[FaultRule] = []
        self.after_request: Callable[[StorageRequest], None] | None = None
        self.requests: list[StorageRequest] = []
        self.bytes_sent = self.bytes_received = self.bytes_fetched = 0
        self.write_counts: Counter[str] = Counter()
        self.accepted_signature: str | None = None
        self.immutable_paths: set[str] = set()
        self.copy_source: FakeStorageAccount | None = None
        self.hierarchical = False
        self._etags = 0
        self._server = RawHttpServer(self._respond)

    async def __aenter__(self) -> "FakeStorageAccount":
        await self._server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.__aexit__(None, None, None)

    @property
    def origin(self) -> str:
        return self._server.origin

    @property
    def connection_string(self) -> str:
        return f"AccountName={self.name};AccountKey=a2V5;BlobEndpoint={self.origin}/{self.name};"

    def put(self, path: str, content: bytes, **properties: str) -> StoredBlob:
        self._etags += 1
        stored = StoredBlob(
            content,
            f'"0x{self._etags:04X}"',
            {name.replace("_", "-"): value for name, value in properties.items()},
        )
        self.blobs[path] = stored
        if self.hierarchical:
            container, *folders = path.split("/")[:-1]
            for depth in range(1, len(folders) + 1):
                directory = StoredBlob(b"", self._next(), metadata={"hdi_isfolder": "true"})
                self.blobs.setdefault("/".join([container, *folders[:depth]]), directory)
        return stored

    def request_kinds(self) -> list[str]:
        return [request.kind for request in self.requests]

    def _respond(self, http: RawRequest) -> RawResponse:
        path = unquote(urlsplit(http.target).path).removeprefix(f"/{self.name}/")
        kind = request_kind(http)
        request = StorageRequest(kind, path, 1 + self.request_kinds().count(kind), http)
        self.requests.append(request)
        for rule in self.faults:
            fault = rule(request)
            if fault == CLOSE_CONNECTION:
                return b""
            if fault:
                return fault
        response = self.serve(request)
        if self.after_request is not None:
            self.after_request(request)
        return response

    def serve(self, request: StorageRequest) -> bytes:
        """Return the response of Azure Storage, without the rules in `faults`."""
        if rejection := self._check(request):
            return rejection
        match request.kind:
            case "CONTAINER":
                return build_response(200, ETag='"0x1"', Last_Modified=formatdate(0, usegmt=True))
            case "HEAD" | "GET":
                return self._read(request)
            case "LIST":
                return self._list(request)
            case "DELETE":
                del self.blobs[request.path]
                return build_response(202)
            case "PUT block":
                return self._stage(request, request.http.body)
            case "PUT block from URL" | "PUT from URL" | "COPY":
                return self._fetch(request)
            case "PUT list":
                ids = re.findall(r"<Latest>(.*?)</Latest>", request.http.body.decode())
                staged = self.blocks.pop(request.path, {})
                if any(block_id not in staged for block_id in ids):
                    return storage_error(400, "InvalidBlockList")
                return self._store(request, b"".join(staged[block_id] for block_id in ids))
            case "PUT properties":
                stored = self.blobs[request.path]
                stored.properties, stored.etag = requested_properties(request.http), self._next()
                return build_response(200, ETag=stored.etag)
        self.bytes_received += len(request.http.body)
        if (md5 := request.http.headers.get("content-md5")) and md5 != base64_md5(
            request.http.body
        ):
            return storage_error(400, "Md5Mismatch")
        return self._store(request, request.http.body)

    def _check(self, request: StorageRequest) -> bytes | None:
        headers, stored = request.http.headers, self.blobs.get(request.path)
        signature = parse_qs(urlsplit(request.http.target).query).get("sig", [None])[0]
        if self.accepted_signature is not None and signature != self.accepted_signature:
            return storage_error(403, "AuthenticationFailed")
        if request.kind in ("HEAD", "GET", "DELETE", "PUT properties") and stored is None:
            return storage_error(404, "BlobNotFound")
        if stored is not None and headers.get("if-match", stored.etag) != stored.etag:
            return storage_error(412, "ConditionNotMet")
        if stored is not None and headers.get("if-none-match") == "*":
            return storage_error(409, "BlobAlreadyExists")
        if request.path in self.immutable_paths and request.kind in ("DELETE", "PUT", "PUT list"):
            return storage_error(409, "BlobImmutableDueToPolicy")
        if self.hierarchical and stored is not None and request.kind == "DELETE":
            return self._check_directory(request, stored)
        return None

    def _check_directory(self, request: StorageRequest, stored: StoredBlob) -> bytes | None:
        """Return an error if a directory cannot be deleted, with the codes of the blob endpoint.

        Sources: the issues [adlfs 454](https://github.com/fsspec/adlfs/pull/454) and
        [blobfuse 1068](https://github.com/Azure/azure-storage-fuse/issues/1068).
        """
        if stored.metadata.get("hdi_isfolder") != "true":
            return None
        if "x-ms-delete-snapshots" in request.http.headers:
            return storage_error(400, "OperationNotSupportedOnDirectory")
        if any(path.startswith(f"{request.path}/") for path in self.blobs):
            return storage_error(409, "DirectoryIsNotEmpty")
        return None

    def _read(self, request: StorageRequest) -> bytes:
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
            return build_response(200, **{"Content-Length": len(stored.content), **common})
        span = request.http.headers.get("range") or request.http.headers.get("x-ms-range")
        if span is None:
            self.bytes_sent += len(stored.content)
            return build_response(200, stored.content, **common)
        first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
        part = stored.content[first : last + 1]
        if not part:
            return storage_error(416, "InvalidRange")
        self.bytes_sent += len(part)
        if md5 := common.pop("Content-MD5", None):
            common["x-ms-blob-content-md5"] = md5
        return build_response(
            206,
            part,
            **{
                **common,
                "Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(stored.content)}",
            },
        )

    def _list(self, request: StorageRequest) -> bytes:
        container, query = request.path, parse_qs(urlsplit(request.http.target).query)
        start = f"{container}/{query.get('prefix', [''])[0]}"
        entries = "".join(
            f"<Blob><Name>{escape(path.removeprefix(container + '/'))}</Name>"
            f"<Properties><Etag>{stored.etag}</Etag>"
            f"<Content-Length>{len(stored.content)}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties><Metadata>"
            + "".join(
                f"<{name}>{escape(value)}</{name}>" for name, value in stored.metadata.items()
            )
            + "</Metadata></Blob>"
            for path, stored in sorted(self.blobs.items())
            if path.startswith(start)
        )
        body = (
            '<?xml version="1.0"?><EnumerationResults>'
            f"<Blobs>{entries}</Blobs><NextMarker/></EnumerationResults>"
        )
        return build_response(200, body.encode(), Content_Type="application/xml")

    def _fetch(self, request: StorageRequest) -> bytes:
        """Copy from `copy_source`.

        If the source returns an error, Azure returns the status of the source with the code
        CannotVerifyCopySource, and the status and code of the source in two headers.
        """
        headers, source = request.http.headers, self.copy_source
        url = urlsplit(headers["x-ms-copy-source"])
        assert source is not None, "copy_source is not set"
        if (
            source.accepted_signature is not None
            and parse_qs(url.query).get("sig", [None])[0] != source.accepted_signature
        ):
            return copy_source_error(403, "AuthenticationFailed")
        stored = source.blobs.get(unquote(url.path).removeprefix(f"/{source.name}/"))
        if stored is None:
            return copy_source_error(404, "BlobNotFound")
        if headers.get("x-ms-source-if-match", stored.etag) != stored.etag:
            return storage_error(412, "SourceConditionNotMet", x_ms_copy_source_status_code=412)
        content = stored.content
        if span := headers.get("x-ms-source-range"):
            first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
            content = content[first : last + 1]
        if (md5 := headers.get("x-ms-source-content-md5")) and md5 != base64_md5(content):
            return storage_error(400, "Md5Mismatch")
        self.bytes_fetched += len(content)
        if request.kind == "PUT block from URL":
            return self._stage(request, content)
        response = self._store(request, content)
        if request.kind == "COPY":
            self.blobs[request.path].properties = dict(stored.properties)
            return response.replace(b"201 ", b"202 ").replace(
                b"\r\n\r\n", b"\r\nx-ms-copy-status: success\r\n\r\n"
            )
        return response

    def _stage(self, request: StorageRequest, content: bytes) -> bytes:
        if request.kind == "PUT block":
            self.bytes_received += len(content)
            if (md5 := request.http.headers.get("content-md5")) and md5 != base64_md5(content):
                return storage_error(400, "Md5Mismatch")
        query = parse_qs(urlsplit(request.http.target).query)
        self.blocks.setdefault(request.path, {})[query["blockid"][0]] = content
        return build_response(201)

    def _store(self, request: StorageRequest, content: bytes) -> bytes:
        headers = request.http.headers
        stored = self.put(request.path, content)
        self.write_counts[request.path] += 1
        stored.properties = requested_properties(request.http)
        stored.metadata = {
            name.removeprefix("x-ms-meta-"): value
            for name, value in headers.items()
            if name.startswith("x-ms-meta-")
        }
        self.blocks.pop(request.path, None)
        return build_response(201, ETag=stored.etag, Last_Modified=formatdate(0, usegmt=True))

    def _next(self) -> str:
        self._etags += 1
        return f'"0x{self._etags:04X}"'


def request_kind(http: RawRequest) -> str:
    query = parse_qs(urlsplit(http.target).query)
    copies = "x-ms-copy-source" in http.headers
    match http.method, query.get("comp", [""])[0]:
        case "PUT", "block":
            return "PUT block from URL" if copies else "PUT block"
        case "PUT", "blocklist":
            return "PUT list"
        case "PUT", "properties":
            return "PUT properties"
        case "PUT", _ if copies:
            return "COPY" if http.headers.get("x-ms-blob-type") is None else "PUT from URL"
        case "GET", "list":
            return "LIST"
        case _ if query.get("restype") == ["container"]:
            return "CONTAINER"
    return http.method


def requested_properties(http: RawRequest) -> dict[str, str]:
    names = {"type": "Content-Type", "encoding": "Content-Encoding", "md5": "Content-MD5"}
    return {
        header: http.headers[f"x-ms-blob-content-{name}"]
        for name, header in names.items()
        if f"x-ms-blob-content-{name}" in http.headers
    }


def storage_error(status: int, code: str | None, **headers: object) -> bytes:
    """Return an error response of Azure Storage, without a body: the SDK reads the header."""
    return build_response(
        status,
        **({"x-ms-error-code": code} if code else {}),
        **{"x-ms-request-id": "0f1c-aa", **headers},
    )


def copy_source_error(status: int, code: str, response_status: int | None = None) -> bytes:
    """Return the response of a copy whose source returned `status` and `code`.

    `response_status` is the status of the response, if it is not `status`.
    """
    return storage_error(
        response_status or status,
        "CannotVerifyCopySource",
        **{"x-ms-copy-source-status-code": status, "x-ms-copy-source-error-code": code},
    )


def base64_md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()
