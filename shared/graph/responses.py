"""Parsers for responses of Microsoft Graph, without I/O.

The parsers read the raw JSON because the models of msgraph-sdk lose information: a manifest that is
a string, an error code that is a number, and unknown status values. They also convert GUIDs and
dates to objects.

    parse_export_response       ExportAccepted
    parse_operation_response    OperationRunning, OperationSucceeded, OperationFailed or
                                ManifestLink (the manifest must be requested by its ID)
    parse_manifest_response     OperationSucceeded

All of them raise the errors of shared/errors.py with Microsoft's request ID. The parsers discard
the text of error responses.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.errors import (
    BillingExportError,
    MalformedManifestError,
    OperationGoneError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.http.response import TRANSIENT_STATUSES, HttpResponse
from shared.manifest import Manifest, parse_manifest
from shared.redaction import SAFE_TOKEN

OPERATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
LINKED_ID = {
    collection: re.compile(
        rf"(?:.*/)?{collection}(?:/({OPERATION_ID.pattern})|\('({OPERATION_ID.pattern})'\))/?",
        re.IGNORECASE,
    )
    for collection in ("operations", "manifests")
}
MAX_LINK_CHARACTERS = 2_048
NO_DATA = "5000"  # the only documented code of a failed operation

CODES_BY_STATUS = {
    400: "graph_bad_request",
    401: "graph_unauthorized",
    403: "graph_forbidden",
    404: "graph_not_found",
}

StatusKind = Literal["running", "succeeded", "failed"]
KINDS_BY_TYPE: dict[str, StatusKind] = {
    "runningoperation": "running",
    "exportsuccessoperation": "succeeded",
    "failedoperation": "failed",
}
# Every other status means that the operation is running.
KINDS_BY_STATUS: dict[str, StatusKind] = {
    "succeeded": "succeeded",
    "completed": "succeeded",
    "failed": "failed",
}

RequestKind = Literal["export", "operation", "manifest"]


@dataclass(frozen=True)
class ExportAccepted:
    """Graph accepted the export request."""

    operation_id: str
    request_id: str | None
    retry_after_seconds: int | None


@dataclass(frozen=True)
class OperationRunning:
    """The export is not ready; `retry_after_seconds` is None if Graph requests no specific wait."""

    retry_after_seconds: int | None
    request_id: str | None


@dataclass(frozen=True)
class OperationSucceeded:
    """The export is ready. Graph creates a new SAS for every response that contains a manifest."""

    manifest: Manifest
    request_id: str | None


@dataclass(frozen=True)
class OperationFailed:
    """Microsoft could not create the export. `code` is `unknown` without a valid error code."""

    code: str
    request_id: str | None

    @property
    def has_no_data(self) -> bool:
        """Whether the operation failed because there is no data to bill."""
        return self.code == NO_DATA


@dataclass(frozen=True)
class ManifestLink:
    """The export is ready; its manifest must be requested by its ID."""

    manifest_id: str


OperationState = OperationRunning | OperationSucceeded | OperationFailed


def parse_export_response(response: HttpResponse) -> ExportAccepted:
    """Return the operation ID of an accepted export request.

    The ID is taken from the `Location` header, or from the operation in the body if there is no
    such header. The URL itself is not used.
    """
    _raise_for_status(response, "export")
    if response.location is not None:
        operation_id = parse_linked_id(response.location, "operations")
        if operation_id is None:
            raise malformed_error(response)
    else:
        operation_id = _get_operation_id(response)
        if operation_id is None:
            raise unavailable_error("graph_location_missing", response)
    return ExportAccepted(operation_id, response.request_id, response.retry_after_seconds)


def parse_operation_response(
    response: HttpResponse,
) -> OperationRunning | OperationSucceeded | OperationFailed | ManifestLink:
    """Return the state of an operation; Graph returns 200 for a failed operation too."""
    _raise_for_status(response, "operation")
    operation = parse_json_object(response)
    match _get_kind(operation):
        case "running":
            return OperationRunning(response.retry_after_seconds, response.request_id)
        case "failed":
            code = _get_error_code(operation.get("error")) or "unknown"
            return OperationFailed(code, response.request_id)
        case "succeeded":
            return _get_manifest(operation, response)
        case None:
            raise malformed_error(response)


def parse_manifest_response(response: HttpResponse) -> OperationSucceeded:
    """Return the manifest of a response to a request by manifest ID."""
    _raise_for_status(response, "manifest")
    manifest = _parse_manifest(parse_json_object(response), response)
    return OperationSucceeded(manifest, response.request_id)


def parse_linked_id(link: str, collection: Literal["operations", "manifests"]) -> str | None:
    """Return the ID at the end of a link into `collection`, or `link` itself if it is an ID.

    Returns None if the link has any other form.

    >>> base = "https://graph.microsoft.com/v1.0/reports/partners/billing"
    >>> parse_linked_id(f"{base}/operations/9ab9cb54-d07f", "operations")
    '9ab9cb54-d07f'
    >>> parse_linked_id("https://example.org/manifests('8fe347d7')?x=1", "manifests")
    '8fe347d7'
    >>> parse_linked_id("/operations/..%2f", "operations") is None
    True
    """
    if len(link) > MAX_LINK_CHARACTERS or any(character.isspace() for character in link):
        return None
    if OPERATION_ID.fullmatch(link):
        return link
    match = LINKED_ID[collection].fullmatch(re.split("[?#]", link, maxsplit=1)[0])
    return (match[1] or match[2]) if match else None


def parse_json_object(response: HttpResponse) -> dict[str, Any]:
    """Return the body as a JSON object.

    Raises UnavailableError(graph_malformed) for any other body, for example an HTML page.
    """
    is_json = not response.media_type or "json" in response.media_type
    value = _parse_json(response.body) if is_json else None
    if not isinstance(value, dict):
        raise malformed_error(response)
    return value


def malformed_error(response: HttpResponse) -> UnavailableError:
    """Return the error for a response that does not match the documentation of the API."""
    return unavailable_error("graph_malformed", response)


def unavailable_error(
    code: str, response: HttpResponse, error_code: str | None = None
) -> UnavailableError:
    """Return an UnavailableError with the details of `response`."""
    return UnavailableError(
        code,
        retry_after_seconds=response.retry_after_seconds,
        http_status=response.status,
        error_code=error_code,
        request_id=response.request_id,
    )


def _parse_json(body: bytes) -> Any:
    try:
        value = json.loads(body)
        if b"\\u" in body:  # storage cannot encode a string with half a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # a decoding error contains the whole body
        return None
    return value


def _raise_for_status(response: HttpResponse, request: RequestKind) -> None:
    error = _get_error(response, request)
    if error is not None:
        raise error


def _get_error(response: HttpResponse, request: RequestKind) -> BillingExportError | None:
    """Return the error for the status of `response`. Only the error code is taken from the body.

    The client does not follow redirects and treats them as malformed responses.
    """
    status, request_id = response.status, response.request_id
    if 200 <= status < 300:
        return None
    if not 400 <= status < 600:
        return malformed_error(response)
    document = _parse_json(response.body)
    code = _get_error_code(document.get("error")) if isinstance(document, dict) else None
    if status == 429:
        return ThrottledError(
            "graph_throttled",
            retry_after_seconds=response.retry_after_seconds,
            http_status=status,
            error_code=code,
            request_id=request_id,
        )
    if status >= 500 or status in TRANSIENT_STATUSES:
        return unavailable_error("graph_unavailable", response, code)
    if request != "export" and status in (404, 410):
        return OperationGoneError(
            f"{request}_gone", http_status=status, error_code=code, request_id=request_id
        )
    return RequestRefusedError(
        CODES_BY_STATUS.get(status, "graph_refused"),
        http_status=status,
        error_code=code,
        request_id=request_id,
    )


def _get_kind(operation: Mapping[str, Any]) -> StatusKind | None:
    """Return the kind by type name, otherwise by status; None if the operation has neither."""
    type_name, status = operation.get("@odata.type"), operation.get("status")
    if isinstance(type_name, str):
        kind = KINDS_BY_TYPE.get(type_name.rpartition(".")[2].lower())
        if kind:
            return kind
    if isinstance(status, str) and status:
        return KINDS_BY_STATUS.get(status.lower(), "running")
    return None


def _get_manifest(
    operation: Mapping[str, Any], response: HttpResponse
) -> OperationSucceeded | ManifestLink:
    """Return the manifest, which can be inline, a navigation link or a link in a string."""
    resource = operation.get("resourceLocation")
    if isinstance(resource, dict):
        return OperationSucceeded(_parse_manifest(resource, response), response.request_id)
    link = resource
    if not isinstance(link, str):
        link = operation.get("resourceLocation@odata.navigationLink")
    manifest_id = parse_linked_id(link, "manifests") if isinstance(link, str) else None
    if manifest_id is None:
        raise malformed_error(response)
    return ManifestLink(manifest_id)


def _parse_manifest(document: Mapping[str, Any], response: HttpResponse) -> Manifest:
    try:
        return parse_manifest(document)
    except MalformedManifestError as error:
        failure = MalformedManifestError(error.detail, request_id=response.request_id)
    raise failure


def _get_operation_id(response: HttpResponse) -> str | None:
    """Return the ID of the operation in the body of an export response."""
    operation = _parse_json(response.body)
    operation_id = (
        operation.get("id") if isinstance(operation, dict) and _get_kind(operation) else None
    )
    if isinstance(operation_id, str) and OPERATION_ID.fullmatch(operation_id):
        return operation_id
    return None


def _get_error_code(error: Any) -> str | None:
    """Return `code` of an error object, which can be a number; None if it has an invalid form."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and not isinstance(code, bool):
        code = str(code)
    return code if isinstance(code, str) and SAFE_TOKEN.fullmatch(code) else None
