"""Export requests: what is sent, and which operation ID is used."""

import json

import httpx
import pytest

from shared.errors import RequestRefusedError, UnavailableError
from shared.exports import ExportKey
from shared.graph.responses import ExportAccepted
from tests.support.fake_service import FakeCredential
from tests.unit.graph.fake_graph import (
    BILLED,
    GRAPH,
    LOCATION,
    LOOPBACK,
    OPERATION,
    FakeGraph,
    accepted_response,
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
async def test_start_export_sends_path_and_body_of_dataset(
    base_url: str,
    key: str,
    period: str,
    path: str,
    body: dict[str, str],
) -> None:
    fake_graph = FakeGraph(accepted_response())

    result = await fake_graph.create_client(base_url).start_export(ExportKey.parse(key), period)  # type: ignore[arg-type]

    [request] = fake_graph.requests
    assert result == ExportAccepted(OPERATION, None, None)
    assert str(request.url) == f"{base_url}/reports/partners/billing/{path}/{ACTION}"
    assert request.method == "POST" and json.loads(request.content) == body
    assert (
        request.headers["content-type"] == "application/json"
        and request.headers["accept"] == "application/json"
    )


async def test_start_export_sends_unique_client_request_id() -> None:
    fake_graph = FakeGraph(accepted_response(), accepted_response())
    client = fake_graph.create_client()
    await client.start_export(BILLED, None)
    await client.start_export(BILLED, None)
    assert len({request.headers["client-request-id"] for request in fake_graph.requests}) == 2


async def test_start_export_sends_only_expected_headers() -> None:
    fake_graph = FakeGraph(accepted_response())
    await fake_graph.create_client().start_export(BILLED, None)
    assert set(fake_graph.requests[0].headers) == {
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
            headers={"Location": f"https://elsewhere.example/reports/operations/{OPERATION}"},
        ),
        httpx.Response(
            202, headers={"Location": f"/reports/partners/billing/operations/{OPERATION}/"}
        ),
        httpx.Response(
            202, headers={"Location": f"{GRAPH}/reports/partners/billing/operations('{OPERATION}')"}
        ),
        httpx.Response(202, headers={"Location": OPERATION}),
        httpx.Response(202, json=payload("running") | {"id": OPERATION}),
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
async def test_start_export_accepts_every_form_of_operation_id(response: httpx.Response) -> None:
    assert (
        await FakeGraph(response).create_client().start_export(BILLED, None)
    ).operation_id == OPERATION


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
async def test_start_export_returns_retry_after(header: str, seconds: int | None) -> None:
    response = accepted_response(**{"Retry-After": header, "request-id": "r-1"})
    assert await FakeGraph(response).create_client().start_export(BILLED, None) == ExportAccepted(
        OPERATION, "r-1", seconds
    )


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (httpx.Response(202), "graph_location_missing"),
        # The body is not an operation: it has neither type nor status.
        (httpx.Response(202, json={"id": OPERATION}), "graph_location_missing"),
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
async def test_start_export_without_valid_operation_id_raises_unavailable(
    response: httpx.Response, code: str
) -> None:
    fake_graph = FakeGraph(response)
    with pytest.raises(UnavailableError) as raised:
        await fake_graph.create_client().start_export(BILLED, None)
    assert (
        raised.value.code == code
        and raised.value.http_status == 202
        and len(fake_graph.requests) == 1
    )


async def test_start_export_for_old_unbilled_month_sends_no_request() -> None:
    fake_graph = FakeGraph()
    with pytest.raises(RequestRefusedError) as raised:
        await fake_graph.create_client().start_export(
            ExportKey.parse("unbilled_usage/2025-01/USD/full"), None
        )
    assert raised.value.code == "not_served" and not fake_graph.requests


async def test_start_export_sends_token_only_to_graph() -> None:
    credential = FakeCredential()
    fake_graph, fake_simulator = FakeGraph(accepted_response()), FakeGraph(accepted_response())
    await fake_graph.create_client(credential=credential).start_export(BILLED, None)
    assert fake_graph.requests[0].headers["authorization"] == f"Bearer {credential.token}"
    assert [scopes for scopes, _ in credential.requests] == [
        ("https://graph.microsoft.com/.default",)
    ]

    await fake_simulator.create_client(LOOPBACK, credential).start_export(BILLED, None)
    assert (
        "authorization" not in fake_simulator.requests[0].headers and len(credential.requests) == 1
    )
