"""The routes under /api/runs."""

import asyncio
import base64
import json
import math
from collections import Counter
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
from shared.ledger.keys import run_id as make_run_id
from shared.ledger.outcomes import close_run
from shared.ledger.runs import Run
from tests.integration.api.request_counter import RequestCounter
from tests.support.app_environment import AppEnvironment
from triggers.http_runs import start_run_for_key

DEFAULT_BEHAVIOUR = Behaviour(retry_after_seconds=20)
SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)


@pytest.fixture(autouse=True)
def reset_simulator(env: AppEnvironment) -> None:
    env.simulator.behaviour, env.simulator.faults = DEFAULT_BEHAVIOUR, Faults()


@pytest.fixture(scope="module")
def landed(env: AppEnvironment) -> dict[str, Any]:
    """A run that landed."""
    env.simulator.behaviour, env.simulator.faults = DEFAULT_BEHAVIOUR, Faults()
    run = env.land("billed_usage", attribute_set="basic", reason="for the list")
    assert run["outcome"] == "landed"
    return run


@pytest.fixture(scope="module")
def incomplete(env: AppEnvironment) -> dict[str, Any]:
    """A run that landed all blobs except one."""
    env.simulator.behaviour, env.simulator.faults = DEFAULT_BEHAVIOUR, Faults()
    blobs = env.simulator.expected(f"billed_reconciliation/{env.invoice_id}/full").blobs
    env.simulator.faults.add(
        Match(operation="blob", path=f"*{blobs[0].name}"), FaultResponse(status=404)
    )
    run = env.land("billed_reconciliation")
    env.simulator.faults = Faults()
    assert run["outcome"] == "incomplete"
    return run


@pytest.fixture(scope="module")
def past_runs(env: AppEnvironment) -> list[Run]:
    """250 runs in one month, newest first, for two datasets and with three outcomes."""
    runs = []
    start = parse_iso("2026-09-03T05:00:00Z")
    for number in range(250):
        key = "billed_usage/G016907411/full" if number % 5 else "unbilled_usage/2026-09/USD/full"
        outcome = ("landed", "unchanged", "failed")[number % 3]
        runs.append(
            Run(
                run_id=make_run_id(ExportKey.parse(key), start + timedelta(seconds=12 * number)),
                key=key,
                stage="ended",
                outcome=outcome,
                code="graph_forbidden" if outcome == "failed" else "",
                started_at="2026-09-03T05:00:00Z",
                ended_at="2026-09-03T05:10:00Z",
            )
        )

    async def insert() -> None:
        await asyncio.gather(*(env.app.ledger.runs.insert(run) for run in runs))

    env.on_loop(insert())
    return runs[::-1]


def get_field_errors(
    env: AppEnvironment, method: str, path: str, body: Any = None, status: int = 400
) -> dict[str, str]:
    """Send an invalid request and return the message for each field."""
    response = env.host.request(method, path, json=body)
    assert response.status == status, (response.status, response.body)
    errors = json.loads(response.body).get("errors", [])
    return {error["field"]: error["message"] for error in errors}


def list_runs(env: AppEnvironment, **query: Any) -> dict[str, Any]:
    return dict(env.get("/api/runs?" + urlencode(query)))


def get_older_invoice(env: AppEnvironment) -> str:
    """Return an invoice other than the default one."""
    invoices = [invoice for invoice in env.simulator.invoices() if not invoice.legacy]
    return str(invoices[-2].invoice_id)


def start_polling_run(env: AppEnvironment, dataset: str, **fields: Any) -> str:
    """Start a run and return its ID when it polls Microsoft's operation, which takes an hour."""
    env.simulator.behaviour = SLOW
    run_id = str(env.start(dataset, **fields))
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    return run_id


def get_code(response: Any) -> str:
    return str(json.loads(response.body)["code"])


def test_start_run_concurrent_requests_start_one_run(env: AppEnvironment) -> None:
    env.simulator.behaviour = SLOW
    request = {"dataset": "unbilled_usage", "billing_month": "current", "currency_code": "USD"}
    with ThreadPoolExecutor(50) as pool:
        responses = list(
            pool.map(lambda _: env.host.request("POST", "/api/runs", json=request), range(50))
        )
    assert [response.status for response in responses] == [202] * 50
    runs = [json.loads(response.body) for response in responses]
    assert sum(run["started"] for run in runs) == 1
    assert len({run["run_id"] for run in runs}) == 1
    run_id = runs[0]["run_id"]
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    listed = list_runs(env, dataset="unbilled_usage")["runs"]
    assert [run["run_id"] for run in listed] == [run_id]
    assert env.run_row(run_id).posts == 1
    env.post(f"/api/runs/{run_id}/cancel")
    assert env.finish(run_id)["outcome"] == "cancelled"


