"""The invoices in Partner Center over plain HTTP."""

from dataclasses import replace

import aiohttp
import pytest

from local.simulator import Behaviour, FaultResponse, Match, NoStorage, Partner, Simulator
from tests.integration.simulator.caller import Caller


async def test_list_ignores_size_and_offset(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    reply = await caller.call("GET", "/v1/invoices?size=1&offset=1")
    document = reply.json
    assert document["totalCount"] == len(document["items"]) == 3 and document["attributes"] == {
        "objectType": "Collection"
    }
    assert {item["id"] for item in document["items"]} == {
        invoice.invoice_id for invoice in simulator_without_blobs.invoices()
    }
    item = next(item for item in document["items"] if item["id"].startswith("G"))
    assert (item["documentType"], item["invoiceType"], item["currencyCode"]) == (
        "invoice",
        "Recurring",
        "USD",
    )
    assert "billingPeriodStartDate" not in item and item["invoiceDate"].endswith("T07:13:00Z")
    assert f"{item['totalCharges']:.2f}" in {
        f"{invoice.total}" for invoice in simulator_without_blobs.invoices()
    }


async def test_single_invoice_contains_billing_period(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    invoice = simulator_without_blobs.invoices()[0]
    document = (await caller.call("GET", f"/v1/invoices/{invoice.invoice_id}")).json
    assert document["billingPeriodStartDate"] == f"{invoice.month}-01T00:00:00Z"
    missing = await caller.call("GET", "/v1/invoices/G000000000")
    assert missing.status == 404 and missing.json["statusCode"] == 404


async def test_invoice_paging_switch_returns_pages(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    simulator_without_blobs.behaviour = replace(
        Behaviour(), invoice_paging="paged", invoice_periods="present", invoice_spelling="table"
    )
    path, ids = "/invoices?size=2", list[str]()
    while path:
        document = (await caller.call("GET", "/v1" + path)).json
        ids += [item["id"] for item in document["items"]]
        assert all(
            "billingPeriodEndDate" in item and item["documentType"] == "Invoice"
            for item in document["items"]
        )
        path = document["links"].get("next", {}).get("uri", "")
    assert sorted(ids) == sorted(
        invoice.invoice_id for invoice in simulator_without_blobs.invoices()
    )
    queries = [request.query for request in simulator_without_blobs.requests_of("invoices")]
    assert queries == ["size=2", "size=2&offset=2"]


async def test_amended_invoice_switch_returns_void_note_and_new_invoice(
    session: aiohttp.ClientSession,
) -> None:
    behaviour = replace(Behaviour(), amended_invoice="reissued")
    simulator = Simulator(
        storage=NoStorage(), behaviour=behaviour, partner=Partner(currencies=("EUR",))
    )
    with simulator.serving() as base_url:
        items = (await Caller(session, base_url).call("GET", "/v1/invoices")).json["items"]
    void = next(item for item in items if item["documentType"] == "void_note")
    new = next(item for item in items if item.get("amendsOf") == void["id"])
    assert [amendment["id"] for amendment in void["amendments"]] == [new["id"]] and new[
        "totalCharges"
    ] == void["totalCharges"]


async def test_errors_have_partner_center_format(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    simulator_without_blobs.faults.add(
        Match(operation="invoices", nth=(1,)),
        FaultResponse(status=429, headers={"Retry-After": "57"}),
    )
    reply = await caller.call("GET", "/v1/invoices")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "57")
    assert reply.json == {
        "statusCode": 429,
        "message": "Rate limit is exceeded. Try again in 57 seconds.",
    }
    simulator_without_blobs.behaviour = replace(Behaviour(), partner_center_permission="denied")
    assert (await caller.call("GET", "/v1/invoices")).json["statusCode"] == 403


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/"])
async def test_unknown_path_returns_404(caller: Caller, path: str) -> None:
    assert (await caller.call("GET", path)).json["statusCode"] == 404
