"""HTTP responses: errors in every format, and responses that a fault rule replaces or modifies."""

import asyncio
import json
import math
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from local.simulator.faults import FaultResponse

CODES = {
    400: "BadRequest",
    401: "InvalidAuthenticationToken",
    403: "Authorization_RequestDenied",
    404: "ResourceNotFound",
    405: "MethodNotAllowed",
    410: "Gone",
    415: "UnsupportedMediaType",
    429: "TooManyRequests",
    500: "InternalServerError",
    501: "NotImplemented",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
    509: "BandwidthLimitExceeded",
}
STORAGE_CODES = {
    403: "AuthenticationFailed",
    404: "BlobNotFound",
    412: "ConditionNotMet",
    503: "ServerBusy",
}
HTML = (
    "<!DOCTYPE html><html><head><title>Error</title></head>"
    "<body><h1>Service unavailable</h1></body></html>"
)
JSON = "application/json; odata.metadata=minimal; charset=utf-8"


class ConnectionDroppedError(Exception):
    """The server must close the connection without a response."""


def graph_json(status: int, document: Any, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response with the content type that Graph uses."""
    return web.Response(
        status=status,
        body=json.dumps(document).encode(),
        headers={"Content-Type": JSON, **(headers or {})},
    )


def graph_error(
    status: int,
    code: str | None = None,
    message: str | None = None,
    headers: dict[str, str] | None = None,
    *,
    numeric: bool = False,
    request_id: str = "",
) -> web.Response:
    """Return an error in Graph's format. If `numeric` is true, the error code is a number."""
    error: dict[str, Any] = {
        "code": status if numeric else code or CODES.get(status, "UnknownError"),
        "message": message or "The request failed.",
        "innerError": {
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "request-id": request_id,
            "client-request-id": request_id,
        },
    }
    return graph_json(status, {"error": error}, headers)


def partner_center_error(
    status: int, message: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    """Return an error in Partner Center's format."""
    text = message or "Rate limit is exceeded. Try again in 57 seconds."
    return web.json_response(
        {"statusCode": status, "message": text}, status=status, headers=headers
    )


def storage_error(
    status: int, code: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    """Return an error in the format of Azure Storage."""
    code = code or STORAGE_CODES.get(status, "InternalError")
    body = (
        "<?xml version='1.0' encoding='utf-8'?>"
        f"<Error><Code>{code}</Code><Message>The request failed.</Message></Error>"
    )
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code, **(headers or {})}
    return web.Response(status=status, body=body.encode(), headers=headers)


def retry_after(form: str, seconds: float, now: datetime) -> dict[str, str]:
    """Return a Retry-After header in one of its formats. An HTTP date is relative to `now`."""
    match form:
        case "absent":
            return {}
        case "junk":
            return {"Retry-After": "soon"}
        case "http_date":
            moment = datetime.fromtimestamp(now.timestamp() + seconds, UTC)
            return {"Retry-After": format_datetime(moment, usegmt=True)}
    return {"Retry-After": str(math.ceil(seconds))}


def fault_response(fault: FaultResponse, step: str, request_id: str) -> web.Response:
    """Return the response of a fault rule that replaces the real response.

    Raises ConnectionDroppedError if the rule closes the connection.
    """
    if fault.drop:
        raise ConnectionDroppedError
    status, headers, body = fault.status or 200, dict(fault.headers), fault.body
    if body is None:
        body = (
            "storage_error"
            if step == "blob"
            else "partner_center"
            if step in ("invoices", "invoice")
            else "graph_error"
        )
    match body:
        case "graph_error" | "graph_error_numeric":
            numeric = body == "graph_error_numeric"
            return graph_error(
                status, fault.code, fault.message, headers, numeric=numeric, request_id=request_id
            )
        case "partner_center":
            return partner_center_error(status, fault.message, headers)
        case "storage_error":
            return storage_error(status, fault.code, headers)
        case "message":
            return graph_json(
                status, {"message": fault.message or "An error has occurred."}, headers
            )
        case "html":
            return web.Response(
                status=status, text=HTML, headers={"Content-Type": "text/html", **headers}
            )
        case "broken_json":
            return web.Response(
                status=status,
                body=b'{"error": {"code": "Brok',
                headers={"Content-Type": JSON, **headers},
            )
        case "json_list":
            return graph_json(status, [], headers)
        case "json_string":
            return graph_json(status, "text", headers)
    return web.Response(status=status, headers=headers)


def apply_fault(response: web.Response, fault: FaultResponse) -> web.Response:
    """Return the real response, modified by a fault rule."""
    body, headers = (
        response.body if isinstance(response.body, bytes) else b"",
        CIMultiDict(response.headers),
    )
    if fault.body == "truncated":
        body = body[: len(body) // 2]
    if fault.body == "text_html":
        body, headers["Content-Type"] = HTML.encode(), "text/html"
    body = apply_fault_to_bytes(body, fault)
    for name in (*fault.without_headers, "Content-Length"):
        headers.popall(name, None)
    headers.update(fault.headers)
    if fault.body == "no_content_type":
        headers.popall("Content-Type", None)
        return ResponseWithoutContentType(
            status=fault.status or response.status, body=body, headers=headers
        )
    return web.Response(status=fault.status or response.status, body=body, headers=headers)


class ResponseWithoutContentType(web.Response):
    """A response without Content-Type, which aiohttp would add otherwise."""

    async def _start(self, request: web.BaseRequest) -> Any:
        self.headers.popall("Content-Type", None)
        return await super()._start(request)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Content-Type", None)


def apply_fault_to_bytes(body: bytes, fault: FaultResponse, offset: int = 0) -> bytes:
    """Return a part of a body, modified by a fault rule. `offset` is its position in the body."""
    if fault.cut_to is not None:
        body = body[: max(0, fault.cut_to - offset)]
    if fault.corrupt_at is not None and offset <= fault.corrupt_at < offset + len(body):
        index = fault.corrupt_at - offset
        body = body[:index] + bytes([body[index] ^ 0xFF]) + body[index + 1 :]
    return body


async def drop_connection(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection without sending the rest of the response, as a network failure would."""
    if request.transport is not None:
        request.transport.close()
    await asyncio.sleep(0)
    return web.Response(status=500)
