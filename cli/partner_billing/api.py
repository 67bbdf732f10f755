"""The API's calls: JSON in and out, and what is not an answer as one of the failures. Repeats nothing by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from partner_billing import __version__
from partner_billing.address import KEY, Address
from partner_billing.errors import (
    CommandError,
    CommandInterruptedError,
    NotFoundError,
    RequestRefusedError,
    UnreachableError,
)

SECONDS = 60.0
LARGEST = 64 * 1024 * 1024  # bytes of an answer; a page of a thousand runs has about one
SHORTEST, LONGEST, USUAL = 1.0, 3600.0, 5.0  # seconds between two looks
PROBLEM = ("type", "title", "status", "code", "remedy")


@dataclass(frozen=True)
class Answer:
    """`retry_after`: seconds until it is worth asking again, None where the app does not expect that."""

    body: dict[str, Any]
    retry_after: float | None = None


class Api:
    """`with Api(address) as api:`. `transport` replaces the network in tests.

    Every call raises UnreachableError, RequestRefusedError, NotFoundError or CommandError.
    """

    def __init__(
        self,
        address: Address,
        transport: httpx.BaseTransport | None = None,
        seconds: float = SECONDS,
    ) -> None:
        headers = {"Accept": "application/json", "User-Agent": f"partner-billing/{__version__}"}
        if address.key:
            headers["x-functions-key"] = address.key
        try:
            self._http = httpx.Client(
                base_url=f"{address.url}/api/",
                headers=headers,
                timeout=seconds,
                follow_redirects=False,
                transport=transport,
            )
        except UnicodeEncodeError:
            raise RequestRefusedError(
                f"{KEY} contains characters that are not allowed in a key.",
                f"Set {KEY} to a function key of the app.",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()
        if kind is KeyboardInterrupt:
            raise CommandInterruptedError(
                "CommandInterruptedError. The run continues.",
                "To follow it, run `partner-billing watch`.",
            ) from None

    def get(self, path: str, **query: str | int | None) -> Answer:
        return self._ask(
            "GET", path, params={name: value for name, value in query.items() if value is not None}
        )

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        return self._ask("POST", path, json=dict(body or {}))

    def _ask(self, method: str, path: str, **more: Any) -> Answer:
        try:
            with self._http.stream(method, path, **more) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > LARGEST:
                        raise strange("The response is too large.")
        except (httpx.HTTPError, OSError) as error:
            failure = unreached(error)
        else:
            return read(response, bytes(content))
        raise failure  # out here, so that the library's error, which holds the request and its key, is not its context


def read(response: httpx.Response, content: bytes) -> Answer:
    said = _json(response, content)
    if 200 <= response.status_code < 300 and isinstance(said, dict):
        return Answer(said, seconds_of(response.headers.get("Retry-After")))
    raise failure_of(response.status_code, said if isinstance(said, dict) else None)


def failure_of(status: int, problem: dict[str, Any] | None) -> CommandError:
    """A refusal in the app's words where it sent some; the host refuses keys without any."""
    if problem is None or "code" not in problem:
        if status in (401, 403):
            return RequestRefusedError(
                "The app did not accept the key.",
                f"Set {KEY} to a function key of the app.",
                http_status=status,
            )
        if status >= 500:
            return UnreachableError(
                "The app is temporarily unavailable.",
                "Try again. If the error persists, check the logs of the app.",
                http_status=status,
            )
        return strange(f"The response has status {status}.")
    members = {name: value for name, value in problem.items() if name not in PROBLEM}
    kind = (
        UnreachableError
        if status >= 500
        else NotFoundError
        if status == 404
        else RequestRefusedError
    )
    return kind(
        str(problem.get("title", "")),
        str(problem.get("remedy") or ""),
        str(problem["code"]),
        http_status=status,
        **members,
    )


def strange(what: str) -> UnreachableError:
    return UnreachableError(
        f"This is not the API of Partner Billing Export. {what}",
        "Check the URL: it must be the URL of the app without a path.",
    )


def unreached(error: Exception) -> UnreachableError:
    """In our words: those of the library name the request."""
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(
            "The app did not respond in time.",
            "Try again. A cold start of the app can take a while.",
        )
    if isinstance(error, httpx.ConnectError):
        return UnreachableError(
            "Could not connect to the app.",
            "Check the URL and the network. To start a local stack, run `make run`.",
        )
    return UnreachableError(
        "The connection to the app was closed.",
        "Try again. Starting the same export twice has no additional effect.",
    )


def seconds_of(retry_after: str | None) -> float | None:
    """>>> seconds_of("12"), seconds_of(None), seconds_of("soon"), seconds_of("0")
    (12.0, None, 5.0, 1.0)
    """
    if retry_after is None:
        return None
    try:
        return min(max(float(retry_after), SHORTEST), LONGEST)
    except ValueError:
        return USUAL


def _json(response: httpx.Response, content: bytes) -> Any:
    if "json" not in response.headers.get("Content-Type", ""):
        return None
    try:
        return httpx.Response(200, content=content).json()
    except (ValueError, RecursionError):
        return None
