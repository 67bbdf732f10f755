"""Each failed request causes exactly one error, which contains no response text."""

import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from shared.errors import (
    BillingExportError,
    OperationGoneError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)
from shared.graph.client import GraphBillingClient
from tests.support.fake_service import SENTINEL, FakeCredential, json_response
from tests.unit.graph.fake_graph import (
    BILLED,
    LOOPBACK,
    OPERATION,
    FakeGraph,
    accepted_response,
    payload,
)

Call = Callable[[GraphBillingClient], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "start": lambda graph: graph.start_export(BILLED, None),
    "operation": lambda graph: graph.get_operation(OPERATION),
}
call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)

BODIES: dict[str, dict[str, Any]] = {
    "graph": {"json": payload("error")},
    "numeric": {"json": {"error": {"code": 5000, "message": SENTINEL}}},
    "no_error": {"json": {"message": SENTINEL}},
    "error_text": {"json": {"error": SENTINEL}},
    "list": {"json": [SENTINEL]},
    "empty": {},
    "html": {"text": f"<html>{SENTINEL}</html>", "headers": {"Content-Type": "text/html"}},
    "broken": {
        "content": b'{"error": {"code": "SENTINEL',
        "headers": {"Content-Type": "application/json"},
    },
}
CODES = {"graph": "Authorization_RequestDenied", "numeric": "5000"}


async def get_error(fake_graph: FakeGraph, call: Call, **options: Any) -> BillingExportError:
    with pytest.raises(BillingExportError) as raised:
        await call(fake_graph.create_client(**options))
    assert_contains_no_secret(raised.value)
    return raised.value


def assert_contains_no_secret(error: BaseException) -> None:
    """Verify that logs, histories and debuggers show no token, signature or message."""
    texts = [
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        *traceback.format_exception(error),
    ]
    assert not any(word in text for text in texts for word in (SENTINEL, "sig=", "Bearer"))
    assert error.__context__ is None and error.__cause__ is None


@call
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, RequestRefusedError, "graph_bad_request"),
        (401, RequestRefusedError, "graph_unauthorized"),
        (403, RequestRefusedError, "graph_forbidden"),
        (404, RequestRefusedError, "graph_not_found"),
        (409, RequestRefusedError, "graph_refused"),
        (410, RequestRefusedError, "graph_refused"),
        (415, RequestRefusedError, "graph_refused"),
        (499, RequestRefusedError, "graph_refused"),
        (408, UnavailableError, "graph_unavailable"),
        (425, UnavailableError, "graph_unavailable"),
        (429, ThrottledError, "graph_throttled"),
        *(
            (status, UnavailableError, "graph_unavailable")
            for status in (500, 502, 503, 504, 509, 599)
        ),
    ],
)
async def test_request_with_error_status_raises_error_for_status(
    call: Call,
    body: str,
    status: int,
    kind: type[BillingExportError],
    code: str,
) -> None:
    if call is CALLS["operation"] and status in (404, 410):
        kind, code = OperationGoneError, "operation_gone"
    response = httpx.Response(status, **BODIES[body])
    response.headers["request-id"] = "r-1"
    fake_graph = FakeGraph(response)

    error = await get_error(fake_graph, call)

    assert (type(error), error.code, error.http_status, error.request_id) == (
        kind,
        code,
        status,
        "r-1",
    )
    assert error.error_code == CODES.get(body) and len(fake_graph.requests) == 1


@call
@pytest.mark.parametrize("status", [429, 503, 504, 500])
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2),
        ("179", 179),
        ("300", 300),
        ("Sun, 08 Nov 2026 09:38:00 GMT", 60),
        ("soon", None),
        (None, None),
    ],
)
async def test_request_with_retry_after_returns_wait_without_retry(
    call: Call,
    status: int,
    header: str | None,
    seconds: int | None,
) -> None:
    fake_graph = FakeGraph(
        httpx.Response(status, headers={"Retry-After": header} if header else {})
    )
    error = await get_error(fake_graph, call)
    assert (
        isinstance(error, ThrottledError | UnavailableError)
        and error.retry_after_seconds == seconds
    )
    # The SDK's retry handler would repeat the request up to three times.
    assert len(fake_graph.requests) == 1


