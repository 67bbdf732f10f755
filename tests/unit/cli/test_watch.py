"""The poll interval, outages, and the exit code of commands that follow a run."""

import json
from typing import Any

import httpx
import pytest

from partner_billing.address import Address
from partner_billing.api import Api
from partner_billing.watch import FAILED_POLL_PAUSE_SECONDS, MAX_FAILED_POLLS, follow, wait
from tests.unit.cli.fake_api import (
    FakeApi,
    RunCommand,
    create_problem,
    create_response,
    create_run,
)

RUN_ID = create_run()["run_id"]
LIVE_RESPONSE = create_response(200, create_run(stage="waiting", polls=1), Retry_After="200")


def create_ended_run_response(outcome: str, **changes: Any) -> httpx.Response:
    return create_response(200, create_run(stage="ended", outcome=outcome, **changes))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("landed", 0),
        ("unchanged", 0),
        ("no_data", 0),
        ("failed", 1),
        ("incomplete", 1),
        ("timed_out", 1),
        ("cancelled", 1),
        ("superseded", 1),
    ],
)
def test_watch_exit_code_depends_on_outcome(
    fake_api: FakeApi, run: RunCommand, outcome: str, code: int
) -> None:
    fake_api.responses = [LIVE_RESPONSE, create_ended_run_response(outcome)]
    assert run("watch", RUN_ID).code == code
    assert fake_api.calls == [f"GET /api/runs/{RUN_ID}"] * 2 and fake_api.sleeps == [200.0]