class FakeDurableClient:
    """A durable client that records orchestrations without starting them."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def start_new(self, name: str, instance_id: str, request: Any) -> str:
        self.started.append(instance_id)
        return instance_id


@pytest.mark.parametrize("lock_request", ["POST locks", "PUT locks"], ids=["new", "existing"])
def test_start_run_sends_four_table_requests(
    env: AppEnvironment, request_counter: RequestCounter, lock_request: str
) -> None:
    key = ExportKey.parse("unbilled_reconciliation/2026-10/USD/basic")
    env.get("/api/status")  # creates the tables
    client: Any = FakeDurableClient()
    request_counter.reset()
    response = env.on_loop(
        start_run_for_key(client, key, force=False, reason="", requested_by="test")
    )
    assert response.status_code == 202
    assert len(client.started) == 1
    expected = Counter(["GET locks", "POST runs", lock_request, "POST locks"])  # the open item
    assert request_counter.seen == expected
    cancelled = {"outcome": "cancelled", "code": "cancelled"}
    env.on_loop(close_run(env.app.ledger, client.started[0], cancelled))
    env.host.advance(timedelta(seconds=1))


def test_get_run_has_the_fields_of_start_run(env: AppEnvironment) -> None:
    env.simulator.behaviour = SLOW
    request = {"dataset": "billed_usage", "invoice_id": env.invoice_id, "reason": "Prüfung"}
    response = env.host.request("POST", "/api/runs", json=request)
    started = json.loads(response.body)
    run_id = started["run_id"]
    assert response.header("Location") == f"/api/runs/{run_id}"
    assert response.header("Retry-After") == "5"
    assert started.pop("started")
    assert (started["reason"], started["requested_by"]) == ("Prüfung", "function-key")
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    response = env.host.request("GET", f"/api/runs/{run_id}")
    run = json.loads(response.body)
    assert run.keys() == started.keys()
    seconds = (parse_iso(run["next_check_at"]) - env.clock.now()).total_seconds()
    assert response.header("Retry-After") == str(math.ceil(seconds))
    assert seconds > 300  # Microsoft's Retry-After is 600
    assert env.finish(run_id)["outcome"] == "landed"


def test_get_run_known_etag_returns_304(env: AppEnvironment, landed: dict[str, Any]) -> None:
    path = f"/api/runs/{landed['run_id']}"
    first = env.host.request("GET", path)
    etag = first.header("ETag") or ""
    assert etag.startswith('"')
    assert first.header("Retry-After") is None
    for value in (etag, f'"other", W/{etag}'):
        response = env.host.request("GET", path, headers={"If-None-Match": value})
        assert (response.status, response.body, response.header("ETag")) == (304, b"", etag)
    for value in ('"other"', "*", etag.strip('"'), "\u00fc"):
        response = env.host.request("GET", path, headers={"If-None-Match": value})
        assert response.status == 200


def test_get_run_etag_changes_with_the_run(env: AppEnvironment) -> None:
    run_id = start_polling_run(env, "unbilled_reconciliation", billing_month="last")
    path = f"/api/runs/{run_id}"
    before = env.host.request("GET", path).header("ETag") or ""
    env.finish(run_id)
    after = env.host.request("GET", path, headers={"If-None-Match": before})
    assert after.status == 200
    assert after.header("ETag") != before


def test_list_run_blobs_returns_pages(env: AppEnvironment, landed: dict[str, Any]) -> None:
    path = f"/api/runs/{landed['run_id']}/blobs"
    response = env.get(path)
    assert response["version"] == landed["version"]
    assert response["continuation"] is None
    assert len(response["blobs"]) == landed["blobs"]["landed"]
    assert all(blob["ok"] for blob in response["blobs"])
    assert sum(blob["bytes"] for blob in response["blobs"]) == landed["bytes"]
    blobs, continuation = [], ""
    while continuation is not None:
        page = env.get(path + "?" + urlencode({"limit": 2, "continuation": continuation}))
        assert 1 <= len(page["blobs"]) <= 2
        blobs += page["blobs"]
        continuation = page["continuation"]
    assert blobs == response["blobs"]


def test_list_run_blobs_ok_filters_by_verification(
    env: AppEnvironment, incomplete: dict[str, Any]
) -> None:
    path = f"/api/runs/{incomplete['run_id']}/blobs"
    [missing] = env.get(f"{path}?ok=false")["blobs"]
    assert (missing["ok"], missing["code"]) == (False, "source_missing")
    assert missing["remedy"]
    assert len(env.get(f"{path}?ok=true")["blobs"]) == incomplete["blobs"]["landed"]


def test_list_run_blobs_invalid_parameters_are_named(
    env: AppEnvironment, landed: dict[str, Any]
) -> None:
    path = f"/api/runs/{landed['run_id']}/blobs?ok=yes&limit=0&continuation=x&name=a"
    assert set(get_field_errors(env, "GET", path)) == {"ok", "limit", "continuation", "name"}


def test_list_run_blobs_run_without_data_returns_no_blobs(env: AppEnvironment) -> None:
    env.simulator.behaviour = replace(DEFAULT_BEHAVIOUR, operation_end="failed_5000")
    run = env.land("unbilled_reconciliation", attribute_set="basic")
    assert run["outcome"] == "no_data"
    assert env.get(f"/api/runs/{run['run_id']}/blobs")["blobs"] == []


def test_list_runs_each_page_is_one_table_request(
    env: AppEnvironment, request_counter: RequestCounter, past_runs: list[Run]
) -> None:
    run_ids, continuation, sizes = [], "", []
    while continuation is not None:
        request_counter.reset()
        page = list_runs(env, started="2026-09", continuation=continuation)
        assert dict(request_counter.seen) == {"GET runs": 1}
        run_ids += [run["run_id"] for run in page["runs"]]
        sizes.append(len(page["runs"]))
        continuation = page["continuation"]
    assert run_ids == [run.run_id for run in past_runs]
    assert sizes == [100, 100, 50]


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
def test_list_runs_filters_in_the_table_service(
    env: AppEnvironment,
    request_counter: RequestCounter,
    past_runs: list[Run],
    query: dict[str, str],
) -> None:
    request_counter.reset()
    page = list_runs(env, started="2026-09", limit=1000, **query)
    assert request_counter.total() == 1
    expected = [
        run.run_id
        for run in past_runs
        if run.key.startswith(query.get("dataset", ""))
        and query.get("outcome", run.outcome) == run.outcome
    ]
    assert [run["run_id"] for run in page["runs"]] == expected
    assert page["continuation"] is None
    assert all(run["remedy"] for run in page["runs"] if run["outcome"] == "failed")


def test_list_runs_without_month_lists_the_current_one(
    env: AppEnvironment, landed: dict[str, Any]
) -> None:
    page = list_runs(env)
    assert page["started"] == "2026-11"
    assert landed["run_id"] in [run["run_id"] for run in page["runs"]]
    assert list_runs(env, started="2001-01") == {
        "started": "2001-01",
        "runs": [],
        "continuation": None,
    }


def test_list_runs_token_of_other_filters_is_rejected(
    env: AppEnvironment, past_runs: list[Run]
) -> None:
    token = list_runs(env, started="2026-09", limit=10)["continuation"]
    for query in ({"started": "2026-10"}, {"outcome": "failed"}, {"dataset": "billed_usage"}):
        path = "/api/runs?" + urlencode({"started": "2026-09", **query, "continuation": token})
        assert set(get_field_errors(env, "GET", path)) == {"continuation"}
    path = "/api/catalogue?" + urlencode({"continuation": token})
    assert set(get_field_errors(env, "GET", path)) == {"continuation"}


def test_list_runs_forged_token_causes_no_failure(
    env: AppEnvironment, past_runs: list[Run]
) -> None:
    parts = ["runs 2026-09  ", "", "forged partition", "forged row"]
    token = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()
    path = "/api/runs?" + urlencode({"started": "2026-09", "continuation": token})
    assert env.host.request("GET", path).status in (200, 400)


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
def test_list_runs_invalid_parameters_are_named(
    env: AppEnvironment, query: str, fields: set[str]
) -> None:
    assert set(get_field_errors(env, "GET", f"/api/runs?{query}")) == fields


def test_list_runs_ignores_the_function_key_in_the_url(env: AppEnvironment) -> None:
    assert env.host.request("GET", "/api/runs?code=abc&clientId=default").status == 200


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
def test_route_without_parameters_rejects_each_parameter(
    env: AppEnvironment, landed: dict[str, Any], method: str, path: str
) -> None:
    path = path.replace("{id}", landed["run_id"]) + "?pretty=1"
    body = {} if method == "POST" else None
    assert set(get_field_errors(env, method, path, body)) == {"pretty"}


def test_cancel_run_is_effective_at_the_reported_time(env: AppEnvironment) -> None:
    run_id = start_polling_run(env, "billed_usage", invoice_id=get_older_invoice(env))
    path = f"/api/runs/{run_id}/cancel"
    response = env.post(path)
    assert response["cancel_requested_at"]
    assert response["outcome"] is None
    second = env.post(path)
    assert second["cancel_requested_at"] == response["cancel_requested_at"]
    request_count = len(env.simulator.requests)
    run = env.finish(run_id)
    assert run["outcome"] == "cancelled"
    assert parse_iso(run["ended_at"]) <= parse_iso(response["effective_by"])
    assert len(env.simulator.requests) == request_count
    late = env.host.request("POST", path)
    assert (late.status, get_code(late)) == (409, "run_ended")
    assert set(get_field_errors(env, "POST", path, {"why": 1})) == {"why"}


def test_cancel_run_releases_the_key_immediately(env: AppEnvironment) -> None:
    invoice_id = get_older_invoice(env)
    first = start_polling_run(env, "billed_reconciliation", invoice_id=invoice_id)
    env.post(f"/api/runs/{first}/cancel")
    second = env.start("billed_reconciliation", invoice_id=invoice_id)
    assert second != first
    assert env.finish(second)["outcome"] == "landed"
    assert env.finish(first)["outcome"] == "cancelled"


def test_retry_run_copies_only_the_missing_blobs(
    env: AppEnvironment, incomplete: dict[str, Any]
) -> None:
    blobs = env.get(f"/api/runs/{incomplete['run_id']}/blobs")["blobs"]
    verified = {blob["name"]: blob["etag"] for blob in blobs if blob["ok"]}
    retry = env.post(f"/api/runs/{incomplete['run_id']}/retry", {"reason": "again"})
    assert retry["started"]
    assert not retry["force"]
    assert (retry["retry_of"], retry["reason"]) == (incomplete["run_id"], "again")
    assert retry["key"] == incomplete["key"]
    run = env.finish(retry["run_id"])
    assert (run["outcome"], run["version"]) == ("landed", incomplete["version"])
    assert run["retry_of"] == incomplete["run_id"]
    after = env.get(f"/api/runs/{run['run_id']}/blobs")["blobs"]
    assert verified.items() <= {blob["name"]: blob["etag"] for blob in after}.items()
    copied = [blob["name"] for blob in after if blob["run_id"] == run["run_id"]]
    assert copied == [blob["name"] for blob in blobs if not blob["ok"]]


def test_retry_run_live_run_is_rejected(env: AppEnvironment) -> None:
    run_id = start_polling_run(env, "unbilled_usage", attribute_set="basic")
    path = f"/api/runs/{run_id}/retry"
    response = env.host.request("POST", path, json={})
    assert (response.status, get_code(response)) == (409, "run_live")
    env.post(f"/api/runs/{run_id}/cancel")
    env.finish(run_id)
    retry = env.post(path)
    assert env.post(path)["run_id"] == retry["run_id"]
    assert env.finish(retry["run_id"])["outcome"] == "landed"


def test_retry_run_landed_forced_run_is_not_forced_again(
    env: AppEnvironment, landed: dict[str, Any]
) -> None:
    forced = env.land("billed_usage", attribute_set="basic", force=True)
    assert (forced["outcome"], forced["version"]) == ("landed", landed["version"] + "-2")
    retry = env.post(f"/api/runs/{forced['run_id']}/retry")
    assert not retry["force"]
    assert env.finish(retry["run_id"])["outcome"] == "unchanged"


def test_retry_run_month_that_is_no_longer_served_is_rejected(
    env: AppEnvironment, past_runs: list[Run]
) -> None:
    run = next(run for run in past_runs if run.key.startswith("unbilled"))
    response = env.host.request("POST", f"/api/runs/{run.run_id}/retry", json={})
    assert (response.status, get_code(response)) == (409, "not_served")


def test_retry_run_accepts_only_a_reason(env: AppEnvironment, landed: dict[str, Any]) -> None:
    body = {"reason": 5, "force": True, "ü": 1}
    errors = get_field_errors(env, "POST", f"/api/runs/{landed['run_id']}/retry", body)
    assert set(errors) == {"reason", "force", "ü"}


@pytest.mark.parametrize(
    "run_id",
    ["nonsense", "..%2F..%2Fhost.json", "%00", "billed-usage-g1-full-20261121t060000z", "%FF"],
)
@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("GET", "/blobs"), ("POST", "/cancel"), ("POST", "/retry")]
)
def test_run_route_unknown_run_is_not_found(
    env: AppEnvironment, run_id: str, method: str, suffix: str
) -> None:
    response = env.host.request(method, f"/api/runs/{run_id}{suffix}")
    assert (response.status, get_code(response)) == (404, "not_found")


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
def test_route_without_function_returns_404(env: AppEnvironment, method: str, path: str) -> None:
    assert env.host.request(method, path).status == 404
