"""The storage faults that the tests inject over HTTP, and the expected result of each."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.integration.transfer.azurite_transfer import FOLDER, gzip_members
from tests.integration.transfer.in_memory_transfer import BLOCK_BYTES, NAME, SMALL, InMemoryTransfer
from tests.support.fake_storage_account import (
    CLOSE_CONNECTION,
    StorageRequest,
    copy_source_error,
    storage_error,
)
from tests.support.raw_http_server import build_response

LARGE = gzip_members(3 * BLOCK_BYTES)
PATH = f"lake/{FOLDER}/{NAME}"
WHOLE, BLOCKS, COPY = "PUT from URL", "PUT block from URL", "COPY"
REDIRECT = build_response(302, Location="http://127.0.0.1:9/elsewhere")


@dataclass(frozen=True)
class Fault:
    """A fault during the transfer of one blob.

    `category` is a category or the number of a known defect ("R1" to "R20"). If `code` is None, the
    blob is landed with `copy_method`. If `keeps_existing` is true, the existing blob at the
    destination is never replaced.
    """

    category: str
    description: str
    inject: Callable[[InMemoryTransfer], None]
    code: str | None = None
    copy_method: str = "stream"
    mode: str = "stream"
    proof: str = "content"
    content: bytes = field(default=SMALL, repr=False)
    keeps_existing: bool = False


def respond(
    side: str, kind: str, response: bytes, times: int = 10**9
) -> Callable[[InMemoryTransfer], None]:
    """Return the same response to the first `times` requests of the given kind."""

    def inject(transfer: InMemoryTransfer) -> None:
        account: Any = getattr(transfer, side)
        account.faults.append(
            lambda request: response if request.kind == kind and request.nth <= times else b""
        )

    return inject


def reject_as_unsupported(*kinds: str) -> Callable[[InMemoryTransfer], None]:
    return combine(
        *(respond("landing", kind, storage_error(501, "APINotImplemented")) for kind in kinds)
    )


def combine(*parts: Callable[[InMemoryTransfer], None]) -> Callable[[InMemoryTransfer], None]:
    def inject(transfer: InMemoryTransfer) -> None:
        for part in parts:
            part(transfer)

    return inject


def on_request(
    side: str, kind: str, nth: int, act: Callable[[InMemoryTransfer], Any], response: bytes = b""
) -> Callable[[InMemoryTransfer], None]:
    """Call `act` when the nth request of the given kind arrives; return a nonempty `response`."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: StorageRequest) -> bytes:
            if (request.kind, request.nth) != (kind, nth):
                return b""
            act(transfer)
            return response

        account: Any = getattr(transfer, side)
        account.faults.append(rule)

    return inject


def expire_token(transfer: InMemoryTransfer) -> None:
    transfer.source.accepted_signature = "new"


def offer_two_tokens(transfer: InMemoryTransfer) -> None:
    transfer.signatures = ["old", "new"]


def require_first_token(transfer: InMemoryTransfer) -> None:
    transfer.signatures, transfer.source.accepted_signature = ["old", "new"], "old"


def overwrite_source(transfer: InMemoryTransfer) -> None:
    transfer.put_source(content=transfer.source.blobs[f"exports/root/{NAME}"].content[:-1] + b"x")


def put_foreign_blob(transfer: InMemoryTransfer) -> None:
    transfer.landing.put(PATH, b"foreign content")


def put_blob_of_other_invoice(transfer: InMemoryTransfer) -> None:
    transfer.landing.put(PATH.replace("G016907411", "G059916882"), b"another invoice's")


def put_same_blob(transfer: InMemoryTransfer) -> None:
    """Write the same blob as another run would write."""
    transfer.landing.put(
        PATH, transfer.source.blobs[f"exports/root/{NAME}"].content, Content_Type="application/gzip"
    ).metadata = {"sourceetag": "%220x0001%22", "manifestetag": "etag", "runid": "other-run"}


