"""A fake API of the app, and the results of commands."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

KEY = "SENTINEL-function-key"
URL = "https://app.example.org"


def create_response(
    status: int, body: Any = None, content_type: str = "application/json", **headers: str
) -> httpx.Response:
    """Return a response with a JSON body. Header names use underscores instead of hyphens."""
    all_headers = {
        "Content-Type": content_type,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return httpx.Response(
        status, content=b"" if body is None else json.dumps(body).encode(), headers=all_headers
    )


def create_problem(
    status: int, code: str, title: str = "Failed.", remedy: str = "Retry.", **members: Any
) -> httpx.Response:
    return create_response(
        status,
        {
            "type": "about:blank",
            "title": title,
            "status": status,
            "code": code,
            "remedy": remedy,
            **members,
        },
        "application/problem+json",
    )


@dataclass
class FakeApi:
    """An API that returns prepared responses in order and repeats the last one."""

    responses: list[httpx.Response | Exception] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        if isinstance(response, Exception):
            raise response
        return httpx.Response(
            response.status_code, headers=response.headers, content=response.content
        )

    @property
    def calls(self) -> list[str]:
        """The method and the path of each request."""
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


RunCommand = Callable[..., CommandResult]


def create_run(**changes: Any) -> dict[str, Any]:
    """Return a run as the API returns it, with `changes` to its fields."""
    return {
        "run_id": "billed-usage-g1-full-20261108t093700z",
        "key": "billed_usage/G1/full",
        "dataset": "billed_usage",
        "invoice_id": "G1",
        "stage": "starting",
        "outcome": None,
        "code": None,
        "cause": None,
        "remedy": None,
        "started_at": "2026-11-08T09:37:00Z",
        "blobs": {"total": 0, "landed": 0, "failed": 0},
        "bytes": 0,
        "rows": 0,
        "path": None,
        **changes,
    }
