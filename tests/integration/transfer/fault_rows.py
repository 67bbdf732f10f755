"""The faults of storage, each as it comes over the wire: what is injected, and how it has to end.

`where` names the row of blob-copy.md (4.3: change and expiry, 5: errors, 6: retries) or of the regression list (R).
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.integration.transfer.azurite_transfer import FOLDER, gzip_members
from tests.integration.transfer.in_memory_transfer import BLOCK, NAME, SMALL, InMemoryTransfer
from tests.support.fake_storage_account import NOTHING, Request, error, of_source
from tests.support.raw_http_server import answer

LARGE = gzip_members(3 * BLOCK)
PATH = f"lake/{FOLDER}/{NAME}"
WHOLE, BLOCKS, COPY = "PUT from URL", "PUT block from URL", "COPY"
REDIRECT = answer(302, Location="http://127.0.0.1:9/elsewhere")


@dataclass(frozen=True)
class Fault:
    """`code` None: it lands all the same, on `rung`. `kept`: what lies at the path stays as it is, for ever."""

    where: str
    what: str
    inject: Callable[[InMemoryTransfer], None]
    code: str | None = None
    copy_method: str = "stream"
    mode: str = "stream"
    proof: str = "content"
    content: bytes = field(default=SMALL, repr=False)
    kept: bool = False


def says(
    side: str, kind: str, said: bytes, times: int = 10**9
) -> Callable[[InMemoryTransfer], None]:
    """An account answers the first so many requests of a kind so."""

    def inject(transfer: InMemoryTransfer) -> None:
        account: Any = getattr(transfer, side)
        account.faults.append(
            lambda request: said if request.kind == kind and request.nth <= times else b""
        )

    return inject


def refuses(*kinds: str) -> Callable[[InMemoryTransfer], None]:
    return together(*(says("landing", kind, error(501, "APINotImplemented")) for kind in kinds))


def together(*parts: Callable[[InMemoryTransfer], None]) -> Callable[[InMemoryTransfer], None]:
    def inject(transfer: InMemoryTransfer) -> None:
        for part in parts:
            part(transfer)

    return inject


def when(
    side: str, kind: str, nth: int, act: Callable[[InMemoryTransfer], Any], said: bytes = b""
) -> Callable[[InMemoryTransfer], None]:
    """Something happens in the moment that a request comes in."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: Request) -> bytes:
            if (request.kind, request.nth) != (kind, nth):
                return b""
            act(transfer)
            return said

        account: Any = getattr(transfer, side)
        account.faults.append(rule)

    return inject


def expires(transfer: InMemoryTransfer) -> None:
    transfer.source.signature = "new"


def renewable(transfer: InMemoryTransfer) -> None:
    transfer.signatures = ["old", "new"]


def signed(transfer: InMemoryTransfer) -> None:
    transfer.signatures, transfer.source.signature = ["old", "new"], "old"


def replaced(transfer: InMemoryTransfer) -> None:
    transfer.put_source(content=transfer.source.blobs[f"exports/root/{NAME}"].content[:-1] + b"x")


def foreign(transfer: InMemoryTransfer) -> None:
    transfer.landing.put(PATH, b"somebody's own")


def other_invoice(transfer: InMemoryTransfer) -> None:
    transfer.landing.put(PATH.replace("G016907411", "G059916882"), b"another invoice's")


def already(transfer: InMemoryTransfer) -> None:
    """A rival has written the very blob in the meantime."""
    transfer.landing.put(
        PATH, transfer.source.blobs[f"exports/root/{NAME}"].content, Content_Type="application/gzip"
    ).metadata = {"sourceetag": "%220x0001%22", "manifestetag": "etag", "runid": "rival"}


