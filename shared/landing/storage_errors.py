"""What an answer of the partner's storage means: status and error code in, one of shared.errors out. Pure.

Neither the exception's class nor its text decides (reference: blob-copy, 5): the SDK raises ResourceExistsError for a
full account and ResourceNotFoundError for a copy source that may not be read; its texts hold signed URLs.
"""

import re
from datetime import datetime

from shared.errors import (
    BillingExportError,
    PermanentError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.retry_after import retry_after_seconds

BUSY = (429, 500, 503)
WORD = re.compile(r"[A-Za-z0-9_-]{1,100}")
GONE_CONTAINER = ("ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled")
NOT_OURS = (
    "LeaseIdMissing",
    "LeaseAlreadyPresent",
    "LeaseIdMismatchWithBlobOperation",
    "AccountIsDisabled",
)


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a library's error; None where there was no answer at all."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def code_of(error: BaseException) -> str | None:
    """Storage's error code, as `BlobAlreadyExists`; the SDK gives an enum for those it knows and a text for others."""
    code = getattr(error, "error_code", None)
    return word(getattr(code, "value", code))


def header_of(error: BaseException, name: str) -> str | None:
    value = (getattr(getattr(error, "response", None), "headers", None) or {}).get(name)
    return value if isinstance(value, str) else None


def word(said: object) -> str | None:
    """An error code or request id as services send them; None for anything else: it goes into logs and rows.

    >>> word("ServerBusy"), word("7d8f0fae-101e-0071"), word("https://a.example/?sig=x"), word(None)
    ('ServerBusy', '7d8f0fae-101e-0071', None, None)
    """
    return said if isinstance(said, str) and WORD.fullmatch(said) else None


def from_library(error: BaseException) -> bool:
    """Whether storage or the way to it said so; anything else is a mistake of ours and stays what it is."""
    return (
        status_of(error) is not None
        or isinstance(error, OSError | TimeoutError)
        or (type(error).__module__.partition(".")[0] in ("azure", "aiohttp"))
    )


def landing_error(error: BaseException, now: datetime) -> BillingExportError:
    """`error` of any library as one of ours. `now` (aware) is what a Retry-After date is counted from."""
    status, code, request_id = (
        status_of(error),
        code_of(error),
        word(header_of(error, "x-ms-request-id")),
    )
    if status in BUSY:
        return ThrottledError(
            "storage_busy",
            retry_after_seconds=retry_after_seconds(header_of(error, "Retry-After"), now),
            http_status=status,
            error_code=code,
            request_id=request_id,
        )
    if status is None and type(error).__name__ in (
        "ClientAuthenticationError",
        "CredentialUnavailableError",
    ):
        return UnavailableError(
            "identity_unavailable"
        )  # azure-identity: no answer of storage, so nothing but the name tells
    terminal = None if status is None else _terminal_code(status, code)
    if terminal is None:
        return UnavailableError(
            "destination_unreachable", http_status=status, error_code=code, request_id=request_id
        )
    kind = RequestRefusedError if terminal == "destination_forbidden" else PermanentError
    return kind(terminal, http_status=status, error_code=code, request_id=request_id)


def _terminal_code(status: int, code: str | None) -> str | None:
    """None: asking again may well give another answer."""
    if code in GONE_CONTAINER or status == 404:
        return "destination_missing"
    if code in NOT_OURS or status in (401, 403):
        return "destination_forbidden"
    if status in (
        409,
        413,
        507,
    ):  # MemoryExtentStoreAtSizeLimit, AccountBeingCreated, BlobImmutableDueToPolicy, ...
        return "destination_full"
    if status < 400 or status in (408, 412) or status > 500:
        return None
    return "copy_failed"
