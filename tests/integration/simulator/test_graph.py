"""Graph's side over plain HTTP: what is documented, and every switch."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from local.simulator import Behaviour, FaultResponse, Match, NoStorage, Partner, Simulator, matrix
from tests.integration.simulator.caller import Caller
from tests.support.clocks import MidMonthClock
from tests.unit.simulator.clocks import StandingClock

UNBILLED = {"billingPeriod": "current", "currencyCode": "USD", "attributeSet": "full"}


def billed(simulator: Simulator) -> dict[str, str]:
    return {
        "invoiceId": next(
            invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy
        )
    }


@pytest.mark.parametrize("version", ["v1.0", "beta"])
@pytest.mark.parametrize("action", ["export", "microsoft.graph.partners.billing.export"])
async def test_both_spellings_in_both_versions(
    talker: Simulator, caller: Caller, version: str, action: str
) -> None:
    caller = replace(caller, version=version)
    for dataset in (
        "billed_usage",
        "billed_reconciliation",
        "unbilled_usage",
        "unbilled_reconciliation",
    ):
        started = await caller.start(
            dataset, UNBILLED if dataset.startswith("unbilled") else billed(talker), action
        )
        location = started.headers["Location"]
        assert (started.status, started.body) == (202, b"")
        assert location.startswith(
            f"{caller.base_url}/{version}/reports/partners/billing/operations/"
        )
        assert started.headers["request-id"] and "Retry-After" not in started.headers
        assert (await caller.end(started)).json["resourceLocation"]["blobCount"] >= 1
    assert len(talker.requests_of("start")) == 4 and talker.requests_of("start")[0].json == billed(
        talker
    )


@pytest.mark.parametrize(
    "path",
    ["//reports/partners/billing/operations/x", "/v1.0//reports/partners/billing", "/nothing"],
)
async def test_other_paths_are_unknown(caller: Caller, path: str) -> None:
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
async def test_a_wrong_body_is_refused(
    talker: Simulator, caller: Caller, dataset: str, body: Any
) -> None:
    reply = await caller.start(dataset, body)
    assert (
        reply.status == 400
        and reply.json["error"]["code"] == "BadRequest"
        and not talker.operations
    )


async def test_the_body_must_be_json(talker: Simulator, caller: Caller) -> None:
    assert (
        await caller.start("billed_usage", billed(talker), **{"Content-Type": "text/plain"})
    ).status == 415


async def test_an_operation_goes_through_its_states(talker: Simulator, caller: Caller) -> None:
    started = await caller.start("billed_usage", billed(talker))
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
    assert len(operation["createdDateTime"]) == 19 and len(operation["lastActionDateTime"]) == 28
    first, second = (poll.json["resourceLocation"] for poll in polls[2:])
    assert first.pop("sasToken") != second.pop("sasToken") and first == second
    assert all(request.dataset == "billed_usage" for request in talker.requests_of("poll"))


async def test_readiness_is_by_the_clock(session: aiohttp.ClientSession) -> None:
    clock = StandingClock.at("2026-11-21T10:00:00")
    behaviour = replace(
        Behaviour(), ready_after_seconds=12 * 3600, retry_after_seconds=900, ready_after_polls=0
    )
    simulator = Simulator(storage=NoStorage(), clock=clock, behaviour=behaviour)
    with simulator.serving() as base_url:
        caller = Caller(session, base_url)
        started = await caller.start("unbilled_usage", UNBILLED)
        clock.forward(hours=11, minutes=50)
        reply = await caller.poll(started)
        assert reply.headers["Retry-After"] == "600" and reply.json["status"] == "notStarted"
        clock.forward(minutes=10)
        assert (await caller.poll(started)).json["status"] == "succeeded"


async def test_every_switch_answers_every_export_without_a_mistake_of_its_own(
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


async def ended(
    simulator: Simulator, caller: Caller, body: dict[str, str] | None = None, **switches: Any
) -> Any:
    simulator.behaviour = replace(Behaviour(), **switches)
    return (await caller.end(await caller.start("billed_usage", body or billed(simulator)))).json


async def test_where_the_manifest_is(talker: Simulator, caller: Caller) -> None:
    link, manifest = "resourceLocation@odata.navigationLink", "resourceLocation"
    assert isinstance((await ended(talker, caller, manifest="inline"))[manifest], dict)
    linked = await ended(talker, caller, manifest="link")
    assert manifest not in linked and linked[link].startswith(
        f"{caller.base_url}/v1.0/reports/partners/billing/manifests/"
    )
    assert isinstance((await ended(talker, caller, manifest="string"))[manifest], str)
    assert {link, manifest} <= set(await ended(talker, caller, manifest="link_and_inline"))
    found = await caller.call("GET", linked[link])
    assert found.status == 200 and found.json["blobCount"] == len(found.json["blobs"])
    assert (await caller.call("GET", linked[link] + "0")).status == 404


async def test_how_it_fails(talker: Simulator, caller: Caller) -> None:
    assert (await ended(talker, caller, operation_end="failed_5000"))["error"] == {
        "message": "No data available",
        "code": "5000",
    }
    assert (await ended(talker, caller, operation_end="failed_5000", failure_code="number"))[
        "error"
    ]["code"] == 5000
    assert (await ended(talker, caller, operation_end="failed_other"))["error"]["code"] == "5003"
    unknown, legacy = (
        {"invoiceId": "G000000001"},
        {"invoiceId": next(i.invoice_id for i in talker.invoices() if i.legacy)},
    )
    assert (await ended(talker, caller, unknown, unknown_invoice="failed_5000"))["error"][
        "code"
    ] == "5000"
    assert (await ended(talker, caller, legacy))["error"]["code"] == "5000"
    nothing = (await ended(talker, caller, unknown, unknown_invoice="zero_blobs"))[
        "resourceLocation"
    ]
    assert nothing["blobCount"] == 0 and "InvoiceId=G000000001" in nothing["rootDirectory"]
    talker.behaviour = replace(Behaviour(), unknown_invoice="not_found")
    assert (await caller.start("billed_usage", unknown)).status == 404


async def test_retry_after_in_its_forms(talker: Simulator, caller: Caller) -> None:
    async def header(**switches: Any) -> str | None:
        talker.behaviour = replace(Behaviour(), retry_after_seconds=200, **switches)
        value = (await caller.poll(await caller.start("billed_usage", billed(talker)))).headers.get(
            "Retry-After"
        )
        return None if value is None else str(value)

    assert (
        await header(),
        await header(retry_after="junk"),
        await header(retry_after="absent"),
    ) == ("200", "soon", None)
    wait = parsedate_to_datetime(await header(retry_after="http_date") or "") - talker.clock.now()
    assert timedelta(seconds=190) < wait <= timedelta(seconds=200)
    talker.behaviour = replace(Behaviour(), start_retry_after="seconds")
    assert (await caller.start("billed_usage", billed(talker))).headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        ("empty", False, None),
        ("empty_json", False, "application/json"),
        ("json", True, "application/json"),
    ],
)
async def test_the_202_in_its_forms(
    talker: Simulator, caller: Caller, value: str, body: bool, content_type: str | None
) -> None:
    talker.behaviour = Behaviour().with_text(f"start_body={value}")
    reply = await caller.start("billed_usage", billed(talker))
    assert bool(reply.body) == body and (reply.headers.get("Content-Type") or "").startswith(
        content_type or ""
    )
    assert content_type or "Content-Type" not in reply.headers


async def test_an_operation_is_forgotten(talker: Simulator, caller: Caller) -> None:
    talker.behaviour = replace(Behaviour(), operation_lifetime_reads=3, gone="410")
    started = await caller.start("billed_usage", billed(talker))
    assert [(await caller.poll(started)).status for _ in range(4)] == [200, 200, 200, 410]
    started = await caller.start("billed_usage", billed(talker))
    talker.expire_operations()
    talker.behaviour = Behaviour()
    assert (await caller.poll(started)).status == 404


async def test_an_equal_export_gives_a_new_or_the_same_operation(
    talker: Simulator, caller: Caller
) -> None:
    for value, count in (("new_operation", 3), ("same_operation", 1)):
        talker.behaviour = Behaviour().with_text(f"repeated_start={value}")
        talker.expire_operations()
        places = {
            (await caller.start("billed_usage", billed(talker))).headers["Location"]
            for _ in range(3)
        }
        assert len(places) == count


async def test_an_old_operation_shows_its_own_data_or_the_newest(
    talker: Simulator, caller: Caller
) -> None:
    started = await caller.start("billed_usage", billed(talker))
    before = (await caller.end(started)).json["resourceLocation"]["eTag"]
    newest = talker.restate(f"billed_usage/{billed(talker)['invoiceId']}/full").etag
    assert (await caller.poll(started)).json["resourceLocation"]["eTag"] == before != newest
    talker.behaviour = replace(Behaviour(), operation_data="newest")
    assert (await caller.poll(started)).json["resourceLocation"]["eTag"] == newest


async def test_authorization_is_only_demanded_by_switch_and_never_recorded(
    talker: Simulator, caller: Caller
) -> None:
    talker.behaviour = replace(Behaviour(), authorization="demanded")
    assert (await caller.start("billed_usage", billed(talker))).status == 401
    assert (await caller.call("GET", "/v1/invoices")).status == 401
    assert (
        await caller.start("billed_usage", billed(talker), Authorization="Bearer t0p")
    ).status == 202
    assert talker.requests[-1].authorized and "t0p" not in repr(talker.requests)
    talker.behaviour = replace(Behaviour(), authorization="claims_challenge")
    first, second = [
        await caller.start("billed_usage", billed(talker), Authorization="Bearer x")
        for _ in range(2)
    ]
    assert (first.status, second.status) == (401, 202) and "claims=" in first.headers[
        "WWW-Authenticate"
    ]
    talker.behaviour = replace(Behaviour(), permission="denied")
    assert (await caller.start("billed_usage", billed(talker))).json["error"][
        "code"
    ] == "Authorization_RequestDenied"


async def test_throttling_and_concurrency(talker: Simulator, caller: Caller) -> None:
    talker.behaviour = replace(Behaviour(), throttle_every=3)
    statuses = [(await caller.start("billed_usage", billed(talker))).status for _ in range(6)]
    assert statuses == [202, 202, 429] * 2
    talker.expire_operations()
    talker.behaviour = replace(Behaviour(), concurrent_operations=2)
    assert [(await caller.start("billed_usage", billed(talker))).status for _ in range(3)] == [
        202,
        202,
        429,
    ]


async def test_aggregated_usage_is_beta_only(talker: Simulator, caller: Caller) -> None:
    path = "/reports/partners/billing/aggregatedUsage/billed/export"
    assert (await caller.call("POST", "/v1.0" + path, billed(talker))).status == 404
    assert (await caller.call("POST", "/beta" + path, billed(talker))).status == 501
    talker.behaviour = replace(Behaviour(), aggregated_usage="accepted")
    assert (await caller.call("POST", "/beta" + path, billed(talker))).status == 202


async def test_a_late_invoice_is_not_exportable_at_first(session: aiohttp.ClientSession) -> None:
    clock = StandingClock.at("2026-11-08T08:00:00")
    simulator = Simulator(storage=NoStorage(), clock=clock)
    body = {
        "invoiceId": [invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy][
            -1
        ]
    }
    with simulator.serving() as base_url:
        caller = Caller(session, base_url)
        assert "error" in await ended(
            simulator, caller, body, invoice_exportable="failed_5000_at_first"
        )
        simulator.behaviour = replace(Behaviour(), invoice_exportable="running_at_first")
        started = await caller.start("billed_usage", body)
        assert [(await caller.poll(started)).json["status"] for _ in range(5)][-1] == "running"
        clock.forward(days=1)
        assert (await caller.poll(started)).json["status"] == "succeeded"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 502, 503, 504, 509])
async def test_any_error_in_any_shape(talker: Simulator, caller: Caller, status: int) -> None:
    shapes: list[tuple[Any, bytes]] = [
        ("graph_error", b'{"error": {"code": "'),
        ("graph_error_numeric", f'{{"error": {{"code": {status}'.encode()),
        ("empty", b""),
        ("html", b"<!DOCTYPE"),
        ("broken_json", b'{"error": {"code": "Brok'),
        ("message", b'{"message"'),
        ("json_list", b"[]"),
    ]
    for shape, beginning in shapes:
        talker.faults.clear()
        talker.faults.add(
            Match(operation="start"),
            FaultResponse(status=status, body=shape, headers={"Retry-After": "200"}),
        )
        reply = await caller.start("billed_usage", billed(talker))
        assert (reply.status, reply.headers["Retry-After"]) == (status, "200") and reply.headers[
            "request-id"
        ]
        assert reply.body.startswith(beginning) and (reply.body or not beginning)
    assert not talker.operations


async def test_a_real_answer_that_is_spoiled(talker: Simulator, caller: Caller) -> None:
    started = await caller.start("billed_usage", billed(talker))

    async def spoiled(**answer: Any) -> Any:
        talker.faults.clear()
        talker.faults.add(Match(operation="poll"), FaultResponse(**answer))
        return await caller.poll(started)

    assert (await spoiled(body="text_html")).headers["Content-Type"] == "text/html"
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
        _ = (await spoiled(body="truncated")).json
    bare = await spoiled(body="no_content_type")
    assert "Content-Type" not in bare.headers and bare.json["id"]
    assert ((await spoiled(body="json_list")).json, (await spoiled(body="json_string")).json) == (
        [],
        "text",
    )
    with pytest.raises(aiohttp.ClientPayloadError):
        await spoiled(drop_after=20)
    assert (await spoiled(delay=0.05, headers={"Retry-After": "9"})).headers["Retry-After"] == "9"


async def test_a_dropped_post_did_or_did_not_start_an_export(
    talker: Simulator, caller: Caller
) -> None:
    for when, started in (("before", 0), ("after", 1)):
        talker.faults.clear()
        talker.faults.add(Match(operation="start", nth=(1,)), FaultResponse(drop=True, when=when))
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await caller.start("billed_usage", billed(talker))
        assert (
            len(talker.operations) == started
            and talker.requests[-1].status is None
            and talker.requests[-1].fault
        )


async def test_fifty_at_once(talker: Simulator, caller: Caller) -> None:
    replies = await asyncio.gather(*(caller.start("unbilled_usage", UNBILLED) for _ in range(50)))
    assert {reply.status for reply in replies} == {202} and len(talker.operations) == 50


def test_its_own_mistakes_are_told_at_the_end() -> None:
    simulator = Simulator(storage=NoStorage(), clock=MidMonthClock())
    simulator.crashes.append("Traceback: something")
    with pytest.raises(RuntimeError, match="Traceback: something"), simulator.serving():
        assert simulator.storage_origin == "http://127.0.0.1:10000"
