"""Runs over HTTP: started once, listed by filters that the tables apply, looked at, cancelled, done again."""

import asyncio
import base64
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from local.simulator.behaviour import Behaviour
from local.simulator.faults import FaultResponse, Faults, Match
from shared.clock import parse_iso
from shared.exports import ExportKey
from shared.ledger.keys import run_id as run_id_of
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from tests.integration.api.counted import Requests
from tests.support.world import World
from triggers.http_runs import start_run_for_key

BILLED = {"dataset": "billed_usage"}
USUAL = Behaviour(retry_after_seconds=20)
SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)


@pytest.fixture(autouse=True)
def as_usual(world: World) -> Any:
    world.simulator.behaviour, world.simulator.faults = USUAL, Faults()
    return


def refused(
    world: World, method: str, path: str, body: Any = None, status: int = 400
) -> dict[str, str]:
    """Field -> what is wrong with it."""
    answer = world.host.request(method, path, json=body)
    assert answer.status == status, (answer.status, answer.body)
    return {fault["field"]: fault["message"] for fault in json.loads(answer.body).get("errors", [])}


def listed(world: World, **query: Any) -> dict[str, Any]:
    return dict(world.get("/api/runs?" + urlencode(query)))


# -- start


def test_fifty_at_once_start_one(world: World) -> None:
    world.simulator.behaviour = SLOW
    order = {"dataset": "unbilled_usage", "billing_month": "current", "currency_code": "USD"}
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda _: world.host.request("POST", "/api/runs", json=order), range(50))
        )
    assert [answer.status for answer in answers] == [202] * 50
    bodies = [json.loads(answer.body) for answer in answers]
    assert (
        sum(body["started"] for body in bodies) == 1
        and len({body["run_id"] for body in bodies}) == 1
    )
    run_id = bodies[0]["run_id"]
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    assert [run["run_id"] for run in listed(world, dataset="unbilled_usage")["runs"]] == [run_id]
    assert world.run_row(run_id).posts == 1
    world.post(f"/api/runs/{run_id}/cancel")
    assert world.finish(run_id)["outcome"] == "cancelled"


