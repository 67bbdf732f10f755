"""Single things with an ETag: who has the same already is told so, and nothing more."""

import hashlib
import json
from typing import Any

import azure.functions as func

from triggers.problem import answer


def resource(request: func.HttpRequest, body: Any, **headers: str) -> func.HttpResponse:
    """200 with its ETag, or 304 where If-None-Match names it. A cache must ask each time."""
    etag = f'"{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]}"'
    headers = {**headers, "ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in known_to(request):
        return func.HttpResponse(status_code=304, headers=headers)
    return answer(200, body, **headers)


def known_to(request: func.HttpRequest) -> set[str]:
    """The ETags of If-None-Match, weak or not: for a comparison of this kind they are the same (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    return {one.strip().removeprefix("W/") for one in given[:4_000].split(",")}
