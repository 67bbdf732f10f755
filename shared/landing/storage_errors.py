"""Maps errors of the partner's storage account to the exceptions of `shared.errors`.

The mapping uses only the HTTP status and the error code. The exception types of the SDK are
misleading: it raises ResourceExistsError for a full account and ResourceNotFoundError for a copy
source without read permission. Its messages contain signed URLs and must not be used.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from shared.errors import (
    BillingExportError,
    PermanentError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.retry_after import parse_retry_after

THROTTLING_STATUSES = (429, 500, 503)
SAFE_CODE = re.compile(r"[A-Za-z0-9_-]{1,100}")
MISSING_CONTAINER = ("ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled")
NO_ACCESS = (
    "LeaseIdMissing",
    "LeaseAlreadyPresent",
    "LeaseIdMismatchWithBlobOperation",
    "AccountIsDisabled",
)


def get_status(error: BaseException) -> int | None:
    """Return the HTTP status of an SDK error, or None if there was no response."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def get_error_code(error: BaseException) -> str | None:
    """Return the error code of storage, for example `BlobAlreadyExists`.

    The SDK stores known codes as an enumeration and all others as a string.
    """
    code = getattr(error, "error_code", None)
    return safe_code(getattr(code, "value", code))


def get_header(error: BaseException, name: str) -> str | None:
    """Return a header of the response that caused the error."""
    value = get_headers(error).get(name)
    return value if isinstance(value, str) else None


def get_headers(error: BaseException) -> Mapping[str, str]:
    """Return the headers of the response that caused the error."""
    return getattr(getattr(error, "response", None), "headers", None) or {}


def safe_code(value: object) -> str | None:
    """Return an error code or request ID if it is safe for logs and rows, otherwise None.

    >>> safe_code("ServerBusy"), safe_code("7d8f0fae-101e-0071")
    ('ServerBusy', '7d8f0fae-101e-0071')
    >>> safe_code("https://a.example/?sig=x"), safe_code(None)
    (None, None)
    """
    return value if isinstance(value, str) and SAFE_CODE.fullmatch(value) else None


def is_library_error(error: BaseException) -> bool:
    """Return whether storage, the SDK or the network caused the error.

    Any other error is a defect of the app and must not be mapped.
    """
    return (
        get_status(error) is not None
        or isinstance(error, OSError | TimeoutError)
        or (type(error).__module__.partition(".")[0] in ("azure", "aiohttp"))
    )


def to_landing_error(error: BaseException, now: datetime) -> BillingExportError:
    """Map a library error to an exception of this app.

    Args:
        error: Any error for which `is_library_error` is true.
        now: The current time, aware; a date in Retry-After is relative to it.
    """
    status, code, request_id = (
        get_status(error),
        get_error_code(error),
        safe_code(get_header(error, "x-ms-request-id")),
    )
    if status in THROTTLING_STATUSES:
        return ThrottledError(
            "storage_busy",
            retry_after_seconds=parse_retry_after(get_headers(error), now),
            http_status=status,
            error_code=code,
            request_id=request_id,
        )
    # azure-identity raises these without a response, so only the type name identifies them.
    if status is None and type(error).__name__ in (
        "ClientAuthenticationError",
        "CredentialUnavailableError",
    ):
        return UnavailableError("identity_unavailable")
    permanent = None if status is None else _permanent_code(status, code)
    if permanent is None:
        return UnavailableError(
            "destination_unreachable", http_status=status, error_code=code, request_id=request_id
        )
    error_type = RequestRefusedError if permanent == "destination_forbidden" else PermanentError
    return error_type(permanent, http_status=status, error_code=code, request_id=request_id)


def _permanent_code(status: int, code: str | None) -> str | None:
    """Return the code of a permanent error, or None if a retry can succeed."""
    if code in MISSING_CONTAINER or status == 404:
        return "destination_missing"
    if code in NO_ACCESS or status in (401, 403):
        return "destination_forbidden"
    # For example MemoryExtentStoreAtSizeLimit, AccountBeingCreated, BlobImmutableDueToPolicy.
    if status in (409, 413, 507):
        return "destination_full"
    if status < 400 or status in (408, 412) or status > 500:
        return None
    return "copy_failed"
