"""What goes wrong on the way: one error each, one request each (graph-partner-billing, 9, 11.4, 12 and 13)."""

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
from tests.unit.graph.scripted import (
    BILLED,
    LOOPBACK,
    OPERATION,
    SENTINEL,
    Credential,
    Script,
    accepted,
    answer,
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


async def error_of(script: Script, call: Call, **options: Any) -> BillingExportError:
    with pytest.raises(BillingExportError) as caught:
        await call(script.graph(**options))
    assert_nothing_kept(caught.value)
    return caught.value


def assert_nothing_kept(error: BaseException) -> None:
    """Neither token, signature nor message, in whatever a log, a history or a debugger would show."""
    said = [
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        *traceback.format_exception(error),
    ]
    assert not any(word in text for text in said for word in (SENTINEL, "sig=", "Bearer"))
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
async def test_every_status_with_every_body(
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
    script = Script(response)

    error = await error_of(script, call)

    assert (type(error), error.code, error.http_status, error.request_id) == (
        kind,
        code,
        status,
        "r-1",
    )
    assert error.error_code == CODES.get(body) and len(script.requests) == 1


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
async def test_a_wait_is_handed_on_and_not_served_in_here(
    call: Call,
    status: int,
    header: str | None,
    seconds: int | None,
) -> None:
    script = Script(httpx.Response(status, headers={"Retry-After": header} if header else {}))
    error = await error_of(script, call)
    assert (
        isinstance(error, ThrottledError | UnavailableError)
        and error.retry_after_seconds == seconds
    )
    assert (
        len(script.requests) == 1
    )  # the SDK's own handler would have repeated it up to three times


@call
@pytest.mark.parametrize("request_id", ["a b", "<script>", "x" * 81, "sig=1", ""])
async def test_a_request_id_is_kept_only_where_it_looks_like_one(
    call: Call, request_id: str
) -> None:
    error = await error_of(
        Script(httpx.Response(500, headers={"request-id": request_id, "x-ms-request-id": "good"})),
        call,
    )
    assert error.request_id == "good"


@call
@pytest.mark.parametrize(
    "fault",
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
    ids=lambda fault: type(fault).__name__,
)
async def test_a_broken_connection(call: Call, fault: Exception) -> None:
    script = Script(fault)
    error = await error_of(script, call)
    assert (
        isinstance(error, UnavailableError)
        and error.code == "graph_unavailable"
        and len(script.requests) == 1
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    for name, each in CALLS.items():
        script = Script(
            httpx.Response(
                status, headers={"Location": f"https://elsewhere.example/operations/{name}"}
            )
        )
        error = await error_of(script, each)
        assert (
            error.code == "graph_malformed"
            and error.http_status == status
            and len(script.requests) == 1
        )


@call
async def test_a_claims_challenge_is_answered_once(call: Call) -> None:
    good = accepted() if call is CALLS["start"] else answer(payload("running"))
    credential, script = Credential(), Script(challenge(), good)
    await call(script.graph(credential=credential))
    assert [options["claims"] for _, options in credential.asked] == [None, '{"access_token":{}}']
    assert script.requests[0].content == script.requests[1].content


@call
@pytest.mark.parametrize(
    "claims", ["eyJhY2Nlc3NfdG9rZW4iOnt9fQ==", "eyJhY2Nlc3NfdG9rZW4iOnt9fQ", "%%%", "W10=", "/w=="]
)
@pytest.mark.parametrize("options", [{}, {"base_url": LOOPBACK}], ids=["graph", "loopback"])
async def test_a_second_challenge_is_a_refusal(
    call: Call, claims: str, options: dict[str, Any]
) -> None:
    script = Script(challenge(claims), challenge(claims))
    error = await error_of(script, call, **options)
    assert isinstance(error, RequestRefusedError) and error.code == "graph_unauthorized"


def challenge(claims: str = "eyJhY2Nlc3NfdG9rZW4iOnt9fQ==") -> httpx.Response:
    named = f'Bearer realm="", error="insufficient_claims", claims="{claims}"'
    return httpx.Response(401, headers={"WWW-Authenticate": named}, json=payload("error"))


@call
@pytest.mark.parametrize(
    ("fault", "error_code"),
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
async def test_no_token(call: Call, fault: Exception, error_code: str | None) -> None:
    script = Script()
    error = await error_of(script, call, credential=Credential(error=fault))
    assert isinstance(error, UnavailableError) and (error.code, error.error_code) == (
        "identity_unavailable",
        error_code,
    )
    assert not script.requests  # never without one


@call
async def test_an_empty_token_is_none(call: Call) -> None:
    error = await error_of(Script(), call, credential=Credential(token=""))
    assert error.code == "identity_unavailable"
