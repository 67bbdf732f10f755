"""Starting an export: what is sent, and which operation is read from the answer (graph-partner-billing, 2, 11.4 and 13)."""

import json

import httpx
import pytest

from shared.errors import RequestRefusedError, UnavailableError
from shared.exports import ExportKey
from shared.graph.responses import ExportAccepted
from tests.unit.graph.scripted import (
    BILLED,
    GRAPH,
    LOCATION,
    LOOPBACK,
    OPERATION,
    Credential,
    Script,
    accepted,
    payload,
)

ACTION = "microsoft.graph.partners.billing.export"


@pytest.mark.parametrize("base_url", [GRAPH, "https://graph.microsoft.com/beta", LOOPBACK])
@pytest.mark.parametrize(
    ("key", "period", "path", "body"),
    [
        (
            "billed_usage/G016907411/full",
            None,
            "usage/billed",
            {"invoiceId": "G016907411", "attributeSet": "full"},
        ),
        (
            "billed_reconciliation/G016907411/basic",
            None,
            "reconciliation/billed",
            {"invoiceId": "G016907411", "attributeSet": "basic"},
        ),
        (
            "unbilled_usage/2026-11/USD/basic",
            "current",
            "usage/unbilled",
            {"billingPeriod": "current", "currencyCode": "USD", "attributeSet": "basic"},
        ),
        (
            "unbilled_reconciliation/2026-10/EUR/full",
            "last",
            "reconciliation/unbilled",
            {"billingPeriod": "last", "currencyCode": "EUR", "attributeSet": "full"},
        ),
    ],
)
async def test_each_dataset_has_its_address_and_body(
    base_url: str,
    key: str,
    period: str,
    path: str,
    body: dict[str, str],
) -> None:
    script = Script(accepted())

    got = await script.graph(base_url).start_export(ExportKey.parse(key), period)  # type: ignore[arg-type]

    [request] = script.requests
    assert got == ExportAccepted(OPERATION, None, None)
    assert str(request.url) == f"{base_url}/reports/partners/billing/{path}/{ACTION}"
    assert request.method == "POST" and json.loads(request.content) == body
    assert (
        request.headers["content-type"] == "application/json"
        and request.headers["accept"] == "application/json"
    )


async def test_every_request_has_a_client_request_id_of_its_own() -> None:
    script = Script(accepted(), accepted())
    graph = script.graph()
    await graph.start_export(BILLED, None)
    await graph.start_export(BILLED, None)
    assert len({request.headers["client-request-id"] for request in script.requests}) == 2


async def test_nothing_tells_of_the_machine() -> None:
    script = Script(accepted())
    await script.graph().start_export(BILLED, None)
    assert set(script.requests[0].headers) == {
        "host",
        "connection",
        "user-agent",
        "accept-encoding",
        "accept",
        "content-type",
        "content-length",
        "authorization",
        "client-request-id",
    }


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(202, headers={"Location": LOCATION}),
        httpx.Response(202, headers={"Location": LOCATION, "Content-Type": "application/json"}),
        httpx.Response(202, headers={"Location": LOCATION}, json=payload("running")),
        httpx.Response(
            202, headers={"Location": LOCATION, "Content-Type": "text/html"}, text="<html>"
        ),
        httpx.Response(
            202,
            headers={
                "Location": f"https://elsewhere.example/v1.0/reports/partners/billing/operations/{OPERATION}"
            },
        ),
        httpx.Response(
            202, headers={"Location": f"/reports/partners/billing/operations/{OPERATION}/"}
        ),
        httpx.Response(
            202, headers={"Location": f"{GRAPH}/reports/partners/billing/operations('{OPERATION}')"}
        ),
        httpx.Response(202, headers={"Location": OPERATION}),
        httpx.Response(
            202, json=payload("running") | {"id": OPERATION}
        ),  # the action's return type, where Location is missing
    ],
    ids=[
        "empty",
        "empty_json",
        "json",
        "html",
        "foreign",
        "relative",
        "key_syntax",
        "bare",
        "body_only",
    ],
)
async def test_202_in_every_shape(response: httpx.Response) -> None:
    assert (await Script(response).graph().start_export(BILLED, None)).operation_id == OPERATION


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("57", 57),
        ("200", 200),
        ("Sun, 08 Nov 2026 09:38:30 GMT", 90),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("0", 0),
    ],
)
async def test_a_wait_with_the_202_is_kept(header: str, seconds: int | None) -> None:
    response = accepted(**{"Retry-After": header, "request-id": "r-1"})
    assert await Script(response).graph().start_export(BILLED, None) == ExportAccepted(
        OPERATION, "r-1", seconds
    )


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(202), "graph_location_missing"),
        (
            httpx.Response(202, json={"id": OPERATION}),
            "graph_location_missing",
        ),  # no operation: neither type nor status
        (httpx.Response(202, json=payload("running") | {"id": "../x"}), "graph_location_missing"),
        (httpx.Response(202, headers={"Location": ""}), "graph_malformed"),
        (
            httpx.Response(
                202, headers={"Location": f"{GRAPH}/reports/partners/billing/operations/"}
            ),
            "graph_malformed",
        ),
        (
            httpx.Response(
                202, headers={"Location": f"{GRAPH}/reports/partners/billing/operations/a%2Fb"}
            ),
            "graph_malformed",
        ),
        (
            httpx.Response(
                202, headers={"Location": f"{GRAPH}/reports/partners/billing/operations/-a"}
            ),
            "graph_malformed",
        ),
        (
            httpx.Response(
                202,
                headers={"Location": f"{GRAPH}/reports/partners/billing/operations/{'a' * 129}"},
            ),
            "graph_malformed",
        ),
        (
            httpx.Response(
                202, headers={"Location": f"{GRAPH}/reports/partners/billing/manifests/{OPERATION}"}
            ),
            "graph_malformed",
        ),
        (
            httpx.Response(202, headers=[("Location", LOCATION), ("Location", LOCATION + "0")]),
            "graph_malformed",
        ),
    ],
)
async def test_202_without_an_operation_to_ask_for(response: httpx.Response, code: str) -> None:
    script = Script(response)
    with pytest.raises(UnavailableError) as caught:
        await script.graph().start_export(BILLED, None)
    assert (
        caught.value.code == code and caught.value.http_status == 202 and len(script.requests) == 1
    )


async def test_an_unbilled_month_without_a_word_is_not_asked_for() -> None:
    script = Script()
    with pytest.raises(RequestRefusedError) as caught:
        await script.graph().start_export(ExportKey.parse("unbilled_usage/2025-01/USD/full"), None)
    assert caught.value.code == "not_served" and not script.requests


async def test_the_token_goes_to_graph_only() -> None:
    credential, script, local = Credential(), Script(accepted()), Script(accepted())
    await script.graph(credential=credential).start_export(BILLED, None)
    assert script.requests[0].headers["authorization"] == f"Bearer {credential.token}"
    assert [scopes for scopes, _ in credential.asked] == [("https://graph.microsoft.com/.default",)]

    await local.graph(LOOPBACK, credential).start_export(BILLED, None)
    assert "authorization" not in local.requests[0].headers and len(credential.asked) == 1
