"""Following to the end: as slowly as the app asks, through outages, and with an exit code that tells how it ended."""

import json
from typing import Any

import httpx
import pytest

from partner_billing.watch import PATIENCE, PAUSE, follow, wait
from tests.unit.cli.conftest import Run, Scripted, a_run, answer, problem

RUN_ID = a_run()["run_id"]
LIVE = answer(200, a_run(stage="waiting", polls=1), Retry_After="200")


def ended(outcome: str, **changes: Any) -> httpx.Response:
    return answer(200, a_run(stage="ended", outcome=outcome, **changes))


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
def test_how_it_ended_is_the_exit_code(
    scripted: Scripted, run: Run, outcome: str, code: int
) -> None:
    scripted.answers = [LIVE, ended(outcome)]
    assert run("watch", RUN_ID).code == code
    assert scripted.asked == [f"GET /api/runs/{RUN_ID}"] * 2 and scripted.slept == [200.0]


def test_a_failure_says_what_to_do(scripted: Scripted, run: Run) -> None:
    scripted.answers = [
        ended("failed", code="graph_forbidden", cause="RequestRefusedError.", remedy="Grant it.")
    ]
    assert "RequestRefusedError.\n-> Grant it." in run("watch", RUN_ID).out


def test_json_is_one_document_and_nothing_else(scripted: Scripted, run: Run) -> None:
    scripted.answers = [LIVE, ended("landed", path="data/x")]
    shown = run("watch", RUN_ID, "--json")
    assert json.loads(shown.out)["path"] == "data/x" and not shown.err


def test_starting_and_watching_is_one_command(scripted: Scripted, run: Run) -> None:
    scripted.answers = [answer(202, {**a_run(), "started": True}), LIVE, ended("landed")]
    assert run("start", "billed_usage", "--invoice", "G1", "--watch").code == 0
    assert scripted.asked == ["POST /api/runs"] + [f"GET /api/runs/{RUN_ID}"] * 2


@pytest.mark.parametrize(
    ("state", "outcomes", "code"),
    [
        ("ended", ["landed", "unchanged"], 0),
        ("ended", [], 0),
        ("ended", ["landed", "failed"], 1),
        ("failed", ["landed"], 1),
    ],
)
def test_a_cycle(scripted: Scripted, run: Run, state: str, outcomes: list[str], code: int) -> None:
    runs = [a_run(run_id=f"r{n}", outcome=outcome) for n, outcome in enumerate(outcomes)]
    scripted.answers = [
        answer(202, {"cycle_id": "cycle-1", "state": "starting", "runs": []}),
        answer(
            200, {"cycle_id": "cycle-1", "state": "running", "runs": [a_run()]}, Retry_After="5"
        ),
        answer(200, {"cycle_id": "cycle-1", "state": state, "runs": runs}),
    ]
    assert run("cycle").code == code
    assert scripted.asked == [
        "POST /api/cycles",
        "GET /api/cycles/cycle-1",
        "GET /api/cycles/cycle-1",
    ]
    assert scripted.slept == [5.0]


@pytest.mark.parametrize(
    ("state", "outcomes", "code"),
    [("ended", ["landed", "no_data"], 0), ("ended", ["landed", "failed"], 1), ("failed", [], 1)],
)
def test_a_backfill_is_told_in_counts(
    scripted: Scripted, run: Run, state: str, outcomes: list[str], code: int
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
    scripted.answers = [
        answer(202, {**body, "state": "starting"}),
        answer(200, {**body, "state": "running"}, Retry_After="10"),
        answer(200, {**body, "state": state, "landed": 1, "waiting": 0, "runs": runs}),
    ]
    ended = run("backfill", "--from", "2026-09", "--to", "2026-10", "--dataset", "billed_usage")
    assert ended.code == code and scripted.slept == [10.0]
    assert ended.out.splitlines()[:2] == ["2 planned: 0 landed, 2 to go", "2 planned: 1 landed"]
    assert ("r1: graph_forbidden" in ended.out) == ("failed" in outcomes)
    assert json.loads(scripted.requests[0].content) == {
        "from": "2026-09",
        "to": "2026-10",
        "datasets": ["billed_usage"],
    }


def test_an_outage_does_not_end_it(scripted: Scripted, run: Run) -> None:
    scripted.answers = [
        LIVE,
        httpx.ConnectError("no"),
        problem(503, "ledger_unavailable"),
        ended("landed"),
    ]
    assert run("watch", RUN_ID).code == 0
    assert scripted.slept == [200.0, PAUSE, PAUSE]


def test_an_outage_without_end_does(scripted: Scripted, run: Run) -> None:
    scripted.answers = [httpx.ConnectError("no")]
    assert run("watch", RUN_ID).code == 3
    assert len(scripted.requests) == PATIENCE and scripted.slept == [PAUSE] * (PATIENCE - 1)


def test_a_run_that_is_not_known_ends_it_at_once(scripted: Scripted, run: Run) -> None:
    scripted.answers = [problem(404, "not_found")]
    assert run("watch", RUN_ID).code == 5 and scripted.slept == []


def test_ctrl_c_says_that_the_run_goes_on(
    scripted: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("partner_billing.common.sleep", interrupted)
    scripted.answers = [LIVE]
    ended = run("watch", RUN_ID)
    assert ended.code == 130 and "The run continues" in ended.err and "Traceback" not in ended.err


def test_a_terminal_counts_down_without_asking() -> None:
    slept: list[float] = []
    drawn: list[int] = []
    wait(3.5, lambda: drawn.append(len(slept)), slept.append, 1.0)
    assert slept == [1.0, 1.0, 1.0, 0.5] and drawn == [1, 2, 3]


def test_without_a_header_it_asks_every_few_seconds(scripted: Scripted) -> None:
    from partner_billing.address import Address
    from partner_billing.api import Api

    scripted.answers = [answer(200, a_run()), ended("landed")]
    with Api(Address("https://app.example.org"), httpx.MockTransport(scripted)) as api:
        follow(api, RUN_ID, lambda body: None, scripted.slept.append)
    assert scripted.slept == [5.0] and "x-functions-key" not in scripted.requests[0].headers
