"""What an answer of Microsoft Graph says, read from its status, headers and raw JSON. Pure: knows of no library and no clock.

The raw JSON decides, not the SDK's models: those lose a manifest given as a text, an error code given as a number and
every status word they do not know, and turn GUIDs and dates into objects (graph-partner-billing, 11.4 and 12).

    operation_state      Running | Ready | Failed | Linked     Linked: the manifest is to be read by its id
    accepted             Accepted
    manifest_of          Manifest

All of them raise what errors.py has for it; `request_id` is Microsoft's. Nothing an answer says in words is kept.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import (
    BillingExportError,
    InvalidDataError,
    OperationGoneError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.manifest import Manifest, parse_manifest
from shared.redaction import SAFE_TOKEN

OPERATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")  # design, section 12
LINKED_ID = {
    collection: re.compile(
        rf"(?:.*/)?{collection}(?:/({OPERATION_ID.pattern})|\('({OPERATION_ID.pattern})'\))/?",
        re.IGNORECASE,
    )
    for collection in ("operations", "manifests")
}
LONGEST_LINK = 2_048  # characters
NO_DATA = "5000"  # the only documented code of a failed operation (graph-partner-billing, 9)

REFUSALS = {
    400: "graph_bad_request",
    401: "graph_unauthorized",
    403: "graph_forbidden",
    404: "graph_not_found",
}
PASSING = (408, 425)  # a refusal by number, yet HTTP says: the same request may succeed later

KINDS: dict[str, Literal["running", "succeeded", "failed"]] = {
    "runningoperation": "running",
    "exportsuccessoperation": "succeeded",
    "failedoperation": "failed",
}
WORDS: dict[str, Literal["running", "succeeded", "failed"]] = {
    "succeeded": "succeeded",
    "completed": "succeeded",
    "failed": "failed",
}  # any other word: it is being worked on

Asked = Literal["export", "operation", "manifest"]


@dataclass(frozen=True)
class GraphResponse:
    """One HTTP answer, its body unpacked and bounded. `retry_after_seconds` None: no wait was named, or none that can be read."""

    status: int
    media_type: str  # "" where the answer names none
    location: str | None
    retry_after_seconds: int | None
    request_id: str | None
    body: bytes = field(repr=False)  # may hold a SAS


@dataclass(frozen=True)
class ExportAccepted:
    """The export is asked for. `retry_after_seconds`: whether a 202 ever names a wait is unknown."""

    operation_id: str
    request_id: str | None
    retry_after_seconds: int | None


@dataclass(frozen=True)
class OperationRunning:
    """Not yet; look again after `retry_after_seconds`, or when one sees fit where it is None."""

    retry_after_seconds: int | None
    request_id: str | None


@dataclass(frozen=True)
class OperationSucceeded:
    """The export is there. The manifest's SAS was made for this answer: reading again gives a fresh one."""

    manifest: Manifest
    request_id: str | None


@dataclass(frozen=True)
class OperationFailed:
    """Microsoft could not make the export. `code` is its word, or `unknown` where it named none that can be kept."""

    code: str
    request_id: str | None

    @property
    def has_no_data(self) -> bool:
        """There is nothing to bill: an answer, not a failure."""
        return self.code == NO_DATA


@dataclass(frozen=True)
class ManifestLink:
    """The export is there; its manifest is another request away."""

    manifest_id: str


OperationState = OperationRunning | OperationSucceeded | OperationFailed


def parse_export_response(answer: GraphResponse) -> ExportAccepted:
    """The answer to an export. Only the id of `Location` is used; without one, that of the operation in the body."""
    _raise_refusal(answer, "export")
    if answer.location is not None:
        operation_id = parse_linked_id(answer.location, "operations")
        if operation_id is None:
            raise malformed_error(answer)
    else:
        operation_id = _operation_id_in_body(answer)
        if operation_id is None:
            raise unavailable_error("graph_location_missing", answer)
    return ExportAccepted(operation_id, answer.request_id, answer.retry_after_seconds)


def parse_operation_response(
    answer: GraphResponse,
) -> OperationRunning | OperationSucceeded | OperationFailed | ManifestLink:
    """The answer to a look at an operation, which is 200 also for a failed one (graph-partner-billing, 3)."""
    _raise_refusal(answer, "operation")
    raw = parse_json_object(answer)
    match _kind(raw):
        case "running":
            return OperationRunning(answer.retry_after_seconds, answer.request_id)
        case "failed":
            return OperationFailed(_code(raw.get("error")) or "unknown", answer.request_id)
        case "succeeded":
            return _manifest_in(raw, answer)
        case None:
            raise malformed_error(answer)


def parse_manifest_response(answer: GraphResponse) -> OperationSucceeded:
    """The answer to a manifest asked for by its id."""
    _raise_refusal(answer, "manifest")
    return OperationSucceeded(_manifest(parse_json_object(answer), answer), answer.request_id)