def test_watch_failed_run_prints_cause_and_remedy(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [
        create_ended_run_response(
            "failed", code="graph_forbidden", cause="RequestRefusedError.", remedy="Grant it."
        )
    ]
    assert "RequestRefusedError.\n-> Grant it." in run("watch", RUN_ID).out


def test_watch_json_prints_only_last_body(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [LIVE_RESPONSE, create_ended_run_response("landed", path="data/x")]
    result = run("watch", RUN_ID, "--json")
    assert json.loads(result.out)["path"] == "data/x" and not result.err


def test_start_with_watch_follows_run(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [
        create_response(202, {**create_run(), "started": True}),
        LIVE_RESPONSE,
        create_ended_run_response("landed"),
    ]
    assert run("start", "billed_usage", "--invoice", "G1", "--watch").code == 0
    assert fake_api.calls == ["POST /api/runs"] + [f"GET /api/runs/{RUN_ID}"] * 2


@pytest.mark.parametrize(
    ("state", "outcomes", "code"),
    [
        ("ended", ["landed", "unchanged"], 0),
        ("ended", [], 0),
        ("ended", ["landed", "failed"], 1),
        ("failed", ["landed"], 1),
    ],
)
def test_cycle_exit_code_depends_on_state_and_outcomes(
    fake_api: FakeApi, run: RunCommand, state: str, outcomes: list[str], code: int
) -> None:
    runs = [create_run(run_id=f"r{n}", outcome=outcome) for n, outcome in enumerate(outcomes)]
    fake_api.responses = [
        create_response(202, {"cycle_id": "cycle-1", "state": "starting", "runs": []}),
        create_response(
            200,
            {"cycle_id": "cycle-1", "state": "running", "runs": [create_run()]},
            Retry_After="5",
        ),
        create_response(200, {"cycle_id": "cycle-1", "state": state, "runs": runs}),
    ]
    assert run("cycle").code == code
    assert fake_api.calls == [
        "POST /api/cycles",
        "GET /api/cycles/cycle-1",
        "GET /api/cycles/cycle-1",
    ]
    assert fake_api.sleeps == [5.0]


@pytest.mark.parametrize("kind", ["cycle", "backfill"])
def test_exit_code_of_incomplete_plan_is_1_and_the_reason_is_printed(
    fake_api: FakeApi, run: RunCommand, kind: str
) -> None:
    left_out = {
        "code": "partner_center_unauthorized",
        "cause": "Partner Center did not accept the access token (401).",
        "remedy": "Set PARTNER_CENTER_APP_CLIENT_ID.",
        "invoice_id": None,
    }
    body = {f"{kind}_id": f"{kind}-1", "state": "ended", "runs": [], "left_out": [left_out]}
    fake_api.responses = [create_response(200, {**body, "outcome": "incomplete"})]
    result = run("watch", f"{kind}-1")
    assert result.code == 1
    assert "partner_center_unauthorized: Partner Center did not accept" in result.out
    assert "-> Set PARTNER_CENTER_APP_CLIENT_ID." in result.out
    assert "outcome: incomplete" in result.out
    fake_api.responses = [create_response(200, {**body, "outcome": "complete"})]
    assert run("watch", f"{kind}-1").code == 0


@pytest.mark.parametrize("kind", ["cycle", "backfill"])
def test_watch_of_failed_plan_prints_code_remedy_and_restarts(
    fake_api: FakeApi, run: RunCommand, kind: str
) -> None:
    body = {
        f"{kind}_id": f"{kind}-1",
        "state": "failed",
        "outcome": "incomplete",
        "runs": [],
        "code": "restart_limit_reached",
        "cause": "The orchestration failed.",
        "remedy": "See the log.",
        "restarts": 3,
    }
    fake_api.responses = [create_response(200, body)]
    result = run("watch", f"{kind}-1")
    assert result.code == 1
    assert result.out.splitlines()[-3:] == [
        "failed: restart_limit_reached: The orchestration failed.",
        "-> See the log.",
        "outcome: incomplete (started again 3 times)",
    ]


@pytest.mark.parametrize(
    ("state", "outcomes", "code"),
    [("ended", ["landed", "no_data"], 0), ("ended", ["landed", "failed"], 1), ("failed", [], 1)],
)
def test_backfill_prints_counts(
    fake_api: FakeApi, run: RunCommand, state: str, outcomes: list[str], code: int
) -> None:
    body = {"backfill_id": "backfill-1", "planned": 2, "landed": 0, "waiting": 2, "runs": []}
    runs = [
        {
            "run_id": f"r{n}",
            "key": "k",
            "outcome": outcome,
            "code": "graph_forbidden" if outcome == "failed" else None,
        }
        for n, outcome in enumerate(outcomes)
    ]
    fake_api.responses = [
        create_response(202, {**body, "state": "starting"}),
        create_response(200, {**body, "state": "running"}, Retry_After="10"),
        create_response(200, {**body, "state": state, "landed": 1, "waiting": 0, "runs": runs}),
    ]
    result = run("backfill", "--from", "2026-09", "--to", "2026-10", "--dataset", "billed_usage")
    assert result.code == code and fake_api.sleeps == [10.0]
    assert result.out.splitlines()[:2] == [
        "2 planned: 0 landed, 2 remaining",
        "2 planned: 1 landed",
    ]
    assert ("r1: graph_forbidden" in result.out) == ("failed" in outcomes)
    assert json.loads(fake_api.requests[0].content) == {
        "from": "2026-09",
        "to": "2026-10",
        "datasets": ["billed_usage"],
    }


def test_watch_continues_after_outage(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [
        LIVE_RESPONSE,
        httpx.ConnectError("no"),
        create_problem(503, "ledger_unavailable"),
        create_ended_run_response("landed"),
    ]
    assert run("watch", RUN_ID).code == 0
    assert fake_api.sleeps == [200.0, FAILED_POLL_PAUSE_SECONDS, FAILED_POLL_PAUSE_SECONDS]


def test_watch_stops_after_too_many_failed_polls(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [httpx.ConnectError("no")]
    assert run("watch", RUN_ID).code == 3
    assert len(fake_api.requests) == MAX_FAILED_POLLS and fake_api.sleeps == [
        FAILED_POLL_PAUSE_SECONDS
    ] * (MAX_FAILED_POLLS - 1)


def test_watch_unknown_run_exits_at_once(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [create_problem(404, "not_found")]
    assert run("watch", RUN_ID).code == 5 and fake_api.sleeps == []


def test_watch_interrupted_prints_that_run_continues(
    fake_api: FakeApi, run: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("partner_billing.common.sleep", interrupt)
    fake_api.responses = [LIVE_RESPONSE]
    result = run("watch", RUN_ID)
    assert result.code == 130
    assert "The run continues" in result.err and "Traceback" not in result.err


def test_wait_redraws_without_polling() -> None:
    sleeps: list[float] = []
    drawn: list[int] = []
    wait(3.5, lambda: drawn.append(len(sleeps)), sleeps.append, 1.0)
    assert sleeps == [1.0, 1.0, 1.0, 0.5] and drawn == [1, 2, 3]


def test_follow_without_retry_after_uses_default_interval(fake_api: FakeApi) -> None:
    fake_api.responses = [create_response(200, create_run()), create_ended_run_response("landed")]
    with Api(Address("https://app.example.org"), httpx.MockTransport(fake_api)) as api:
        follow(api, RUN_ID, lambda body: None, fake_api.sleeps.append)
    assert fake_api.sleeps == [5.0] and "x-functions-key" not in fake_api.requests[0].headers
