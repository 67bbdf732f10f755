"""The Graph endpoints over plain HTTP: documented behaviour and all switches."""

import asyncio
import re
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from local.simulator import Behaviour, FaultResponse, Match, NoStorage, Partner, Simulator, matrix
from tests.integration.simulator.caller import Caller
from tests.support.clocks import FakeClock, MidMonthClock

UNBILLED = {"billingPeriod": "current", "currencyCode": "USD", "attributeSet": "full"}


def billed(simulator: Simulator) -> dict[str, str]:
    return {
        "invoiceId": next(
            invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy
        )
    }


@pytest.mark.parametrize("version", ["v1.0", "beta"])
@pytest.mark.parametrize("action", ["export", "microsoft.graph.partners.billing.export"])
async def test_start_both_action_names_in_both_versions_is_accepted(
    simulator_without_blobs: Simulator, caller: Caller, version: str, action: str
) -> None:
    caller = replace(caller, version=version)
    for dataset in (
        "billed_usage",
        "billed_reconciliation",
        "unbilled_usage",
        "unbilled_reconciliation",
    ):
        started = await caller.start(
            dataset,
            UNBILLED if dataset.startswith("unbilled") else billed(simulator_without_blobs),
            action,
        )
        location = started.headers["Location"]
        assert (started.status, started.body) == (202, b"")
        assert location.startswith(
            f"{caller.base_url}/{version}/reports/partners/billing/operations/"
        )
        assert started.headers["request-id"] and "Retry-After" not in started.headers
        assert (await caller.wait_for_end(started)).json["resourceLocation"]["blobCount"] >= 1
    starts = simulator_without_blobs.requests_of("start")
    invoice = billed(simulator_without_blobs)
    assert [request.json for request in starts] == [invoice, invoice, UNBILLED, UNBILLED]


@pytest.mark.parametrize(
    "path",
    ["//reports/partners/billing/operations/x", "/v1.0//reports/partners/billing", "/nothing"],
)
async def test_unknown_path_returns_404(caller: Caller, path: str) -> None:
    reply = await caller.call("GET", path)
    assert reply.status == 404 and reply.json["error"]["code"] == "ResourceNotFound"


@pytest.mark.parametrize(
    ("dataset", "body"),
    [
        ("billed_usage", {}),
        ("billed_usage", UNBILLED),
        ("billed_usage", {"invoiceId": 5}),
        ("billed_usage", []),
        ("billed_usage", b"{"),
        ("billed_usage", {"invoiceId": "G000000000", "attributeSet": "most"}),
        ("unbilled_usage", {"invoiceId": "G000000000"}),
        ("unbilled_usage", {"billingPeriod": "previous", "currencyCode": "USD"}),
        ("unbilled_usage", {"billingPeriod": "current"}),
        ("unbilled_reconciliation", {**UNBILLED, "more": "1"}),
        ("unbilled_usage", {**UNBILLED, "currencyCode": "JPY"}),
        ("billed_reconciliation", {"invoiceId": "G000000000"}),
    ],
)
async def test_start_invalid_body_returns_400(
    simulator_without_blobs: Simulator, caller: Caller, dataset: str, body: Any
) -> None:
    reply = await caller.start(dataset, body)
    assert (
        reply.status == 400
        and reply.json["error"]["code"] == "BadRequest"
        and not simulator_without_blobs.operations
    )


