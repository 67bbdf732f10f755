"""Maps errors of copies from a URL to their cause: the source, the method or the landing.

Azure reports the cause in two headers. The emulator does not send them, and returns 501 or an empty
500 response for operations that it does not support.
"""

from datetime import datetime

from shared.errors import BillingExportError, InvalidDataError, PermanentError, ThrottledError
from shared.landing.storage_errors import (
    get_error_code,
    get_header,
    get_headers,
    get_status,
    is_library_error,
    safe_code,
)
from shared.retry_after import parse_retry_after

SOURCE_BUSY = ("ServerBusy", "InternalError", "OperationTimedOut")
SOURCE_CHANGED = ("SourceConditionNotMet", "ConditionNotMet")  # the latter is the emulator's code
LANDING_ERRORS = (  # never caused by the source, whatever the status is
    "ContainerNotFound",
    "BlobAlreadyExists",
    "InvalidBlockList",
    "InvalidBlobOrBlock",
    "TargetConditionNotMet",
)


class CopySourceUnreadableError(Exception):
    """Storage cannot read the source, or supports no copy method; the blob must be streamed.

    `reason` is safe for logs and rows.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CopyMethodUnsupportedError(Exception):
    """The service does not support the copy method, for this blob or at all (`is_permanent`)."""

    def __init__(self, *, is_permanent: bool) -> None:
        super().__init__("The service does not support the copy method")
        self.is_permanent = is_permanent


def copy_source_error(error: Exception, now: datetime) -> Exception | None:
    """Return the mapped error.

    Returns None if the error concerns the destination, if there was no response, or if it is not a
    library error. `to_landing_error` maps these.
    """
    if isinstance(error, BillingExportError) or not is_library_error(error):
        return None
    status, code = get_status(error), get_error_code(error)
    source_status = safe_code(get_header(error, "x-ms-copy-source-status-code"))
    source_code = safe_code(get_header(error, "x-ms-copy-source-error-code"))
    if source_status in ("429", "503") or source_code in SOURCE_BUSY:
        wait = parse_retry_after(get_headers(error), now)
        return ThrottledError(
            "storage_busy", retry_after_seconds=wait, http_status=status, error_code=source_code
        )
    if (status == 412 and code in SOURCE_CHANGED) or source_status == "412":
        return PermanentError("source_changed", http_status=status, error_code=code)
    if code in LANDING_ERRORS:
        return None
    if status == 400 and code == "Md5Mismatch":
        return InvalidDataError(
            "proof_md5", "Storage reported that the MD5 hash differs from the hash of the source"
        )
    if status == 501 or status == 405 or (status == 500 and code is None):
        return CopyMethodUnsupportedError(is_permanent=True)
    if status in (400, 413) and code != "InvalidHeaderValue":
        return CopyMethodUnsupportedError(is_permanent=False)
    if code == "CannotVerifyCopySource" or status in (401, 403, 404):
        response = f"{status} {code or 'without an error code'}"
        if source_status or source_code:
            response += f"; source: {source_status or ''} {source_code or ''}".rstrip()
        return CopySourceUnreadableError(
            f"Storage could not read the source ({response}), although the app can. Check the "
            "network rules and the permitted scope for copy operations of the storage account"
        )
    return None
