"""A client for the HTTP API. It does not retry requests."""

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

TIMEOUT_SECONDS = 60.0
MAX_RESPONSE_BYTES = 64 * 1024 * 1024  # a page of 1,000 runs is about 1 MB
MIN_POLL_SECONDS, MAX_POLL_SECONDS, DEFAULT_POLL_SECONDS = 1.0, 3600.0, 5.0
PROBLEM_MEMBERS = ("type", "title", "status", "code", "remedy")


@dataclass(frozen=True)
class Response:
    """A successful response.

    Attributes:
        body: The JSON object.
        retry_after_seconds: The seconds until the next poll, or None if the app does not request a
            poll.
    """

    body: dict[str, Any]
    retry_after_seconds: float | None = None


class Api:
    """A client for the API, used as a context manager.

    Args:
        address: The app.
        transport: A replacement for the network in tests.
        timeout_seconds: The timeout of each network operation.

    Raises:
        UnreachableError: The app cannot be reached or is unavailable. All methods raise this.
        RequestRefusedError: The app refused the request or the key.
        NotFoundError: The resource does not exist.
    """

    def __init__(
        self,
        address: Address,
        transport: httpx.BaseTransport | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        headers = {"Accept": "application/json", "User-Agent": f"partner-billing/{__version__}"}
        if address.key:
            headers["x-functions-key"] = address.key
        try:
            self._http = httpx.Client(
                base_url=f"{address.url}/api/",
                headers=headers,
                timeout=timeout_seconds,
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
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()
        if error_type is KeyboardInterrupt:
            raise CommandInterruptedError(
                "The command was interrupted. The run continues.",
                "To follow it, run `partner-billing watch`.",
            ) from None

    def get(self, path: str, **query: str | int | None) -> Response:
        """Send a GET request with the query parameters that are not None."""
        return self._send(
            "GET", path, params={name: value for name, value in query.items() if value is not None}
        )

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Response:
        """Send a POST request with a JSON object."""
        return self._send("POST", path, json=dict(body or {}))

    def _send(self, method: str, path: str, **options: Any) -> Response:
        try:
            with self._http.stream(method, path, **options) as response:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > MAX_RESPONSE_BYTES:
                        raise create_unexpected_response_error("The response is too large.")
        except (httpx.HTTPError, OSError) as error:
            connection_error = create_connection_error(error)
        else:
            return parse_response(response, bytes(content))
        # Raised outside the handler: the context of the exception would be the library's error,
        # which contains the request and its key.
        raise connection_error


def parse_response(response: httpx.Response, content: bytes) -> Response:
    """Return a successful response that contains a JSON object; otherwise, raise an error."""
    body = _parse_json(response, content)
    if 200 <= response.status_code < 300 and isinstance(body, dict):
        return Response(body, parse_retry_after(response.headers.get("Retry-After")))
    raise create_status_error(response.status_code, body if isinstance(body, dict) else None)


def create_status_error(status: int, problem: dict[str, Any] | None) -> CommandError:
    """Return the error for a status and the app's problem details.

    The Functions host rejects keys without problem details.
    """
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
        return create_unexpected_response_error(f"The response has status {status}.")
    members = {name: value for name, value in problem.items() if name not in PROBLEM_MEMBERS}
    error_type = (
        UnreachableError
        if status >= 500
        else NotFoundError
        if status == 404
        else RequestRefusedError
    )
    return error_type(
        str(problem.get("title", "")),
        str(problem.get("remedy") or ""),
        str(problem["code"]),
        http_status=status,
        **members,
    )


def create_unexpected_response_error(reason: str) -> UnreachableError:
    """Return the error for a response that is not from the API."""
    return UnreachableError(
        f"This is not the API of Partner Billing Export. {reason}",
        "Check the URL: it must be the URL of the app without a path.",
    )


def create_connection_error(error: Exception) -> UnreachableError:
    """Return the error for a failed request, without the library's message and its URL."""
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


def parse_retry_after(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header within the allowed range.

    >>> [parse_retry_after(value) for value in ("12", None, "soon", "0")]
    [12.0, None, 5.0, 1.0]
    """
    if retry_after is None:
        return None
    try:
        return min(max(float(retry_after), MIN_POLL_SECONDS), MAX_POLL_SECONDS)
    except ValueError:
        return DEFAULT_POLL_SECONDS


def _parse_json(response: httpx.Response, content: bytes) -> Any:
    if "json" not in response.headers.get("Content-Type", ""):
        return None
    try:
        return httpx.Response(200, content=content).json()
    except (ValueError, RecursionError):
        return None