async def test_start_other_content_type_returns_415(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    assert (
        await caller.start(
            "billed_usage", billed(simulator_without_blobs), **{"Content-Type": "text/plain"}
        )
    ).status == 415


async def test_poll_returns_states_in_order(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    started = await caller.start("billed_usage", billed(simulator_without_blobs))
    polls = [await caller.poll(started) for _ in range(4)]
    assert [poll.json["status"] for poll in polls] == [
        "notStarted",
        "running",
        "succeeded",
        "succeeded",
    ]
    assert [poll.headers.get("Retry-After") for poll in polls] == ["1", "1", None, None]
    operation = polls[-1].json
    assert operation["@odata.type"] == "#microsoft.graph.partners.billing.exportSuccessOperation"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", operation["createdDateTime"])
    assert re.fullmatch(r"\S{19}\.\d{7}Z", operation["lastActionDateTime"])
    first, second = (poll.json["resourceLocation"] for poll in polls[2:])
    assert first.pop("sasToken") != second.pop("sasToken") and first == second
    assert all(
        request.dataset == "billed_usage" for request in simulator_without_blobs.requests_of("poll")
    )


async def test_operation_completes_by_clock(session: aiohttp.ClientSession) -> None:
    clock = FakeClock.at("2026-11-21T10:00:00")
    behaviour = replace(
        Behaviour(), ready_after_seconds=12 * 3600, retry_after_seconds=900, ready_after_polls=0
    )
    simulator = Simulator(storage=NoStorage(), clock=clock, behaviour=behaviour)
    with simulator.serving() as base_url:
        caller = Caller(session, base_url)
        started = await caller.start("unbilled_usage", UNBILLED)
        clock.advance(hours=11, minutes=50)
        reply = await caller.poll(started)
        assert reply.headers["Retry-After"] == "600" and reply.json["status"] == "notStarted"
        clock.advance(minutes=10)
        assert (await caller.poll(started)).json["status"] == "succeeded"


async def test_every_switch_handles_every_export_without_internal_error(
    session: aiohttp.ClientSession,
) -> None:
    for behaviour in matrix():
        simulator = Simulator(
            storage=NoStorage(),
            clock=MidMonthClock(),
            behaviour=behaviour,
            partner=Partner(customers=1, resources=1),
        )
        legacy = next(invoice.invoice_id for invoice in simulator.invoices() if invoice.legacy)
        with simulator.serving() as base_url:
            caller = Caller(session, base_url)
            for key in (
                *simulator.export_keys()[::2],
                f"billed_usage/{legacy}/basic",
                "billed_usage/G000000001/full",
                f"unbilled_usage/{simulator.month('last')}/JPY/full",
            ):
                started = await caller.start_key(key, str(simulator.month("current")))
                for _ in range(4 if "Location" in started.headers else 0):
                    await caller.poll(started)
            for path in (
                "/v1/invoices",
                f"/v1/invoices/{legacy}",
                "/v1.0/reports/partners/billing/operations",
            ):
                await caller.call("GET", path)


async def finish_export(
    simulator: Simulator, caller: Caller, body: dict[str, str] | None = None, **switches: Any
) -> Any:
    simulator.behaviour = replace(Behaviour(), **switches)
    return (
        await caller.wait_for_end(await caller.start("billed_usage", body or billed(simulator)))
    ).json


async def test_manifest_switch_determines_where_manifest_is(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    link, manifest = "resourceLocation@odata.navigationLink", "resourceLocation"
    assert isinstance(
        (await finish_export(simulator_without_blobs, caller, manifest="inline"))[manifest], dict
    )
    linked = await finish_export(simulator_without_blobs, caller, manifest="link")
    assert manifest not in linked and linked[link].startswith(
        f"{caller.base_url}/v1.0/reports/partners/billing/manifests/"
    )
    assert isinstance(
        (await finish_export(simulator_without_blobs, caller, manifest="string"))[manifest], str
    )
    assert {link, manifest} <= set(
        await finish_export(simulator_without_blobs, caller, manifest="link_and_inline")
    )
    response = await caller.call("GET", linked[link])
    assert response.status == 200 and response.json["blobCount"] == len(response.json["blobs"])
    assert (await caller.call("GET", linked[link] + "0")).status == 404


async def test_failure_switches_determine_error(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    assert (await finish_export(simulator_without_blobs, caller, operation_end="failed_5000"))[
        "error"
    ] == {
        "message": "No data available",
        "code": "5000",
    }
    assert (
        await finish_export(
            simulator_without_blobs, caller, operation_end="failed_5000", failure_code="number"
        )
    )["error"]["code"] == 5000
    assert (await finish_export(simulator_without_blobs, caller, operation_end="failed_other"))[
        "error"
    ]["code"] == "5003"
    unknown, legacy = (
        {"invoiceId": "G000000001"},
        {"invoiceId": next(i.invoice_id for i in simulator_without_blobs.invoices() if i.legacy)},
    )
    assert (
        await finish_export(simulator_without_blobs, caller, unknown, unknown_invoice="failed_5000")
    )["error"]["code"] == "5000"
    assert (await finish_export(simulator_without_blobs, caller, legacy))["error"]["code"] == "5000"
    empty = (
        await finish_export(simulator_without_blobs, caller, unknown, unknown_invoice="zero_blobs")
    )["resourceLocation"]
    assert empty["blobCount"] == 0 and "InvoiceId=G000000001" in empty["rootDirectory"]
    simulator_without_blobs.behaviour = replace(Behaviour(), unknown_invoice="not_found")
    assert (await caller.start("billed_usage", unknown)).status == 404


async def test_retry_after_switches_determine_header(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    async def header(**switches: Any) -> str | None:
        simulator_without_blobs.behaviour = replace(
            Behaviour(), retry_after_seconds=200, **switches
        )
        value = (
            await caller.poll(await caller.start("billed_usage", billed(simulator_without_blobs)))
        ).headers.get("Retry-After")
        return None if value is None else str(value)

    assert (
        await header(),
        await header(retry_after="junk"),
        await header(retry_after="absent"),
    ) == ("200", "soon", None)
    retry_at = parsedate_to_datetime(await header(retry_after="http_date") or "")
    wait = retry_at - simulator_without_blobs.clock.now()
    assert timedelta(seconds=190) < wait <= timedelta(seconds=200)
    simulator_without_blobs.behaviour = replace(Behaviour(), start_retry_after="seconds")
    assert (await caller.start("billed_usage", billed(simulator_without_blobs))).headers[
        "Retry-After"
    ] == "1"


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        ("empty", False, None),
        ("empty_json", False, "application/json"),
        ("json", True, "application/json"),
    ],
)
async def test_start_body_switch_determines_202_response(
    simulator_without_blobs: Simulator,
    caller: Caller,
    value: str,
    body: bool,
    content_type: str | None,
) -> None:
    simulator_without_blobs.behaviour = Behaviour().with_switches(f"start_body={value}")
    reply = await caller.start("billed_usage", billed(simulator_without_blobs))
    assert bool(reply.body) == body and (reply.headers.get("Content-Type") or "").startswith(
        content_type or ""
    )
    assert content_type or "Content-Type" not in reply.headers


async def test_poll_expired_operation_returns_404_or_410(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    simulator_without_blobs.behaviour = replace(Behaviour(), operation_lifetime_reads=3, gone="410")
    started = await caller.start("billed_usage", billed(simulator_without_blobs))
    assert [(await caller.poll(started)).status for _ in range(4)] == [200, 200, 200, 410]
    started = await caller.start("billed_usage", billed(simulator_without_blobs))
    simulator_without_blobs.expire_operations()
    simulator_without_blobs.behaviour = Behaviour()
    assert (await caller.poll(started)).status == 404


async def test_repeated_start_switch_returns_new_or_same_operation(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    for value, count in (("new_operation", 3), ("same_operation", 1)):
        simulator_without_blobs.behaviour = Behaviour().with_switches(f"repeated_start={value}")
        simulator_without_blobs.expire_operations()
        locations = {
            (await caller.start("billed_usage", billed(simulator_without_blobs))).headers[
                "Location"
            ]
            for _ in range(3)
        }
        operations = simulator_without_blobs.operations
        assert {url.rsplit("/", 1)[-1] for url in locations} == {
            operation.operation_id for operation in operations
        }
        assert len(operations) == count


async def test_operation_data_switch_returns_original_or_newest_data(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    started = await caller.start("billed_usage", billed(simulator_without_blobs))
    before = (await caller.wait_for_end(started)).json["resourceLocation"]["eTag"]
    newest = simulator_without_blobs.restate(
        f"billed_usage/{billed(simulator_without_blobs)['invoiceId']}/full"
    ).etag
    assert (await caller.poll(started)).json["resourceLocation"]["eTag"] == before != newest
    simulator_without_blobs.behaviour = replace(Behaviour(), operation_data="newest")
    assert (await caller.poll(started)).json["resourceLocation"]["eTag"] == newest


async def test_authorization_is_required_by_switch_and_never_recorded(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    simulator_without_blobs.behaviour = replace(Behaviour(), authorization="required")
    assert (await caller.start("billed_usage", billed(simulator_without_blobs))).status == 401
    assert (await caller.call("GET", "/v1/invoices")).status == 401
    assert (
        await caller.start(
            "billed_usage", billed(simulator_without_blobs), Authorization="Bearer t0p"
        )
    ).status == 202
    assert simulator_without_blobs.requests[-1].authorized and "t0p" not in repr(
        simulator_without_blobs.requests
    )
    simulator_without_blobs.behaviour = replace(Behaviour(), authorization="claims_challenge")
    first, second = [
        await caller.start(
            "billed_usage", billed(simulator_without_blobs), Authorization="Bearer x"
        )
        for _ in range(2)
    ]
    assert (first.status, second.status) == (401, 202) and "claims=" in first.headers[
        "WWW-Authenticate"
    ]
    simulator_without_blobs.behaviour = replace(Behaviour(), permission="denied")
    assert (await caller.start("billed_usage", billed(simulator_without_blobs))).json["error"][
        "code"
    ] == "Authorization_RequestDenied"


async def test_throttling_switches_return_429(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    simulator_without_blobs.behaviour = replace(Behaviour(), throttle_every=3)
    statuses = [
        (await caller.start("billed_usage", billed(simulator_without_blobs))).status
        for _ in range(6)
    ]
    assert statuses == [202, 202, 429] * 2
    simulator_without_blobs.expire_operations()
    simulator_without_blobs.behaviour = replace(Behaviour(), concurrent_operations=2)
    assert [
        (await caller.start("billed_usage", billed(simulator_without_blobs))).status
        for _ in range(3)
    ] == [
        202,
        202,
        429,
    ]


async def test_aggregated_usage_exists_only_in_beta(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    path = "/reports/partners/billing/aggregatedUsage/billed/export"
    assert (
        await caller.call("POST", "/v1.0" + path, billed(simulator_without_blobs))
    ).status == 404
    assert (
        await caller.call("POST", "/beta" + path, billed(simulator_without_blobs))
    ).status == 501
    simulator_without_blobs.behaviour = replace(Behaviour(), aggregated_usage="accepted")
    assert (
        await caller.call("POST", "/beta" + path, billed(simulator_without_blobs))
    ).status == 202


async def test_new_invoice_is_exportable_after_first_hours(session: aiohttp.ClientSession) -> None:
    clock = FakeClock.at("2026-11-08T08:00:00")
    simulator = Simulator(storage=NoStorage(), clock=clock)
    body = {
        "invoiceId": [invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy][
            -1
        ]
    }
    with simulator.serving() as base_url:
        caller = Caller(session, base_url)
        assert "error" in await finish_export(
            simulator, caller, body, invoice_exportable="failed_5000_at_first"
        )
        simulator.behaviour = replace(Behaviour(), invoice_exportable="running_at_first")
        started = await caller.start("billed_usage", body)
        assert [(await caller.poll(started)).json["status"] for _ in range(5)][-1] == "running"
        clock.advance(days=1)
        assert (await caller.poll(started)).json["status"] == "succeeded"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 502, 503, 504, 509])
async def test_fault_with_any_status_and_body_is_returned(
    simulator_without_blobs: Simulator, caller: Caller, status: int
) -> None:
    bodies: list[tuple[Any, bytes]] = [
        ("graph_error", b'{"error": {"code": "'),
        ("graph_error_numeric", f'{{"error": {{"code": {status}'.encode()),
        ("empty", b""),
        ("html", b"<!DOCTYPE"),
        ("broken_json", b'{"error": {"code": "Brok'),
        ("message", b'{"message"'),
        ("json_list", b"[]"),
    ]
    for body, start in bodies:
        simulator_without_blobs.faults.clear()
        simulator_without_blobs.faults.add(
            Match(operation="start"),
            FaultResponse(status=status, body=body, headers={"Retry-After": "200"}),
        )
        reply = await caller.start("billed_usage", billed(simulator_without_blobs))
        assert (reply.status, reply.headers["Retry-After"]) == (status, "200") and reply.headers[
            "request-id"
        ]
        assert reply.body.startswith(start) and (reply.body or not start)
    assert not simulator_without_blobs.operations


async def test_fault_modifies_real_response(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    started = await caller.start("billed_usage", billed(simulator_without_blobs))

    async def poll_with_fault(**fault: Any) -> Any:
        simulator_without_blobs.faults.clear()
        simulator_without_blobs.faults.add(Match(operation="poll"), FaultResponse(**fault))
        return await caller.poll(started)

    assert (await poll_with_fault(body="text_html")).headers["Content-Type"] == "text/html"
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
        _ = (await poll_with_fault(body="truncated")).json
    untyped = await poll_with_fault(body="no_content_type")
    assert "Content-Type" not in untyped.headers and untyped.json["id"]
    assert (
        (await poll_with_fault(body="json_list")).json,
        (await poll_with_fault(body="json_string")).json,
    ) == (
        [],
        "text",
    )
    with pytest.raises(aiohttp.ClientPayloadError):
        await poll_with_fault(drop_after=20)
    assert (await poll_with_fault(delay=0.05, headers={"Retry-After": "9"})).headers[
        "Retry-After"
    ] == "9"


async def test_fault_drop_before_or_after_determines_whether_export_starts(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    for when, started in (("before", 0), ("after", 1)):
        simulator_without_blobs.faults.clear()
        simulator_without_blobs.faults.add(
            Match(operation="start", nth=(1,)), FaultResponse(drop=True, when=when)
        )
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await caller.start("billed_usage", billed(simulator_without_blobs))
        assert (
            len(simulator_without_blobs.operations) == started
            and simulator_without_blobs.requests[-1].status is None
            and simulator_without_blobs.requests[-1].fault
        )


async def test_fifty_concurrent_starts_are_accepted(
    simulator_without_blobs: Simulator, caller: Caller
) -> None:
    replies = await asyncio.gather(*(caller.start("unbilled_usage", UNBILLED) for _ in range(50)))
    assert {reply.status for reply in replies} == {202} and len(
        simulator_without_blobs.operations
    ) == 50


def test_serving_internal_error_raises_at_end() -> None:
    simulator = Simulator(storage=NoStorage(), clock=MidMonthClock())
    simulator.crashes.append("Traceback: something")
    with pytest.raises(RuntimeError, match="Traceback: something"), simulator.serving():
        assert simulator.storage_origin == "http://127.0.0.1:10000"
