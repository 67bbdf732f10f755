"""A fake HTTP service with prepared responses, and a fake credential."""

from datetime import UTC, datetime
from typing import Any

import httpx
from azure.core.credentials import AccessToken

from tests.support.clocks import FakeClock

NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
SENTINEL = "SENTINEL"  # part of every token, signature and message, which the app must not keep
LOOPBACK_ORIGIN = "http://127.0.0.1:8700"


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

    @property
    def scopes(self) -> list[str]:
        """The scopes of all requests."""
        return [scope for scopes, _ in self.requests for scope in scopes]

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


class FakeService:
    """Returns the responses, or raises the exceptions, in order.

    An additional request fails the test.
    """

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses, self.requests = list(responses), list[httpx.Request]()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.responses, (
            f"request {len(self.requests)} is unexpected: {request.method} {request.url}"
        )
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    @property
    def client_options(self) -> dict[str, Any]:
        """The arguments with which a client uses this service and a fake clock."""
        return {"clock": FakeClock(NOW), "transport": httpx.MockTransport(self)}


def json_response(document: Any, status: int = 200, **headers: str) -> httpx.Response:
    """Return a JSON response; the names in `headers` use underscores instead of hyphens."""
    return httpx.Response(
        status,
        json=document,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