class Engine:
    """A durable client that takes everything and starts nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def start_new(self, name: str, instance_id: str, request: Any) -> str:
        self.started.append(instance_id)
        return instance_id


def test_a_start_is_three_requests_to_the_tables(world: World, requests: Requests) -> None:
    """Of a key that nobody asked for yet, and of one whose lock is there and free."""
    key = ExportKey.parse("unbilled_reconciliation/2026-10/USD/basic")
    world.get("/api/status")  # the tables are made
    for locked in ({"POST locks": 1}, {"PUT locks": 1}):
        engine: Any = Engine()
        requests.reset()
        answer = world.on_loop(
            start_run_for_key(engine, key, force=False, reason="", requested_by="test")
        )
        assert answer.status_code == 202 and len(engine.started) == 1
        assert dict(requests.seen) == {"GET locks": 1, "POST runs": 1, **locked}
        world.on_loop(
            close_run(
                world.app.ledger, engine.started[0], {"outcome": "cancelled", "code": "cancelled"}
            )
        )
        world.host.advance(timedelta(seconds=1))


def test_a_start_is_shown_as_its_row_is(world: World) -> None:
    world.simulator.behaviour = SLOW
    answer = world.host.request(
        "POST", "/api/runs", json=BILLED | {"invoice_id": world.invoice_id, "reason": "Prüfung"}
    )
    body = json.loads(answer.body)
    assert (
        answer.header("Location") == f"/api/runs/{body['run_id']}"
        and answer.header("Retry-After") == "5"
    )
    assert (
        body.pop("started")
        and body["reason"] == "Prüfung"
        and body["requested_by"] == "function-key"
    )
    world.host.run_until(lambda: world.run_row(body["run_id"]).polls >= 1)
    looked = world.host.request("GET", f"/api/runs/{body['run_id']}")
    assert json.loads(looked.body).keys() == body.keys()
    left = parse_iso(json.loads(looked.body)["next_check_at"]) - world.clock.now()
    assert (
        int(looked.header("Retry-After") or 0) == math.ceil(left.total_seconds()) > 300
    )  # Microsoft's own wait
    assert world.finish(body["run_id"])["outcome"] == "landed"


# -- one run: its blobs, its ETag


@pytest.fixture(scope="module")
def landed(world: World) -> dict[str, Any]:
    world.simulator.behaviour, world.simulator.faults = USUAL, Faults()
    run = world.land("billed_usage", attribute_set="basic", reason="for the list")
    assert run["outcome"] == "landed"
    return run


@pytest.fixture(scope="module")
def incomplete(world: World) -> dict[str, Any]:
    """All but one blob."""
    world.simulator.behaviour = USUAL
    expected = world.simulator.expected(f"billed_reconciliation/{world.invoice_id}/full")
    world.simulator.faults = Faults()
    world.simulator.faults.add(
        Match(operation="blob", path=f"*{expected.blobs[0].name}"), FaultResponse(status=404)
    )
    run = world.land("billed_reconciliation")
    world.simulator.faults = Faults()
    assert run["outcome"] == "incomplete"
    return run


def test_the_same_etag_is_told_and_no_more(world: World, landed: dict[str, Any]) -> None:
    path = f"/api/runs/{landed['run_id']}"
    first = world.host.request("GET", path)
    etag = first.header("ETag") or ""
    assert etag.startswith('"') and "Retry-After" not in dict(first.headers)
    for sent in (etag, f'"other", W/{etag}'):
        again = world.host.request("GET", path, headers={"If-None-Match": sent})
        assert (again.status, again.body, again.header("ETag")) == (304, b"", etag)
    for sent in ('"other"', "*", etag.strip('"'), "\u00fc"):
        assert world.host.request("GET", path, headers={"If-None-Match": sent}).status == 200


def test_a_live_run_has_another_etag_when_it_has_moved(world: World) -> None:
    world.simulator.behaviour = SLOW
    run_id = world.start("unbilled_reconciliation", billing_month="last")
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    before = world.host.request("GET", f"/api/runs/{run_id}").header("ETag")
    world.finish(run_id)
    after = world.host.request(
        "GET", f"/api/runs/{run_id}", headers={"If-None-Match": before or ""}
    )
    assert after.status == 200 and after.header("ETag") != before


def test_blobs_by_page_and_by_proof(
    world: World, landed: dict[str, Any], incomplete: dict[str, Any]
) -> None:
    path = f"/api/runs/{landed['run_id']}/blobs"
    whole = world.get(path)
    assert whole["version"] == landed["version"] and whole["continuation"] is None
    assert len(whole["blobs"]) == landed["blobs"]["landed"] and all(
        blob["ok"] for blob in whole["blobs"]
    )
    assert sum(blob["bytes"] for blob in whole["blobs"]) == landed["bytes"]
    pages, continuation = [], ""
    while continuation is not None:
        page = world.get(path + "?" + urlencode({"limit": 2, "continuation": continuation}))
        assert 1 <= len(page["blobs"]) <= 2
        pages += page["blobs"]
        continuation = page["continuation"]
    assert pages == whole["blobs"]
    broken = world.get(f"/api/runs/{incomplete['run_id']}/blobs?ok=false")["blobs"]
    assert [(blob["ok"], blob["code"]) for blob in broken] == [
        (False, "source_missing")
    ] and broken[0]["remedy"]
    assert (
        len(world.get(f"/api/runs/{incomplete['run_id']}/blobs?ok=true")["blobs"])
        == incomplete["blobs"]["landed"]
    )
    wrong = refused(world, "GET", f"{path}?ok=yes&limit=0&continuation=x&name=a")
    assert set(wrong) == {"ok", "limit", "continuation", "name"}


def test_a_run_that_found_no_data_has_no_blobs(world: World) -> None:
    world.simulator.behaviour = replace(USUAL, operation_end="failed_5000")
    run = world.land("unbilled_reconciliation", attribute_set="basic")
    assert (
        run["outcome"] == "no_data" and world.get(f"/api/runs/{run['run_id']}/blobs")["blobs"] == []
    )


# -- the list


@pytest.fixture(scope="module")
def history(world: World) -> list[Run]:
    """250 runs of September, five a minute, of two datasets and three outcomes."""
    runs = []
    moment = parse_iso("2026-09-03T05:00:00Z")
    for n in range(250):
        key = ExportKey.parse(
            "billed_usage/G016907411/full" if n % 5 else "unbilled_usage/2026-09/USD/full"
        )
        made = run_id_of(key, moment + timedelta(seconds=12 * n))
        outcome = ("landed", "unchanged", "failed")[n % 3]
        runs.append(
            Run(
                run_id=made,
                key=str(key),
                stage="ended",
                outcome=outcome,
                code="graph_forbidden" if outcome == "failed" else "",
                started_at="2026-09-03T05:00:00Z",
                ended_at="2026-09-03T05:10:00Z",
            )
        )

    async def insert() -> None:
        await asyncio.gather(*(world.app.ledger.runs.insert(run) for run in runs))

    world.on_loop(insert())
    return runs[::-1]


def test_the_newest_come_first_and_a_page_is_one_request(
    world: World, requests: Requests, history: list[Run]
) -> None:
    found, continuation, sizes = [], "", []
    while continuation is not None:
        requests.reset()
        page = listed(world, started="2026-09", continuation=continuation)
        assert dict(requests.seen) == {"GET runs": 1}
        found += [run["run_id"] for run in page["runs"]]
        sizes.append(len(page["runs"]))
        continuation = page["continuation"]
    assert found == [run.run_id for run in history] and sizes == [100, 100, 50]


@pytest.mark.parametrize(
    "query",
    [
        {"dataset": "unbilled_usage"},
        {"outcome": "failed"},
        {"dataset": "billed_usage", "outcome": "landed"},
        {"dataset": "billed_reconciliation"},
        {"outcome": "superseded"},
    ],
)
def test_the_tables_filter(
    world: World, requests: Requests, history: list[Run], query: dict[str, str]
) -> None:
    requests.reset()
    page = listed(world, started="2026-09", limit=1000, **query)
    assert requests.total() == 1
    wanted = [
        run.run_id
        for run in history
        if query.get("dataset", run.key.split("/")[0]) == run.key.split("/")[0]
        and query.get("outcome", run.outcome) == run.outcome
    ]
    assert [run["run_id"] for run in page["runs"]] == wanted and page["continuation"] is None
    assert all(run["remedy"] for run in page["runs"] if run["outcome"] == "failed")


def test_without_a_month_it_is_this_one(world: World, landed: dict[str, Any]) -> None:
    page = listed(world)
    assert page["started"] == "2026-11" and landed["run_id"] in [
        run["run_id"] for run in page["runs"]
    ]
    assert world.get("/api/runs?started=2001-01") == {
        "started": "2001-01",
        "runs": [],
        "continuation": None,
    }


def test_a_continuation_goes_with_its_own_filters_only(world: World, history: list[Run]) -> None:
    word = listed(world, started="2026-09", limit=10)["continuation"]
    for other in ({"started": "2026-10"}, {"outcome": "failed"}, {"dataset": "billed_usage"}):
        query = urlencode({"started": "2026-09", **other, "continuation": word})
        assert set(refused(world, "GET", f"/api/runs?{query}")) == {"continuation"}
    assert set(refused(world, "GET", "/api/catalogue?" + urlencode({"continuation": word}))) == {
        "continuation"
    }
    forged = base64.urlsafe_b64encode(
        json.dumps(["runs 2026-09   ", "", "not", "made by storage"]).encode()
    ).decode()
    query = urlencode({"started": "2026-09", "continuation": forged})
    assert world.host.request("GET", f"/api/runs?{query}").status in (
        200,
        400,
    )  # what the service says to it; never a fault


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (
            "started=2026-13&dataset=x&outcome=y&limit=1001&continuation=%00&colour=red",
            {"started", "dataset", "outcome", "limit", "continuation", "colour"},
        ),
        ("started=november", {"started"}),
        ("limit=-1", {"limit"}),
        ("limit=%D9%A1", {"limit"}),
        ("Limit=5", {"Limit"}),
        ("%C3%BC=1", {"ü"}),
        ("started=2026-11' or PartitionKey ne '", {"started"}),
        ("continuation=" + "A" * 5000, {"continuation"}),
        ("continuation=bnVsbA", {"continuation"}),
        ("dataset=..%2F..", {"dataset"}),
    ],
)
def test_each_wrong_parameter_is_named(world: World, query: str, fields: set[str]) -> None:
    assert set(refused(world, "GET", f"/api/runs?{query}")) == fields


def test_a_function_key_in_the_address_is_the_platforms(world: World) -> None:
    assert world.host.request("GET", "/api/runs?code=abc&clientId=default").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/runs"),
        ("GET", "/api/runs/{id}"),
        ("POST", "/api/runs/{id}/cancel"),
        ("POST", "/api/runs/{id}/retry"),
        ("GET", "/api/status"),
        ("GET", "/api/openapi.json"),
    ],
)
def test_where_no_parameter_is_taken_each_is_refused(
    world: World, landed: dict[str, Any], method: str, path: str
) -> None:
    path = path.replace("{id}", landed["run_id"])
    assert set(refused(world, method, f"{path}?pretty=1", {} if method == "POST" else None)) == {
        "pretty"
    }


# -- cancel and retry


def test_a_cancel_is_effective_by_the_moment_it_names(world: World) -> None:
    world.simulator.behaviour = SLOW
    run_id = world.start("billed_usage", invoice_id=older_invoice(world))
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    marked = world.post(f"/api/runs/{run_id}/cancel")
    assert marked["cancel_requested_at"] and marked["outcome"] is None
    assert (
        world.post(f"/api/runs/{run_id}/cancel")["cancel_requested_at"]
        == marked["cancel_requested_at"]
    )  # the first counts
    asked = len(world.simulator.requests)
    end = world.finish(run_id)
    assert end["outcome"] == "cancelled" and parse_iso(end["ended_at"]) <= parse_iso(
        marked["effective_by"]
    )
    assert len(world.simulator.requests) == asked
    again = world.host.request("POST", f"/api/runs/{run_id}/cancel")
    assert again.status == 409 and json.loads(again.body)["code"] == "run_ended"
    assert set(refused(world, "POST", f"/api/runs/{run_id}/cancel", {"why": 1})) == {"why"}


def test_the_key_of_a_cancelled_run_is_free_at_once(world: World) -> None:
    world.simulator.behaviour = SLOW
    first = world.start("billed_reconciliation", invoice_id=older_invoice(world))
    world.host.run_until(lambda: world.run_row(first).polls >= 1)
    world.post(f"/api/runs/{first}/cancel")
    second = world.start("billed_reconciliation", invoice_id=older_invoice(world))
    assert (
        second != first
        and world.finish(second)["outcome"] == "landed"
        and world.finish(first)["outcome"] == "cancelled"
    )


def test_a_retry_copies_only_what_is_missing(world: World, incomplete: dict[str, Any]) -> None:
    blobs = world.get(f"/api/runs/{incomplete['run_id']}/blobs")["blobs"]
    proven = {blob["name"]: blob["etag"] for blob in blobs if blob["ok"]}
    answer = world.post(f"/api/runs/{incomplete['run_id']}/retry", {"reason": "again"})
    assert (
        answer["started"]
        and answer["retry_of"] == incomplete["run_id"]
        and answer["reason"] == "again"
    )
    assert answer["key"] == incomplete["key"] and not answer["force"]
    end = world.finish(answer["run_id"])
    assert (
        end["outcome"] == "landed"
        and end["version"] == incomplete["version"]
        and end["retry_of"] == incomplete["run_id"]
    )
    after = world.get(f"/api/runs/{end['run_id']}/blobs")["blobs"]
    assert proven.items() <= {blob["name"]: blob["etag"] for blob in after}.items()
    assert [blob["name"] for blob in after if blob["run_id"] == end["run_id"]] == [
        blob["name"] for blob in blobs if not blob["ok"]
    ]


def test_a_live_run_is_not_retried(world: World) -> None:
    world.simulator.behaviour = SLOW
    run_id = world.start("unbilled_usage", attribute_set="basic")
    world.host.run_until(lambda: world.run_row(run_id).polls >= 1)
    answer = world.host.request("POST", f"/api/runs/{run_id}/retry", json={})
    assert answer.status == 409 and json.loads(answer.body)["code"] == "run_live"
    world.post(f"/api/runs/{run_id}/cancel")
    world.finish(run_id)
    again = world.post(f"/api/runs/{run_id}/retry")
    assert (
        world.post(f"/api/runs/{run_id}/retry")["run_id"] == again["run_id"]
    )  # the key is live: that run is shown
    assert world.finish(again["run_id"])["outcome"] == "landed"


def test_what_landed_by_force_is_not_forced_again(world: World, landed: dict[str, Any]) -> None:
    forced = world.land("billed_usage", attribute_set="basic", force=True)
    assert forced["outcome"] == "landed" and forced["version"] == landed["version"] + "-2"
    again = world.post(f"/api/runs/{forced['run_id']}/retry")
    assert not again["force"] and world.finish(again["run_id"])["outcome"] == "unchanged"


def test_a_month_that_is_not_served_any_more_is_not_retried(
    world: World, history: list[Run]
) -> None:
    old = next(run for run in history if run.key.startswith("unbilled"))
    answer = world.host.request("POST", f"/api/runs/{old.run_id}/retry", json={})
    assert answer.status == 409 and json.loads(answer.body)["code"] == "not_served"


def test_a_retry_takes_a_reason_and_no_more(world: World, landed: dict[str, Any]) -> None:
    wrong = refused(
        world, "POST", f"/api/runs/{landed['run_id']}/retry", {"reason": 5, "force": True, "ü": 1}
    )
    assert set(wrong) == {"reason", "force", "ü"}


# -- what is nothing


@pytest.mark.parametrize(
    "run_id",
    ["nonsense", "..%2F..%2Fhost.json", "%00", "billed-usage-g1-full-20261121t060000z", "%FF"],
)
@pytest.mark.parametrize(
    ("method", "more"), [("GET", ""), ("GET", "/blobs"), ("POST", "/cancel"), ("POST", "/retry")]
)
def test_an_unknown_run_is_not_found(world: World, run_id: str, method: str, more: str) -> None:
    answer = world.host.request(method, f"/api/runs/{run_id}{more}")
    assert answer.status == 404 and json.loads(answer.body)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/runs"),
        ("PUT", "/api/runs/x"),
        ("PATCH", "/api/catalogue"),
        ("POST", "/api/status"),
        ("GET", "/api/nothing"),
    ],
)
def test_the_platform_answers_what_has_no_function(world: World, method: str, path: str) -> None:
    assert world.host.request(method, path).status == 404


def older_invoice(world: World) -> str:
    return [invoice.invoice_id for invoice in world.simulator.invoices() if not invoice.legacy][-2]