def served_but_lost(kind: str) -> Callable[[InMemoryTransfer], None]:
    """The write takes effect; its answer does not arrive."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: Request) -> bytes:
            if (request.kind, request.nth) != (kind, 1):
                return b""
            transfer.landing.serve(request)
            return NOTHING

        transfer.landing.faults.append(rule)

    return inject


def begun(transfer: InMemoryTransfer) -> None:
    def after(request: Request) -> None:
        if request.kind == COPY:
            transfer.landing.blobs[PATH].properties |= {
                "x-ms-copy-status": "pending",
                "x-ms-copy-id": "1",
            }

    transfer.landing.after = after


def cut(size: int) -> Callable[[InMemoryTransfer], None]:
    """The source's answer ends early, with its full length named."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: Request) -> bytes:
            return (
                transfer.source.serve(request)[:-size]
                if request.kind == "GET" and request.nth == 1
                else b""
            )

        transfer.source.faults.append(rule)

    return inject


def damaged(kind: str, times: int) -> Callable[[InMemoryTransfer], None]:
    """A bit of the body of a read is another one."""

    def inject(transfer: InMemoryTransfer) -> None:
        def rule(request: Request) -> bytes:
            if request.kind != kind or request.nth > times:
                return b""
            said = bytearray(transfer.source.serve(request))
            said[-200] ^= 1
            return bytes(said)

        transfer.source.faults.append(rule)

    return inject


def encoded(transfer: InMemoryTransfer) -> None:
    transfer.source.blobs[f"exports/root/{NAME}"].properties["Content-Encoding"] = "gzip"


def not_range(transfer: InMemoryTransfer) -> None:
    """A box in between ignores the range and names none."""
    content = transfer.source.blobs[f"exports/root/{NAME}"].content
    transfer.source.faults.append(
        lambda request: answer(206, content, ETag='"0x0001"') if request.kind == "GET" else b""
    )


