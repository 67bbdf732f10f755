"""A Microsoft Graph that answers from a script, and remembers what it was asked; a credential likewise."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from azure.core.credentials import AccessToken

from shared.exports import ExportKey
from shared.graph.client import GraphBillingClient

GRAPH = "https://graph.microsoft.com/v1.0"
LOOPBACK = "http://127.0.0.1:8700/v1.0"
NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
SENTINEL = "SENTINEL"  # in every text that must not be kept: token, signature, message
OPERATION = "9ab9cb54-d07f-4f52-9ea6-a09d7de52c14"
LOCATION = f"{GRAPH}/reports/partners/billing/operations/{OPERATION}"
BILLED = ExportKey.parse("billed_usage/G016907411/full")


def payload(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "payloads" / f"{name}.json").read_text())  # type: ignore[no-any-return]


def inline(**changes: Any) -> dict[str, Any]:
    """A succeeded operation with its manifest inside; `changes` are of the operation."""
    operation = payload("linked")
    del operation["resourceLocation@odata.navigationLink"]
    return operation | {"resourceLocation": payload("manifest")} | changes


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class Credential:
    """Gives a token, or raises, or waits; keeps what it was asked for."""

    def __init__(self, token: str = f"{SENTINEL}-token", error: Exception | None = None) -> None:
        self.token, self.error, self.asked = (
            token,
            error,
            list[tuple[tuple[str, ...], dict[str, Any]]](),
        )

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.asked.append((scopes, options))
        if self.error is not None:
            raise self.error
        return AccessToken(self.token, 4_000_000_000)

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


class Script:
    """Answers in order: a response is sent, an exception is raised. One request too many fails the test."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.answers, (
            f"request {len(self.requests)} was not expected: {request.method} {request.url.path}"
        )
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def graph(
        self, base_url: str = GRAPH, credential: Any = None, **options: Any
    ) -> GraphBillingClient:
        return GraphBillingClient(
            base_url=base_url,
            credential=credential or Credential(),
            clock=FixedClock(),
            transport=httpx.MockTransport(self),
            **options,
        )

    @property
    def paths(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def accepted(**headers: str) -> httpx.Response:
    return httpx.Response(202, headers={"Location": LOCATION, **headers})


def answer(document: Any, status: int = 200, **headers: str) -> httpx.Response:
    """Header names are written with `_` for `-`."""
    return httpx.Response(
        status,
        json=document,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
