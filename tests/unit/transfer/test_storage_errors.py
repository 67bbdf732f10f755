"""The conversion of storage responses to errors."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from shared.errors import PermanentError, RequestRefusedError, ThrottledError, TransientError
from shared.landing.storage_errors import to_landing_error

NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)


class FakeStorageError(Exception):
    """An error with the attributes of an `azure.core` error."""

    def __init__(self, status: int | None, code: str | None = None, **headers: Any) -> None:
        super().__init__("https://a.example/b?sig=secret")
        self.status_code, self.error_code = status, SimpleNamespace(value=code) if code else None
        self.response = SimpleNamespace(
            headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.mark.parametrize(
    ("status", "code", "expected_code", "expected_type"),
    [
        (404, "ContainerNotFound", "destination_missing", PermanentError),
        (409, "ContainerBeingDeleted", "destination_missing", PermanentError),
        (403, "AuthorizationFailure", "destination_forbidden", RequestRefusedError),
        (401, "InvalidAuthenticationInfo", "destination_forbidden", RequestRefusedError),
        (409, "AccountIsDisabled", "destination_forbidden", RequestRefusedError),
        (409, "MemoryExtentStoreAtSizeLimit", "destination_full", PermanentError),
        (409, "AccountBeingCreated", "destination_full", PermanentError),
        (409, "BlobImmutableDueToPolicy", "destination_full", PermanentError),
        (412, "LeaseIdMissing", "destination_forbidden", RequestRefusedError),
        (400, "InvalidHeaderValue", "copy_failed", PermanentError),
        (302, None, "destination_unreachable", TransientError),
        (502, None, "destination_unreachable", TransientError),
        (None, None, "destination_unreachable", TransientError),
        (503, "ServerBusy", "storage_busy", ThrottledError),
        (500, "OperationTimedOut", "storage_busy", ThrottledError),
        (429, None, "storage_busy", ThrottledError),
    ],
)
def test_to_landing_error_returns_the_error_of_status_and_code(
    status: int | None, code: str | None, expected_code: str, expected_type: type[Exception]
) -> None:
    error = to_landing_error(FakeStorageError(status, code), NOW)
    assert error.code == expected_code and isinstance(error, expected_type)
    assert "sig=" not in str(error)


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("Sun, 08 Nov 2026 09:38:30 GMT", 90), ("soon", None)]
)
def test_to_landing_error_busy_returns_the_requested_wait(header: str, seconds: int | None) -> None:
    error = to_landing_error(FakeStorageError(503, "ServerBusy", Retry_After=header), NOW)
    assert isinstance(error, ThrottledError) and error.retry_after_seconds == seconds
