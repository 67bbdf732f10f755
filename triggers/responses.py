"""Successful responses of the HTTP API and their headers."""

import hashlib
import json
import math
from datetime import datetime
from typing import Any

import azure.functions as func
from pydantic import BaseModel

from shared.clock import parse_iso

DEFAULT_RETRY_AFTER_SECONDS = 5
DEFAULT_RETRY_AFTER = {"Retry-After": str(DEFAULT_RETRY_AFTER_SECONDS)}
MAX_HEADER_CHARACTERS = 4_000


def retry_after(now: datetime, next_check_at: str = "") -> dict[str, str]:
    """Return the `Retry-After` header of a resource that is still changing.

    Args:
        now: The current time.
        next_check_at: When the orchestration continues; "" if unknown.
    """
    if not next_check_at:
        return DEFAULT_RETRY_AFTER
    seconds = math.ceil((parse_iso(next_check_at) - now).total_seconds())
    return {"Retry-After": str(max(1, seconds))}


def to_json(document: BaseModel) -> Any:
    """Return the JSON value of a response model."""
    return document.model_dump(mode="json", by_alias=True)


def encode_json(value: Any) -> bytes:
    """Encode a JSON value as UTF-8; lone surrogates, which UTF-8 cannot encode, are escaped."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def json_response(status: int, document: Any, **headers: str) -> func.HttpResponse:
    """Return a response with a response model or a JSON value."""
    value = to_json(document) if isinstance(document, BaseModel) else document
    return func.HttpResponse(
        encode_json(value),
        status_code=status,
        headers=headers,
        mimetype="application/json",
        charset="utf-8",
    )


def cacheable_response(
    request: func.HttpRequest, document: Any, **headers: str
) -> func.HttpResponse:
    """Return 200 with an ETag, or 304 if `If-None-Match` contains that ETag.

    Caches must revalidate the response for each request.
    """
    value = to_json(document) if isinstance(document, BaseModel) else document
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    etag = f'"{digest[:32]}"'
    headers = {**headers, "ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in get_if_none_match(request):
        return func.HttpResponse(status_code=304, headers=headers)
    return json_response(200, value, **headers)


def get_if_none_match(request: func.HttpRequest) -> set[str]:
    """Return the ETags of `If-None-Match`, without the prefix of weak ETags."""
    value = request.headers.get("if-none-match", "")[:MAX_HEADER_CHARACTERS]
    return {etag.strip().removeprefix("W/") for etag in value.split(",")}
