"""Runs, cycles and health over HTTP."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from local.host.http_messages import HostResponse
from local.simulator.behaviour import Behaviour
from shared.exports import ExportKey
from shared.ledger.keys import RUN_ID, is_run_id_of, started_at
from tests.support.app_environment import AppEnvironment

SLOW = Behaviour(ready_after_seconds=3600, retry_after_seconds=600)

invoice_numbers = itertools.count(100_000_000)

FORBIDDEN_TEXTS = (
    "sig=",
    "code=",
    "key=",
    "token",
    "webhooks",
    "sas",
    "http://",
    "accountkey",
)


def make_unique_request() -> dict[str, str]:
    """Return a request for a nonexistent invoice that no other test uses."""
    return {"dataset": "billed_usage", "invoice_id": f"G{next(invoice_numbers)}"}


def read_problem(response: HostResponse, status: int, code: str) -> dict[str, Any]:
    """Return the problem document after checking its status, its code and its common fields."""
    assert response.status == status, (response.status, response.body)
    assert (response.header("Content-Type") or "").startswith("application/problem+json")
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["remedy"]
    return document


def is_json(response: HostResponse) -> bool:
    return (response.header("Content-Type") or "").startswith("application/json")


def get_retry_after(response: HostResponse) -> int:
    """Return the number of seconds in `Retry-After`, or 0 if the header is missing."""
    return int(response.header("Retry-After") or 0)


def test_start_run_returns_202_and_the_run_lands(env: AppEnvironment) -> None:
    request = {
        "dataset": "billed_usage",
        "invoice_id": env.invoice_id.lower(),
        "reason": "Prüfung",
    }
    response = env.host.request("POST", "/api/runs", json=request)
    run = response.json()
    run_id = run["run_id"]
    key = ExportKey.parse(f"billed_usage/{env.invoice_id}/full")
    assert response.status == 202
    assert is_json(response)
    assert response.header("Location") == f"/api/runs/{run_id}"
    assert get_retry_after(response) > 0
    assert RUN_ID.fullmatch(run_id)
    assert is_run_id_of(run_id, key)
    expected = {
        "started": True,
        "key": str(key),
        "dataset": "billed_usage",
        "invoice_id": env.invoice_id,
        "attribute_set": "full",
        "stage": "starting",
        "outcome": None,
        "reason": "Prüfung",
        "requested_by": "function-key",
    }
    assert {name: run[name] for name in expected} == expected
    ended = env.finish(run_id)
    assert ended["outcome"] == "landed"
    assert ended["blobs"]["landed"] == ended["blobs"]["total"] > 0
    assert ended["rows"] > 0
    response = env.host.request("GET", f"/api/runs/{run_id}")
    assert response.status == 200
    assert is_json(response)
    assert response.header("Retry-After") is None


def test_start_run_live_run_of_the_key_is_returned(env: AppEnvironment) -> None:
    run_id = env.start("unbilled_usage")
    response = env.host.request("GET", f"/api/runs/{run_id}")
    assert response.status == 200
    assert response.json()["outcome"] is None
    assert get_retry_after(response) > 0
    request = {"dataset": "unbilled_usage", "billing_month": "2026-11", "currency_code": "usd"}
    response = env.host.request("POST", "/api/runs", json=request)
    assert response.status == 202
    assert (response.json()["started"], response.json()["run_id"]) == (False, run_id)
    assert response.header("Location") == f"/api/runs/{run_id}"
    assert get_retry_after(response) > 0
    assert env.finish(run_id)["outcome"] == "landed"


def test_start_run_concurrent_requests_start_one_run(env: AppEnvironment) -> None:
    request = make_unique_request()
    with ThreadPoolExecutor(50) as pool:
        responses = list(
            pool.map(lambda _: env.host.request("POST", "/api/runs", json=request), range(50))
        )
    assert {response.status for response in responses} == {202}
    runs = [response.json() for response in responses]
    assert sum(run["started"] for run in runs) == 1
    assert len({run["run_id"] for run in runs}) == 1
    ended = env.finish(runs[0]["run_id"])
    assert ended["outcome"] == "failed"
    assert all(ended[name] for name in ("code", "cause", "remedy"))


def test_start_run_every_invalid_field_is_named(env: AppEnvironment) -> None:
    request = {
        "dataset": "unbilled_usage",
        "billing_month": "2020-01",
        "colour": "red",
        "force": "yes",
    }
    response = env.host.request("POST", "/api/runs", json=request)
    errors = read_problem(response, 400, "request_invalid")["errors"]
    assert {error["field"] for error in errors} == {
        "billing_month",
        "currency_code",
        "colour",
        "force",
    }


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "request_invalid"),
        (b"[]", 400, "request_invalid"),
        (b"\xff\xfe\xfa", 400, "request_invalid"),
        (b"", 400, "request_invalid"),
        (b'{"\\ud800": 1}', 400, "request_invalid"),
        (b"[" * 50_000, 400, "request_invalid"),
        (b" " * 70_000, 413, "request_too_large"),
    ],
)
def test_start_run_invalid_body_is_rejected(
    env: AppEnvironment, body: bytes, status: int, code: str
) -> None:
    read_problem(env.host.request("POST", "/api/runs", body=body), status, code)


UNKNOWN_IDS = [
    "nonsense",
    "..",
    "%2e%2e",
    "..%2f..",
    "%00",
    "billed-usage-g016907411-full-20261121t060000z-aaaa",
    "cycle-20261121t060000z",
    "billed-usage-g016907411-full-00000101t000000z",
    "x" * 300,
    "%F0%9F%98%80",
    "a%27%20or%20%271%27%3D%271",
]


@pytest.mark.parametrize("unknown_id", UNKNOWN_IDS)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/runs/{}"), ("POST", "/api/runs/{}/cancel"), ("GET", "/api/cycles/{}")],
)
def test_route_unknown_id_is_not_found(
    env: AppEnvironment, method: str, path: str, unknown_id: str
) -> None:
    response = env.host.request(method, path.format(unknown_id))
    assert response.status == 404
    if is_json(response) or response.body[:1] == b"{":  # otherwise, the platform found no route
        read_problem(response, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/runs"),
        ("DELETE", "/api/runs/x"),
        ("GET", "/api/runs/x/cancel"),
        ("POST", "/api/runs/x"),
        ("PATCH", "/api/cycles"),
        ("DELETE", "/api/cycles/x"),
        ("POST", "/api/health"),
        ("POST", "/api/nothing"),
    ],
)
def test_route_without_function_is_rejected(env: AppEnvironment, method: str, path: str) -> None:
    assert env.host.request(method, path).status in (404, 405)


def test_cancel_run_live_run_ends_as_cancelled(env: AppEnvironment) -> None:
    env.simulator.behaviour = SLOW
    run_id = env.start("billed_usage", invoice_id=env.invoice_id, force=True)
    env.host.run_until(lambda: env.run_row(run_id).polls >= 1)
    path = f"/api/runs/{run_id}/cancel"
    headers = {"x-ms-client-principal-name": "ada@contoso.com"}
    response = env.host.request("POST", path, headers=headers)
    run = response.json()
    assert response.status == 202
    assert is_json(response)
    assert response.header("Location") == f"/api/runs/{run_id}"
    assert run["cancel_requested_at"]
    assert run["effective_by"] >= run["cancel_requested_at"]
    assert env.post(path)["cancel_requested_at"] == run["cancel_requested_at"]
    assert env.run_row(run_id).cancel_requested_by == "ada@contoso.com"
    ended = env.finish(run_id)
    assert (ended["outcome"], ended["code"]) == ("cancelled", "cancelled")
    problem = read_problem(env.host.request("POST", path), 409, "run_ended")
    assert (problem["outcome"], problem["run_id"]) == ("cancelled", run_id)


def test_start_run_key_of_a_cancelled_run_is_available(env: AppEnvironment) -> None:
    request = make_unique_request()
    first = env.start(**request)
    env.post(f"/api/runs/{first}/cancel")
    second = env.start(**request)
    assert second != first
    assert env.finish(first)["outcome"] == "cancelled"
    assert env.finish(second)["outcome"] == "failed"


def test_start_cycle_returns_202_and_the_cycle_ends(env: AppEnvironment) -> None:
    response = env.host.request("POST", "/api/cycles", json={})
    cycle_id = response.json()["cycle_id"]
    assert response.status == 202
    assert is_json(response)
    assert started_at(cycle_id) is not None
    assert response.header("Location") == f"/api/cycles/{cycle_id}"
    assert get_retry_after(response) > 0
    response = env.host.request("GET", f"/api/cycles/{cycle_id}")
    assert response.status == 200
    assert response.json()["state"] in ("starting", "running")
    assert get_retry_after(response) > 0
    env.host.wait(cycle_id, 60)
    response = env.host.request("GET", f"/api/cycles/{cycle_id}")
    cycle = response.json()
    assert cycle["state"] == "ended"
    assert response.header("Retry-After") is None
    assert sum(cycle["outcomes"].values()) == len(cycle["runs"]) > 0


def test_start_cycle_unknown_field_is_named(env: AppEnvironment) -> None:
    response = env.host.request("POST", "/api/cycles", json={"nonsense": 1})
    [error] = read_problem(response, 400, "request_invalid")["errors"]
    assert error == {"field": "nonsense", "message": "Unknown field. Allowed: dry_run."}


def test_health_returns_only_a_status(env: AppEnvironment) -> None:
    response = env.host.request("GET", "/api/health")
    assert (response.status, response.body) == (200, b"")
    assert response.header("Cache-Control") == "no-store"


def test_responses_contain_no_secret_or_internal_url(env: AppEnvironment) -> None:
    run = env.land("billed_reconciliation")
    for path in (f"/api/runs/{run['run_id']}", "/api/cycles/x", "/api/runs/x"):
        body = env.host.request("GET", path).body.decode().lower()
        assert [text for text in FORBIDDEN_TEXTS if text in body] == []


def test_start_run_unavailable_task_hub_returns_503_and_the_claim_is_cleaned_up(
    env: AppEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_unique_request()

    async def fail(*_: Any, **__: Any) -> str:
        raise Exception("task hub error: https://hub.example/?code=TOPSECRET")

    with monkeypatch.context() as patch:
        patch.setattr(df.DurableOrchestrationClient, "start_new", fail)
        response = env.host.request("POST", "/api/runs", json=request)
        problem = read_problem(response, 503, "start_failed")
        assert response.header("Retry-After")
        assert "TOPSECRET" not in json.dumps(problem)
        response = env.host.request("POST", "/api/cycles", json={})
        assert "TOPSECRET" not in json.dumps(read_problem(response, 503, "start_failed"))
    run = env.post("/api/runs", request)
    assert run["started"] is False
    env.host.fire_timer("clean_up_orphaned_runs")
    env.host.advance(timedelta(minutes=5, seconds=1))
    env.host.fire_timer("clean_up_orphaned_runs")
    ended = env.get(f"/api/runs/{run['run_id']}")
    assert (ended["outcome"], ended["code"]) == ("failed", "run_lost")
    assert ended["remedy"]
    assert env.post("/api/runs", request)["started"] is True