BUSY, LONG = error(503, "ServerBusy", Retry_After=3), error(503, "ServerBusy", Retry_After=300)
FAULTS = [
    Fault(
        "4.3",
        "the signature ends between two blocks that storage fetches",
        together(signed, refuses(WHOLE), when("landing", BLOCKS, 3, expires)),
        None,
        "put_block_from_url",
        "server",
        content=LARGE,
    ),
    Fault(
        "4.3",
        "the signature ends between two ranged reads",
        together(signed, when("source", "GET", 2, expires)),
        None,
        content=LARGE,
    ),
    Fault(
        "4.3",
        "the signature ends while storage is asked to copy",
        together(signed, when("landing", WHOLE, 1, expires)),
        None,
        "put_blob_from_url",
        "server",
    ),
    Fault(
        "4.3",
        "the signature ends and no new one helps",
        together(signed, lambda transfer: setattr(transfer.source, "signature", "never")),
        "source_sas_expired",
    ),
    Fault(
        "4.3",
        "the source is overwritten between two blocks that storage fetches",
        together(refuses(WHOLE), when("landing", BLOCKS, 3, replaced)),
        "source_changed",
        mode="server",
        content=LARGE,
    ),
    Fault(
        "4.3",
        "the source is overwritten between two ranged reads",
        when("source", "GET", 3, replaced),
        "source_changed",
        content=LARGE,
    ),
    Fault(
        "4.3",
        "the source is overwritten before storage copies it",
        when("landing", WHOLE, 1, replaced),
        "source_changed",
        mode="server",
    ),
    Fault("4.3", "the very blob is there already", already, None, "in_place"),
    Fault("4.3", "another blob is there already", foreign, "foreign_blob", kept=True),
    Fault(
        "4.3",
        "another blob is there already, storage copies",
        foreign,
        "foreign_blob",
        mode="server",
        kept=True,
    ),
    Fault(
        "5",
        "400 InvalidHeaderValue: an API version that the account does not know",
        says("landing", "PUT", error(400, "InvalidHeaderValue")),
        "copy_failed",
    ),
    Fault(
        "5",
        "400 Md5Mismatch, once: bytes changed on the way",
        says("landing", "PUT", error(400, "Md5Mismatch"), 1),
    ),
    Fault(
        "5",
        "400 Md5Mismatch, always",
        says("landing", "PUT", error(400, "Md5Mismatch")),
        "destination_unreachable",
    ),
    Fault(
        "5",
        "400 Md5Mismatch: storage fetched other bytes than the source's MD5",
        says("landing", WHOLE, error(400, "Md5Mismatch")),
        "proof_md5",
        mode="server",
    ),
    Fault(
        "5",
        "403 AuthorizationFailure of the source, as the emulator calls an expired signature",
        together(renewable, says("source", "GET", error(403, "AuthorizationFailure"), 1)),
    ),
    Fault(
        "5",
        "403 AuthenticationFailed of the source",
        together(renewable, says("source", "GET", error(403, "AuthenticationFailed"), 1)),
    ),
    Fault(
        "5",
        "403 AuthorizationPermissionMismatch: the signature has no right to read",
        says("source", "GET", error(403, "AuthorizationPermissionMismatch")),
        "source_forbidden",
    ),
    Fault(
        "5",
        "403 CannotVerifyCopySource: network between the accounts",
        says("landing", WHOLE, of_source(403, "AuthorizationFailure")),
        mode="server",
    ),
    Fault(
        "5",
        "403 This request is not authorized: permitted scope for copies",
        says("landing", WHOLE, error(403, "AuthorizationFailure")),
        mode="server",
    ),
    Fault(
        "5",
        "403 of the landing account for everything",
        together(
            says("landing", WHOLE, error(403, "AuthorizationFailure")),
            says("landing", "PUT", error(403, "AuthorizationFailure")),
        ),
        "destination_forbidden",
        mode="server",
    ),
    Fault(
        "5",
        "404 CannotVerifyCopySource, and the source is there",
        says("landing", WHOLE, error(404, "CannotVerifyCopySource")),
        mode="server",
    ),
    Fault(
        "5",
        "404 CannotVerifyCopySource, and the source is gone",
        when(
            "landing",
            WHOLE,
            1,
            lambda transfer: transfer.source.blobs.clear(),
            error(404, "CannotVerifyCopySource"),
        ),
        "source_missing",
        mode="server",
    ),
    Fault(
        "5",
        "404 ContainerNotFound of the landing account",
        says("landing", "PUT", error(404, "ContainerNotFound")),
        "destination_missing",
    ),
    Fault(
        "5",
        "409 BlobAlreadyExists: a rival was faster",
        when("landing", "PUT", 1, already),
        None,
        "in_place",
    ),
    Fault(
        "5",
        "409 MemoryExtentStoreAtSizeLimit: full, not already copied",
        says("landing", "PUT", error(409, "MemoryExtentStoreAtSizeLimit")),
        "destination_full",
    ),
    Fault(
        "5",
        "409 BlobImmutableDueToPolicy",
        says("landing", "PUT", error(409, "BlobImmutableDueToPolicy")),
        "destination_full",
    ),
    Fault(
        "5",
        "409 LeaseAlreadyPresent",
        says("landing", "PUT", error(409, "LeaseAlreadyPresent")),
        "destination_forbidden",
    ),
    Fault(
        "5",
        "412 LeaseIdMissing",
        says("landing", "PUT", error(412, "LeaseIdMissing")),
        "destination_forbidden",
    ),
    Fault(
        "5",
        "412 SourceConditionNotMet",
        says("landing", WHOLE, error(412, "SourceConditionNotMet")),
        "source_changed",
        mode="server",
    ),
    Fault(
        "5",
        "412 ConditionNotMet of a copy, as the emulator calls it",
        together(refuses(WHOLE, BLOCKS), says("landing", COPY, error(412, "ConditionNotMet"))),
        "source_changed",
        mode="server",
    ),
    Fault(
        "5",
        "412 ConditionNotMet of a read",
        says("source", "GET", error(412, "ConditionNotMet")),
        "source_changed",
    ),
    Fault(
        "5", "429 of the source, twice", says("source", "GET", error(429, None, Retry_After=2), 2)
    ),
    Fault(
        "5",
        "500 and nothing for Put Blob From URL",
        says("landing", WHOLE, error(500, None)),
        None,
        "put_block_from_url",
        "server",
    ),
    Fault(
        "5",
        "500 and nothing for Put Block From URL",
        together(refuses(WHOLE), says("landing", BLOCKS, error(500, None))),
        None,
        "copy_blob_from_url",
        "server",
    ),
    Fault(
        "5",
        "500 and nothing for Copy Blob From URL",
        together(refuses(WHOLE, BLOCKS), says("landing", COPY, error(500, None))),
        mode="server",
    ),
    Fault(
        "5",
        "500 OperationTimedOut of the landing account, once",
        says("landing", "PUT", error(500, "OperationTimedOut"), 1),
    ),
    Fault(
        "5",
        "503 ServerBusy of the landing account, twice, with a short wait",
        says("landing", "PUT", BUSY, 2),
    ),
    Fault(
        "5",
        "503 ServerBusy of the landing account, with a wait of minutes",
        says("landing", "PUT", LONG),
        "storage_busy",
    ),
    Fault(
        "5",
        "503 ServerBusy of the source, with a wait of minutes",
        says("source", "GET", LONG),
        "storage_busy",
    ),
    Fault("5", "503 ServerBusy for ever", says("source", "GET", BUSY), "storage_busy"),
    Fault("5", "501 APINotImplemented", refuses(WHOLE), None, "put_block_from_url", "server"),
    Fault(
        "5",
        "501 APINotImplemented for all copies by storage",
        refuses(WHOLE, BLOCKS, COPY),
        mode="server",
    ),
    Fault(
        "5",
        "409 with x-ms-copy-source-error-code ServerBusy, twice",
        says("landing", WHOLE, of_source(503, "ServerBusy", 409), 2),
        None,
        "put_blob_from_url",
        "server",
    ),
    Fault("4.2", "the answer to a write is lost", served_but_lost("PUT"), None, "in_place"),
    Fault(
        "4.2",
        "the answer to a commit is lost",
        served_but_lost("PUT list"),
        None,
        "in_place",
        content=LARGE,
    ),
    Fault(
        "4.2",
        "the answer to a copy by storage is lost",
        served_but_lost(WHOLE),
        None,
        "in_place",
        "server",
    ),
    Fault("3", "a read breaks off", cut(100)),
    Fault("3", "a read of a large blob breaks off", cut(9_000), content=LARGE),
    Fault("3", "the source answers with all instead of the range", not_range, "source_short"),
    Fault(
        "12",
        "the source redirects to another host",
        says("source", "GET", REDIRECT),
        "source_redirected",
    ),
    Fault(
        "12",
        "the landing account redirects to another host",
        says("landing", "PUT", REDIRECT),
        "destination_unreachable",
    ),
    Fault(
        "4.1",
        "a bit is another one, once, and the source has an MD5",
        damaged("GET", 1),
        "proof_gzip",
    ),
    Fault(
        "4.1",
        "a bit is another one and only the MD5 can tell",
        damaged("GET", 1),
        "proof_md5",
        proof="transfer",
    ),
    Fault("R7", "another invoice's blob of the same name", other_invoice),
    Fault(
        "R14",
        "several gzip members, the last one cut short",
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
    Fault("R15", "Content-Encoding gzip: clients that unpack on the way land other bytes", encoded),
    Fault(
        "R15",
        "the same, copied by storage with its properties",
        together(refuses(WHOLE, BLOCKS), encoded),
        None,
        "copy_blob_from_url",
        "server",
    ),
    Fault(
        "R16",
        "storage only begins a copy",
        together(refuses(WHOLE, BLOCKS), begun),
        "proof_size",
        mode="server",
    ),
    Fault("R18", "a blob of no bytes", lambda transfer: None, content=b""),
    Fault("R18", "a gzip file of nothing", lambda transfer: None, content=gzip.compress(b"")),
]
