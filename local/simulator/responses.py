"""Answers as HTTP: error bodies in every shape, and the faults that replace or spoil an answer."""

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
HTML = "<!DOCTYPE html><html><head><title>Error</title></head><body><h1>The service is not there</h1></body></html>"
JSON = "application/json; odata.metadata=minimal; charset=utf-8"


class ConnectionDroppedError(Exception):
    """The connection is to end without an answer."""


def graph_json(status: int, document: Any, headers: dict[str, str] | None = None) -> web.Response:
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
    """The documented body; `numeric` gives the code as a number."""
    error: dict[str, Any] = {
        "code": status if numeric else code or CODES.get(status, "UnknownError"),
        "message": message or "The request was not served.",
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
    text = message or "Rate limit is exceeded. Try again in 57 seconds."
    return web.json_response(
        {"statusCode": status, "message": text}, status=status, headers=headers
    )


def storage_error(
    status: int, code: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    code = code or STORAGE_CODES.get(status, "InternalError")
    body = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code><Message>Not served.</Message></Error>"
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code, **(headers or {})}
    return web.Response(status=status, body=body.encode(), headers=headers)


def retry_after(form: str, seconds: float, now: datetime) -> dict[str, str]:
    """The header in one of its forms; a date is by the clock of whoever asks, `now`."""
    match form:
        case "absent":
            return {}
        case "junk":
            return {"Retry-After": "soon"}
        case "http_date":
            moment = datetime.fromtimestamp(now.timestamp() + seconds, UTC)
            return {"Retry-After": format_datetime(moment, usegmt=True)}
    return {"Retry-After": str(math.ceil(seconds))}


def fault_response(answer: FaultResponse, step: str, request_id: str) -> web.Response:
    """The answer of a rule that replaces the real one. Raises ConnectionDroppedError."""
    if answer.drop:
        raise ConnectionDroppedError
    status, headers, own = answer.status or 200, dict(answer.headers), answer.body
    if own is None:
        own = (
            "storage_error"
            if step == "blob"
            else "partner_center"
            if step in ("invoices", "invoice")
            else "graph_error"
        )
    match own:
        case "graph_error" | "graph_error_numeric":
            numeric = own == "graph_error_numeric"
            return graph_error(
                status, answer.code, answer.message, headers, numeric=numeric, request_id=request_id
            )
        case "partner_center":
            return partner_center_error(status, answer.message, headers)
        case "storage_error":
            return storage_error(status, answer.code, headers)
        case "message":
            return graph_json(
                status, {"message": answer.message or "An error has occurred."}, headers
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


def spoiled(response: web.Response, answer: FaultResponse) -> web.Response:
    """The real answer, changed as the rule says."""
    body, headers = (
        response.body if isinstance(response.body, bytes) else b"",
        CIMultiDict(response.headers),
    )
    if answer.body == "truncated":
        body = body[: len(body) // 2]
    if answer.body == "text_html":
        body, headers["Content-Type"] = HTML.encode(), "text/html"
    body = spoiled_bytes(body, answer)
    for name in (*answer.without_headers, "Content-Length"):
        headers.popall(name, None)
    headers.update(answer.headers)
    if answer.body == "no_content_type":
        headers.popall("Content-Type", None)
        return BareResponse(status=answer.status or response.status, body=body, headers=headers)
    return web.Response(status=answer.status or response.status, body=body, headers=headers)


class BareResponse(web.Response):
    """Without Content-Type: aiohttp would put one in."""

    async def _start(self, request: web.BaseRequest) -> Any:
        self.headers.popall("Content-Type", None)
        return await super()._start(request)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Content-Type", None)


def spoiled_bytes(body: bytes, answer: FaultResponse, offset: int = 0) -> bytes:
    """`body` is the part of the whole that begins at `offset`."""
    if answer.cut_to is not None:
        body = body[: max(0, answer.cut_to - offset)]
    if answer.corrupt_at is not None and offset <= answer.corrupt_at < offset + len(body):
        at = answer.corrupt_at - offset
        body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
    return body


async def drop_connection(request: web.BaseRequest) -> web.StreamResponse:
    """Ends the connection after what was sent so far, as a broken network does."""
    if request.transport is not None:
        request.transport.close()
    await asyncio.sleep(0)
    return web.Response(status=500)
