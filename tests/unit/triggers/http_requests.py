"""HTTP requests as the Functions worker passes them to triggers."""

import json
from typing import Any

import azure.functions as func


def make_request(
    body: bytes | None = b"",
    *,
    headers: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    route: dict[str, str] | None = None,
) -> func.HttpRequest:
    """Return a request with a raw body."""
    return func.HttpRequest(
        "POST",
        "https://app.example/api/runs",
        headers=headers or {},
        params=params or {},
        route_params=route or {},
        body=body or b"",
    )


def make_json_request(value: Any) -> func.HttpRequest:
    """Return a request with a JSON body."""
    return make_request(json.dumps(value).encode())
