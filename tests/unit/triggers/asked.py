"""Requests as the worker hands them over."""

import json
from typing import Any

import azure.functions as func


def request(
    body: bytes | None = b"", *, headers: dict[str, str] | None = None, **route: str
) -> func.HttpRequest:
    return func.HttpRequest(
        "POST",
        "https://app.example/api/runs",
        headers=headers or {},
        params={},
        route_params=route,
        body=body or b"",
    )


def of_json(value: Any) -> func.HttpRequest:
    return request(json.dumps(value).encode())
