"""What the landing account says when it was told to fetch a blob by itself: of the source, of the method, or of itself. Pure.

Azure names the real cause in two headers of its own; the emulator never sends them, and says 501 or an empty 500 for
what it does not know (reference: blob-copy, 5).
"""

from datetime import datetime

from shared.errors import BillingExportError, InvalidDataError, PermanentError, ThrottledError
from shared.landing.storage_errors import code_of, from_library, header_of, status_of, word
from shared.retry_after import retry_after_seconds

SOURCE_BUSY = ("ServerBusy", "InternalError", "OperationTimedOut")
SOURCE_CHANGED = (
    "SourceConditionNotMet",
    "ConditionNotMet",
)  # the latter is the emulator's for a copy
OF_THE_LANDING = (  # never of the source, whatever the status says
    "ContainerNotFound",
    "BlobAlreadyExists",
    "InvalidBlockList",
    "InvalidBlobOrBlock",
    "TargetConditionNotMet",
)


class CopySourceUnreadableError(Exception):
    """The partner's storage cannot read the source, or not fetch at all. `why`: words of ours, for log and row."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class CopyMethodUnsupportedError(Exception):
    """The service does not know the method (`for_good`), or not for this blob: the next rung is tried."""

    def __init__(self, *, for_good: bool) -> None:
        super().__init__("the service does not offer the method")
        self.for_good = for_good


def copy_source_error(error: Exception, now: datetime) -> Exception | None:
    """None where storage speaks of the destination, got no answer, or no library said it: landing_error judges that."""
    if isinstance(error, BillingExportError) or not from_library(error):
        return None
    status, code = status_of(error), code_of(error)
    cause_status = word(header_of(error, "x-ms-copy-source-status-code"))
    cause = word(header_of(error, "x-ms-copy-source-error-code"))
    if cause_status in ("429", "503") or cause in SOURCE_BUSY:
        wait = retry_after_seconds(header_of(error, "Retry-After"), now)
        return ThrottledError(
            "storage_busy", retry_after_seconds=wait, http_status=status, error_code=cause
        )
    if (status == 412 and code in SOURCE_CHANGED) or cause_status == "412":
        return PermanentError("source_changed", http_status=status, error_code=code)
    if code in OF_THE_LANDING:
        return None
    if status == 400 and code == "Md5Mismatch":
        return InvalidDataError("proof_md5", "another MD5 than the source's, said storage")
    if status == 501 or status == 405 or (status == 500 and code is None):
        return CopyMethodUnsupportedError(for_good=True)
    if status in (400, 413) and code != "InvalidHeaderValue":
        return CopyMethodUnsupportedError(for_good=False)
    if code == "CannotVerifyCopySource" or status in (401, 403, 404):
        cause_said = (
            f", of the source {cause_status or ''} {cause or ''}".rstrip()
            if cause_status or cause
            else ""
        )
        return CopySourceUnreadableError(
            f"storage could not read the source by itself ({status} {code or 'without a code'}{cause_said}) though this app can: "
            "its network or its permitted scope for copies"
        )
    return None