@call
@pytest.mark.parametrize("request_id", ["a b", "<fake_graph>", "x" * 81, "sig=1", ""])
async def test_error_contains_only_valid_request_id(call: Call, request_id: str) -> None:
    error = await get_error(
        FakeGraph(
            httpx.Response(500, headers={"request-id": request_id, "x-ms-request-id": "good"})
        ),
        call,
    )
    assert error.request_id == "good"


@call
@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError(SENTINEL),
        httpx.ConnectTimeout(SENTINEL),
        httpx.ReadError(SENTINEL),
        httpx.ReadTimeout(SENTINEL),
        httpx.WriteError(SENTINEL),
        httpx.RemoteProtocolError(SENTINEL),
        httpx.PoolTimeout(SENTINEL),
        httpx.ProxyError(SENTINEL),
        OSError(SENTINEL),
        TimeoutError(SENTINEL),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_request_with_connection_error_raises_unavailable(
    call: Call, failure: Exception
) -> None:
    fake_graph = FakeGraph(failure)
    error = await get_error(fake_graph, call)
    assert (
        isinstance(error, UnavailableError)
        and error.code == "graph_unavailable"
        and len(fake_graph.requests) == 1
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_request_does_not_follow_redirect(status: int) -> None:
    for name, call in CALLS.items():
        fake_graph = FakeGraph(
            httpx.Response(
                status, headers={"Location": f"https://elsewhere.example/operations/{name}"}
            )
        )
        error = await get_error(fake_graph, call)
        assert (
            error.code == "graph_malformed"
            and error.http_status == status
            and len(fake_graph.requests) == 1
        )


@call
async def test_request_with_claims_challenge_is_repeated_once(call: Call) -> None:
    success = accepted_response() if call is CALLS["start"] else json_response(payload("running"))
    credential, fake_graph = FakeCredential(), FakeGraph(challenge(), success)
    await call(fake_graph.create_client(credential=credential))
    assert [options["claims"] for _, options in credential.requests] == [
        None,
        '{"access_token":{}}',
    ]
    assert fake_graph.requests[0].content == fake_graph.requests[1].content


@call
@pytest.mark.parametrize(
    "claims", ["eyJhY2Nlc3NfdG9rZW4iOnt9fQ==", "eyJhY2Nlc3NfdG9rZW4iOnt9fQ", "%%%", "W10=", "/w=="]
)
@pytest.mark.parametrize("options", [{}, {"base_url": LOOPBACK}], ids=["graph", "loopback"])
async def test_request_with_second_claims_challenge_is_refused(
    call: Call, claims: str, options: dict[str, Any]
) -> None:
    fake_graph = FakeGraph(challenge(claims), challenge(claims))
    error = await get_error(fake_graph, call, **options)
    assert isinstance(error, RequestRefusedError) and error.code == "graph_unauthorized"


def challenge(claims: str = "eyJhY2Nlc3NfdG9rZW4iOnt9fQ==") -> httpx.Response:
    header = f'Bearer realm="", error="insufficient_claims", claims="{claims}"'
    return httpx.Response(401, headers={"WWW-Authenticate": header}, json=payload("error"))


@call
@pytest.mark.parametrize(
    ("failure", "error_code"),
    [
        (
            ClientAuthenticationError(f"AADSTS700213: No matching federated identity. {SENTINEL}"),
            "AADSTS700213",
        ),
        (CredentialUnavailableError(message=f"no response {SENTINEL}"), None),
        (ValueError(SENTINEL), None),
    ],
    ids=["refused", "unavailable", "other"],
)
async def test_request_without_token_is_not_sent(
    call: Call, failure: Exception, error_code: str | None
) -> None:
    fake_graph = FakeGraph()
    error = await get_error(fake_graph, call, credential=FakeCredential(error=failure))
    assert isinstance(error, UnavailableError) and (error.code, error.error_code) == (
        "identity_unavailable",
        error_code,
    )
    assert not fake_graph.requests


@call
async def test_request_with_empty_token_raises_identity_unavailable(call: Call) -> None:
    error = await get_error(FakeGraph(), call, credential=FakeCredential(token=""))
    assert error.code == "identity_unavailable"