def lose_response(kind: str) -> Callable[[InMemoryTransfer], None]:
    """Execute the first write but do not send its response."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: StorageRequest) -> bytes:
            if (request.kind, request.nth) != (kind, 1):
                return b""
            transfer.landing.serve(request)
            return CLOSE_CONNECTION

        transfer.landing.faults.append(rule)

    return inject


def leave_copy_pending(transfer: InMemoryTransfer) -> None:
    def after(request: StorageRequest) -> None:
        if request.kind == COPY:
            transfer.landing.blobs[PATH].properties |= {
                "x-ms-copy-status": "pending",
                "x-ms-copy-id": "1",
            }

    transfer.landing.after_request = after


def truncate_read(size: int) -> Callable[[InMemoryTransfer], None]:
    """Truncate the first response from the source; its Content-Length is the full length."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: StorageRequest) -> bytes:
            return (
                transfer.source.serve(request)[:-size]
                if request.kind == "GET" and request.nth == 1
                else b""
            )

        transfer.source.faults.append(rule)

    return inject


def flip_bit(kind: str, times: int) -> Callable[[InMemoryTransfer], None]:
    """Flip one bit in the body of the first `times` reads."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: StorageRequest) -> bytes:
            if request.kind != kind or request.nth > times:
                return b""
            response = bytearray(transfer.source.serve(request))
            response[-200] ^= 1
            return bytes(response)

        transfer.source.faults.append(rule)

    return inject


def set_content_encoding(transfer: InMemoryTransfer) -> None:
    transfer.source.blobs[f"exports/root/{NAME}"].properties["Content-Encoding"] = "gzip"


def ignore_range(transfer: InMemoryTransfer) -> None:
    """Ignore the requested range and return no Content-Range, as some proxies do."""
    content = transfer.source.blobs[f"exports/root/{NAME}"].content
    transfer.source.faults.append(
        lambda request: (
            build_response(206, content, ETag='"0x0001"') if request.kind == "GET" else b""
        )
    )


BUSY, LONG = (
    storage_error(503, "ServerBusy", Retry_After=3),
    storage_error(503, "ServerBusy", Retry_After=300),
)
FAULTS = [
    Fault(
        "change",
        "the SAS token expires between two blocks that storage reads",
        combine(
            require_first_token,
            reject_as_unsupported(WHOLE),
            on_request("landing", BLOCKS, 3, expire_token),
        ),
        None,
        "put_block_from_url",
        "server",
        content=LARGE,
    ),
    Fault(
        "change",
        "the SAS token expires between two range reads",
        combine(require_first_token, on_request("source", "GET", 2, expire_token)),
        None,
        content=LARGE,
    ),
    Fault(
        "change",
        "the SAS token expires before storage starts the copy",
        combine(require_first_token, on_request("landing", WHOLE, 1, expire_token)),
        None,
        "put_blob_from_url",
        "server",
    ),
    Fault(
        "change",
        "the SAS token expires, and renewed tokens are rejected",
        combine(
            require_first_token,
            lambda transfer: setattr(transfer.source, "accepted_signature", "never"),
        ),
        "source_sas_expired",
    ),
    Fault(
        "change",
        "the source is overwritten between two blocks that storage reads",
        combine(reject_as_unsupported(WHOLE), on_request("landing", BLOCKS, 3, overwrite_source)),
        "source_changed",
        mode="server",
        content=LARGE,
    ),
    Fault(
        "change",
        "the source is overwritten between two range reads",
        on_request("source", "GET", 3, overwrite_source),
        "source_changed",
        content=LARGE,
    ),
    Fault(
        "change",
        "the source is overwritten before storage copies it",
        on_request("landing", WHOLE, 1, overwrite_source),
        "source_changed",
        mode="server",
    ),
    Fault(
        "change", "the destination already contains the same blob", put_same_blob, None, "in_place"
    ),
    Fault(
        "change",
        "the destination already contains a different blob",
        put_foreign_blob,
        "foreign_blob",
        keeps_existing=True,
    ),
    Fault(
        "change",
        "the destination already contains a different blob; server-side copy",
        put_foreign_blob,
        "foreign_blob",
        mode="server",
        keeps_existing=True,
    ),
    Fault(
        "error",
        "400 InvalidHeaderValue: the account does not support the API version",
        respond("landing", "PUT", storage_error(400, "InvalidHeaderValue")),
        "copy_failed",
    ),
    Fault(
        "error",
        "400 Md5Mismatch, once: the content was damaged in transit",
        respond("landing", "PUT", storage_error(400, "Md5Mismatch"), 1),
    ),
    Fault(
        "error",
        "400 Md5Mismatch, for every request",
        respond("landing", "PUT", storage_error(400, "Md5Mismatch")),
        "destination_unreachable",
    ),
    Fault(
        "error",
        "400 Md5Mismatch: the content that storage read does not match the MD5 hash of the source",
        respond("landing", WHOLE, storage_error(400, "Md5Mismatch")),
        "proof_md5",
        mode="server",
    ),
    Fault(
        "error",
        "403 AuthorizationFailure from the source: the emulator's response to an expired SAS token",
        combine(
            offer_two_tokens,
            respond("source", "GET", storage_error(403, "AuthorizationFailure"), 1),
        ),
    ),
    Fault(
        "error",
        "403 AuthenticationFailed from the source",
        combine(
            offer_two_tokens,
            respond("source", "GET", storage_error(403, "AuthenticationFailed"), 1),
        ),
    ),
    Fault(
        "error",
        "403 AuthorizationPermissionMismatch: the SAS token has no read permission",
        respond("source", "GET", storage_error(403, "AuthorizationPermissionMismatch")),
        "source_forbidden",
    ),
    Fault(
        "error",
        "403 CannotVerifyCopySource: a network rule between the accounts",
        respond("landing", WHOLE, copy_source_error(403, "AuthorizationFailure")),
        mode="server",
    ),
    Fault(
        "error",
        "403 AuthorizationFailure: the permitted scope for copy operations excludes the source",
        respond("landing", WHOLE, storage_error(403, "AuthorizationFailure")),
        mode="server",
    ),
    Fault(
        "error",
        "403 from the landing account for every write",
        combine(
            respond("landing", WHOLE, storage_error(403, "AuthorizationFailure")),
            respond("landing", "PUT", storage_error(403, "AuthorizationFailure")),
        ),
        "destination_forbidden",
        mode="server",
    ),
    Fault(
        "error",
        "404 CannotVerifyCopySource, but the source exists",
        respond("landing", WHOLE, storage_error(404, "CannotVerifyCopySource")),
        mode="server",
    ),
    Fault(
        "error",
        "404 CannotVerifyCopySource, and the source does not exist",
        on_request(
            "landing",
            WHOLE,
            1,
            lambda transfer: transfer.source.blobs.clear(),
            storage_error(404, "CannotVerifyCopySource"),
        ),
        "source_missing",
        mode="server",
    ),
    Fault(
        "error",
        "404 ContainerNotFound from the landing account",
        respond("landing", "PUT", storage_error(404, "ContainerNotFound")),
        "destination_missing",
    ),
    Fault(
        "error",
        "409 BlobAlreadyExists: another run has written the blob",
        on_request("landing", "PUT", 1, put_same_blob),
        None,
        "in_place",
    ),
    Fault(
        "error",
        "409 MemoryExtentStoreAtSizeLimit: the storage of the emulator is full",
        respond("landing", "PUT", storage_error(409, "MemoryExtentStoreAtSizeLimit")),
        "destination_full",
    ),
    Fault(
        "error",
        "409 BlobImmutableDueToPolicy",
        respond("landing", "PUT", storage_error(409, "BlobImmutableDueToPolicy")),
        "destination_full",
    ),
    Fault(
        "error",
        "409 LeaseAlreadyPresent",
        respond("landing", "PUT", storage_error(409, "LeaseAlreadyPresent")),
        "destination_forbidden",
    ),
    Fault(
        "error",
        "412 LeaseIdMissing",
        respond("landing", "PUT", storage_error(412, "LeaseIdMissing")),
        "destination_forbidden",
    ),
    Fault(
        "error",
        "412 SourceConditionNotMet",
        respond("landing", WHOLE, storage_error(412, "SourceConditionNotMet")),
        "source_changed",
        mode="server",
    ),
    Fault(
        "error",
        "412 ConditionNotMet for a copy: the emulator's response to a changed source",
        combine(
            reject_as_unsupported(WHOLE, BLOCKS),
            respond("landing", COPY, storage_error(412, "ConditionNotMet")),
        ),
        "source_changed",
        mode="server",
    ),
    Fault(
        "error",
        "412 ConditionNotMet for a read",
        respond("source", "GET", storage_error(412, "ConditionNotMet")),
        "source_changed",
    ),
    Fault(
        "error",
        "429 from the source, twice",
        respond("source", "GET", storage_error(429, None, Retry_After=2), 2),
    ),
    Fault(
        "error",
        "500 without an error code for Put Blob From URL",
        respond("landing", WHOLE, storage_error(500, None)),
        None,
        "put_block_from_url",
        "server",
    ),
    Fault(
        "error",
        "500 without an error code for Put Block From URL",
        combine(reject_as_unsupported(WHOLE), respond("landing", BLOCKS, storage_error(500, None))),
        None,
        "copy_blob_from_url",
        "server",
    ),
    Fault(
        "error",
        "500 without an error code for Copy Blob From URL",
        combine(
            reject_as_unsupported(WHOLE, BLOCKS), respond("landing", COPY, storage_error(500, None))
        ),
        mode="server",
    ),
    Fault(
        "error",
        "500 OperationTimedOut from the landing account, once",
        respond("landing", "PUT", storage_error(500, "OperationTimedOut"), 1),
    ),
    Fault(
        "error",
        "503 ServerBusy from the landing account, twice, with a Retry-After of 3 seconds",
        respond("landing", "PUT", BUSY, 2),
    ),
    Fault(
        "error",
        "503 ServerBusy from the landing account, with a Retry-After of 5 minutes",
        respond("landing", "PUT", LONG),
        "storage_busy",
    ),
    Fault(
        "error",
        "503 ServerBusy from the source, with a Retry-After of 5 minutes",
        respond("source", "GET", LONG),
        "storage_busy",
    ),
    Fault(
        "error",
        "503 ServerBusy from the source, for every request",
        respond("source", "GET", BUSY),
        "storage_busy",
    ),
    Fault(
        "error",
        "501 APINotImplemented for Put Blob From URL",
        reject_as_unsupported(WHOLE),
        None,
        "put_block_from_url",
        "server",
    ),
    Fault(
        "error",
        "501 APINotImplemented for all server-side copy methods",
        reject_as_unsupported(WHOLE, BLOCKS, COPY),
        mode="server",
    ),
    Fault(
        "error",
        "409 with x-ms-copy-source-error-code ServerBusy, twice",
        respond("landing", WHOLE, copy_source_error(503, "ServerBusy", 409), 2),
        None,
        "put_blob_from_url",
        "server",
    ),
    Fault(
        "lost response", "the response to a write is lost", lose_response("PUT"), None, "in_place"
    ),
    Fault(
        "lost response",
        "the response to Put Block List is lost",
        lose_response("PUT list"),
        None,
        "in_place",
        content=LARGE,
    ),
    Fault(
        "lost response",
        "the response to a server-side copy is lost",
        lose_response(WHOLE),
        None,
        "in_place",
        "server",
    ),
    Fault("connection", "the connection closes during a read", truncate_read(100)),
    Fault(
        "connection",
        "the connection closes during a read of a large blob",
        truncate_read(9_000),
        content=LARGE,
    ),
    Fault(
        "connection",
        "the source returns the whole blob instead of the range",
        ignore_range,
        "source_short",
    ),
    Fault(
        "redirect",
        "the source redirects to another host",
        respond("source", "GET", REDIRECT),
        "source_redirected",
    ),
    Fault(
        "redirect",
        "the landing account redirects to another host",
        respond("landing", "PUT", REDIRECT),
        "destination_unreachable",
    ),
    Fault(
        "corruption",
        "one bit of a read is flipped; content proof",
        flip_bit("GET", 1),
        "proof_gzip",
    ),
    Fault(
        "corruption",
        "one bit of a read is flipped; transfer proof",
        flip_bit("GET", 1),
        "proof_md5",
        proof="transfer",
    ),
    Fault("R7", "a blob of another invoice has the same name", put_blob_of_other_invoice),
    Fault(
        "R14",
        "several gzip members; the last one is truncated",
        lambda transfer: None,
        "proof_gzip",
        content=gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n')[:-3],
    ),
    Fault(
        "R14",
        "several gzip members",
        lambda transfer: None,
        content=gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n'),
    ),
    Fault(
        "R15",
        "Content-Encoding gzip: a client that decompresses would land different content",
        set_content_encoding,
    ),
    Fault(
        "R15",
        "Content-Encoding gzip, copied with the blob properties",
        combine(reject_as_unsupported(WHOLE, BLOCKS), set_content_encoding),
        None,
        "copy_blob_from_url",
        "server",
    ),
    Fault(
        "R16",
        "storage starts the copy but does not complete it",
        combine(reject_as_unsupported(WHOLE, BLOCKS), leave_copy_pending),
        "proof_size",
        mode="server",
    ),
    Fault("R18", "an empty blob", lambda transfer: None, content=b""),
    Fault("R18", "a gzip file without content", lambda transfer: None, content=gzip.compress(b"")),
]