def parse_linked_id(link: str, collection: Literal["operations", "manifests"]) -> str | None:
    """The id that a link into `collection` ends in, or that a bare id is; None where there is none to trust.

    >>> parse_linked_id("https://graph.microsoft.com/v1.0/reports/partners/billing/operations/9ab9cb54-d07f", "operations")
    '9ab9cb54-d07f'
    >>> parse_linked_id("https://example.org/manifests('8fe347d7')?x=1", "manifests"), parse_linked_id("/operations/..%2f", "operations")
    ('8fe347d7', None)
    """
    if len(link) > LONGEST_LINK or any(character.isspace() for character in link):
        return None
    if OPERATION_ID.fullmatch(link):
        return link
    found = LINKED_ID[collection].fullmatch(re.split("[?#]", link, maxsplit=1)[0])
    return (found[1] or found[2]) if found else None


def parse_json_object(answer: GraphResponse) -> dict[str, Any]:
    """The body as a JSON object. Raises Unavailable(graph_malformed) for anything else, a page of HTML above all."""
    value = None if answer.media_type and "json" not in answer.media_type else _json(answer.body)
    if not isinstance(value, dict):
        raise malformed_error(answer)
    return value


def malformed_error(answer: GraphResponse) -> UnavailableError:
    return unavailable_error("graph_malformed", answer)


def unavailable_error(
    code: str, answer: GraphResponse, error_code: str | None = None
) -> UnavailableError:
    return UnavailableError(
        code,
        retry_after_seconds=answer.retry_after_seconds,
        http_status=answer.status,
        error_code=error_code,
        request_id=answer.request_id,
    )


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body)
        if b"\\u" in body:  # half a surrogate pair is a str that nothing can store
            json.dumps(value, ensure_ascii=False).encode()
    except (
        ValueError,
        RecursionError,
    ):  # no context outlives this: a decoding error holds the whole body
        return None
    return value


def _raise_refusal(answer: GraphResponse, asked: Asked) -> None:
    error = _refusal(answer, asked)
    if error is not None:
        raise error


def _refusal(answer: GraphResponse, asked: Asked) -> BillingExportError | None:
    """By status alone; the body only adds its code (graph-partner-billing, 9). A redirect is not followed, nor understood."""
    status, request_id = answer.status, answer.request_id
    if 200 <= status < 300:
        return None
    if not 400 <= status < 600:
        return malformed_error(answer)
    said = _json(answer.body)
    code = _code(said.get("error")) if isinstance(said, dict) else None
    if status == 429:
        return ThrottledError(
            "graph_throttled",
            retry_after_seconds=answer.retry_after_seconds,
            http_status=status,
            error_code=code,
            request_id=request_id,
        )
    if status >= 500 or status in PASSING:
        return unavailable_error("graph_unavailable", answer, code)
    if asked != "export" and status in (404, 410):
        return OperationGoneError(
            "operation_gone", http_status=status, error_code=code, request_id=request_id
        )
    return RequestRefusedError(
        REFUSALS.get(status, "graph_refused"),
        http_status=status,
        error_code=code,
        request_id=request_id,
    )


def _kind(raw: Mapping[str, Any]) -> Literal["running", "succeeded", "failed"] | None:
    """By type first, then by the raw word in any case; None where neither is there (graph-partner-billing, 3, 'Status word')."""
    type_name, word = raw.get("@odata.type"), raw.get("status")
    if isinstance(type_name, str) and (kind := KINDS.get(type_name.rpartition(".")[2].lower())):
        return kind
    return WORDS.get(word.lower(), "running") if isinstance(word, str) and word else None


def _manifest_in(
    raw: Mapping[str, Any], answer: GraphResponse
) -> OperationSucceeded | ManifestLink:
    """Inline, linked, or linked by a plain text: all three have been seen (graph-partner-billing, 3)."""
    resource = raw.get("resourceLocation")
    if isinstance(resource, dict):
        return OperationSucceeded(_manifest(resource, answer), answer.request_id)
    link = (
        resource if isinstance(resource, str) else raw.get("resourceLocation@odata.navigationLink")
    )
    manifest_id = parse_linked_id(link, "manifests") if isinstance(link, str) else None
    if manifest_id is None:
        raise malformed_error(answer)
    return ManifestLink(manifest_id)


def _manifest(raw: Mapping[str, Any], answer: GraphResponse) -> Manifest:
    try:
        return parse_manifest(raw)
    except InvalidDataError as error:
        rejected = InvalidDataError(error.code, error.detail, request_id=answer.request_id)
    raise rejected


def _operation_id_in_body(answer: GraphResponse) -> str | None:
    """The return type of an export is an operation (graph-partner-billing, 2): its id saves asking for a second one."""
    raw = _json(answer.body)
    operation_id = raw.get("id") if isinstance(raw, dict) and _kind(raw) else None
    return (
        operation_id
        if isinstance(operation_id, str) and OPERATION_ID.fullmatch(operation_id)
        else None
    )


def _code(error: Any) -> str | None:
    """`code` of an error object, also where it is a number; None unless it looks like a code."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and not isinstance(code, bool):
        code = str(code)
    return code if isinstance(code, str) and SAFE_TOKEN.fullmatch(code) else None
