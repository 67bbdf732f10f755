"""A fake Microsoft Graph with prepared responses, and a fake credential."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from azure.core.credentials import AccessToken

from shared.exports import ExportKey
from shared.graph.client import GraphBillingClient
from tests.support.clocks import FakeClock

GRAPH = "https://graph.microsoft.com/v1.0"
LOOPBACK = "http://127.0.0.1:8700/v1.0"
NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
SENTINEL = "SENTINEL"  # part of every token, signature and message, which the app must not keep
OPERATION = "9ab9cb54-d07f-4f52-9ea6-a09d7de52c14"
LOCATION = f"{GRAPH}/reports/partners/billing/operations/{OPERATION}"
BILLED = ExportKey.parse("billed_usage/G016907411/full")


def payload(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "payloads" / f"{name}.json").read_text())  # type: ignore[no-any-return]


def inline_operation(**changes: Any) -> dict[str, Any]:
    """Return a succeeded operation with an inline manifest and `changes` to its members."""
    operation = payload("linked")
    del operation["resourceLocation@odata.navigationLink"]
    return operation | {"resourceLocation": payload("manifest")} | changes


class FakeCredential:
    """A credential that returns a token or raises an error, and records the requests."""

    def __init__(self, token: str = f"{SENTINEL}-token", error: Exception | None = None) -> None:
        self.token, self.error = token, error
        self.requests = list[tuple[tuple[str, ...], dict[str, Any]]]()

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.requests.append((scopes, options))
        if self.error is not None:
            raise self.error
        return AccessToken(self.token, 4_000_000_000)

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


class FakeGraph:
    """Returns the responses, or raises the exceptions, in order.

    An additional request fails the test.
    """

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses, self.requests = list(responses), list[httpx.Request]()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.responses, (
            f"request {len(self.requests)} is unexpected: {request.method} {request.url.path}"
        )
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    def create_client(
        self, base_url: str = GRAPH, credential: Any = None, **options: Any
    ) -> GraphBillingClient:
        return GraphBillingClient(
            base_url=base_url,
            credential=credential or FakeCredential(),
            clock=FakeClock(NOW),
            transport=httpx.MockTransport(self),
            **options,
        )

    @property
    def paths(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def accepted_response(**headers: str) -> httpx.Response:
    return httpx.Response(202, headers={"Location": LOCATION, **headers})


def json_response(document: Any, status: int = 200, **headers: str) -> httpx.Response:
    """Return a JSON response; in the names of `headers`, `_` stands for `-`."""
    return httpx.Response(
        status,
        json=document,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
