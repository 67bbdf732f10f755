import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from local.host.http_messages import HostResponse
from shared.exports import ExportKey
from shared.ledger.keys import RUN_ID, is_run_id_of, started_at
from tests.support.app_environment import AppEnvironment

numbers = itertools.count(100_000_000)


def an_invoice() -> dict[str, str]:
    """An order of its own: an invoice that no other test asks for. Microsoft does not know it."""
    return {"dataset": "billed_usage", "invoice_id": f"G{next(numbers)}"}


def problem(response: HostResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status == status, (response.status, response.body)
    assert (response.header("Content-Type") or "").startswith("application/problem+json")
    body: dict[str, Any] = response.json()
    assert (
        (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
        and body["title"]
        and body["remedy"]
    )
    return body


def is_json(response: HostResponse) -> bool:
    return (response.header("Content-Type") or "").startswith("application/json")


def test_a_run_is_accepted_shown_and_ends(env: AppEnvironment) -> None:
    response = env.host.request(
        "POST",
        "/api/runs",
        json={
            "dataset": "billed_usage",
            "invoice_id": env.invoice_id.lower(),
            "reason": "Prüfung",
        },
    )
    body = response.json()
    key = ExportKey.parse(f"billed_usage/{env.invoice_id}/full")
    assert response.status == 202 and is_json(response) and body["started"] is True
    assert RUN_ID.fullmatch(body["run_id"]) and is_run_id_of(body["run_id"], key)
    assert (
        response.header("Location") == f"/api/runs/{body['run_id']}"
        and int(response.header("Retry-After") or 0) > 0
    )
    assert (body["key"], body["dataset"], body["invoice_id"], body["attribute_set"]) == (
        str(key),
        "billed_usage",
        env.invoice_id,
        "full",
    )
    assert (body["stage"], body["outcome"], body["reason"], body["requested_by"]) == (
        "starting",
        None,
        "Prüfung",
        "function-key",
    )
    ended = env.finish(body["run_id"])
    assert (
        ended["outcome"] == "landed"
        and ended["blobs"]["landed"] == ended["blobs"]["total"] > 0
        and ended["rows"] > 0
    )
    shown = env.host.request("GET", f"/api/runs/{body['run_id']}")
    assert shown.status == 200 and is_json(shown) and shown.header("Retry-After") is None
    assert {
        "run_id",
        "key",
        "stage",
        "outcome",
        "code",
        "remedy",
        "next_check_at",
        "blobs",
        "bytes",
        "rows",
        "version",
        "path",
    } <= set(ended)


def test_a_live_run_is_shown_with_when_to_ask_again(env: AppEnvironment) -> None:
    run_id = env.start("unbilled_usage")
    shown = env.host.request("GET", f"/api/runs/{run_id}")
    assert (
        shown.status == 200
        and int(shown.header("Retry-After") or 0) > 0
        and shown.json()["outcome"] is None
    )
    again = env.host.request(
        "POST",
        "/api/runs",
        json={"dataset": "unbilled_usage", "billing_month": "2026-11", "currency_code": "usd"},
    )
    body = again.json()
    assert again.status == 202 and (body["started"], body["run_id"]) == (False, run_id)
    assert (
        again.header("Location") == f"/api/runs/{run_id}"
        and int(again.header("Retry-After") or 0) > 0
    )
    assert env.finish(run_id)["outcome"] == "landed"


def test_of_fifty_at_once_one_starts(env: AppEnvironment) -> None:
    order = an_invoice()
    with ThreadPoolExecutor(50) as pool:
        responses = list(
            pool.map(lambda _: env.host.request("POST", "/api/runs", json=order), range(50))
        )
    assert {response.status for response in responses} == {202}
    bodies = [response.json() for response in responses]
    assert (
        sum(body["started"] for body in bodies) == 1
        and len({body["run_id"] for body in bodies}) == 1
    )
    ended = env.finish(bodies[0]["run_id"])
    assert ended["outcome"] == "failed" and ended["code"] and ended["remedy"] and ended["cause"]


def test_what_is_wrong_is_told_at_once(env: AppEnvironment) -> None:
    body = problem(
        env.host.request(
            "POST",
            "/api/runs",
            json={
                "dataset": "unbilled_usage",
                "billing_month": "2020-01",
                "colour": "red",
                "force": "yes",
            },
        ),
        400,
        "request_invalid",
    )
    assert {fault["field"] for fault in body["errors"]} == {
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
def test_bodies_that_are_no_order(env: AppEnvironment, body: bytes, status: int, code: str) -> None:
    problem(env.host.request("POST", "/api/runs", body=body), status, code)


UNKNOWN = [
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


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/runs/{}"), ("POST", "/api/runs/{}/cancel"), ("GET", "/api/cycles/{}")],
)
def test_unknown_ids_are_not_found(
    env: AppEnvironment, method: str, path: str, unknown: str
) -> None:
    response = env.host.request(method, path.format(unknown))
    assert response.status == 404
    if is_json(response) or response.body[:1] == b"{":  # else it never came to a function
        problem(response, 404, "not_found")


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
def test_wrong_methods_and_ways_are_refused(env: AppEnvironment, method: str, path: str) -> None:
    assert env.host.request(method, path).status in (404, 405)


def test_a_run_is_cancelled_by_a_mark(env: AppEnvironment) -> None:
    run_id = env.start(**an_invoice())
    response = env.host.request(
        "POST",
        f"/api/runs/{run_id}/cancel",
        headers={"x-ms-client-principal-name": "ada@contoso.com"},
    )
    body = response.json()
    assert (
        response.status == 202
        and is_json(response)
        and response.header("Location") == f"/api/runs/{run_id}"
    )
    assert body["cancel_requested_at"] and body["effective_by"] >= body["cancel_requested_at"]
    again = env.post(f"/api/runs/{run_id}/cancel")
    assert again["cancel_requested_at"] == body["cancel_requested_at"]
    assert env.run_row(run_id).cancel_requested_by == "ada@contoso.com"
    ended = env.finish(run_id)
    assert (ended["outcome"], ended["code"]) == ("cancelled", "cancelled")
    late = problem(env.host.request("POST", f"/api/runs/{run_id}/cancel"), 409, "run_ended")
    assert late["outcome"] == "cancelled" and late["run_id"] == run_id


def test_a_cancelled_key_may_be_asked_for_at_once(env: AppEnvironment) -> None:
    order = an_invoice()
    first = env.start(**order)
    env.post(f"/api/runs/{first}/cancel")
    second = env.start(**order)
    assert second != first
    assert env.finish(first)["outcome"] == "cancelled" and env.finish(second)["outcome"] == "failed"


def test_a_cycle_is_accepted_and_shown(env: AppEnvironment) -> None:
    response = env.host.request("POST", "/api/cycles", json={})
    body = response.json()
    assert response.status == 202 and is_json(response) and started_at(body["cycle_id"]) is not None
    assert (
        response.header("Location") == f"/api/cycles/{body['cycle_id']}"
        and int(response.header("Retry-After") or 0) > 0
    )
    shown = env.host.request("GET", f"/api/cycles/{body['cycle_id']}")
    assert (
        shown.status == 200
        and shown.json()["state"] in ("starting", "running")
        and int(shown.header("Retry-After") or 0) > 0
    )
    env.host.wait(body["cycle_id"], 60)
    ended = env.host.request("GET", f"/api/cycles/{body['cycle_id']}")
    assert ended.json()["state"] == "ended" and ended.header("Retry-After") is None
    assert sum(ended.json()["outcomes"].values()) == len(ended.json()["runs"]) > 0


def test_a_cycle_takes_no_nonsense(env: AppEnvironment) -> None:
    body = problem(
        env.host.request("POST", "/api/cycles", json={"nonsense": 1}), 400, "request_invalid"
    )
    assert [fault["field"] for fault in body["errors"]] == ["nonsense"]


def test_health_says_nothing_but_a_number(env: AppEnvironment) -> None:
    response = env.host.request("GET", "/api/health")
    assert (response.status, response.body, response.header("Cache-Control")) == (
        200,
        b"",
        "no-store",
    )


def test_no_answer_holds_a_secret_or_the_engines_addresses(env: AppEnvironment) -> None:
    run = env.land("billed_reconciliation")
    for path in (f"/api/runs/{run['run_id']}", "/api/cycles/x", "/api/runs/x"):
        text = env.host.request("GET", path).body.decode().lower()
        assert not any(
            word in text
            for word in (
                "sig=",
                "code=",
                "key=",
                "token",
                "webhooks",
                "sas",
                "http://",
                "accountkey",
            )
        ), text


def test_when_the_task_hub_takes_nothing_the_claim_stays_and_is_settled(
    env: AppEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = an_invoice()

    async def refuse(*_: Any, **__: Any) -> str:
        raise Exception("the engine's words: https://hub.example/?code=TOPSECRET")

    with monkeypatch.context() as patch:
        patch.setattr(df.DurableOrchestrationClient, "start_new", refuse)
        response = env.host.request("POST", "/api/runs", json=order)
        body = problem(response, 503, "start_failed")
        assert response.header("Retry-After") and "TOPSECRET" not in json.dumps(body)
        cycle = problem(env.host.request("POST", "/api/cycles", json={}), 503, "start_failed")
        assert "TOPSECRET" not in json.dumps(cycle)
    again = env.post("/api/runs", order)
    assert again["started"] is False
    lost = again["run_id"]
    env.host.fire_timer("clean_up_orphaned_runs")
    env.host.advance(timedelta(minutes=5, seconds=1))
    env.host.fire_timer("clean_up_orphaned_runs")
    ended = env.get(f"/api/runs/{lost}")
    assert (ended["outcome"], ended["code"]) == ("failed", "run_lost") and ended["remedy"]
    assert env.post("/api/runs", order)["started"] is True
