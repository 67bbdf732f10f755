"""Each command: the call that it makes, and what it prints for people and for programs."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from partner_billing import commands, errors
from tests.unit.cli.conftest import KEY, URL, Run, Scripted, a_run, answer, problem

RUN_ID = a_run()["run_id"]
ENTRY = {
    "key": "billed_usage/G1/full",
    "dataset": "billed_usage",
    "invoice_id": "G1",
    "billing_month": "2026-10",
    "version": "20261108T093700Z-3f9a1c20",
    "blobs": 3,
    "rows": 4_200,
    "bytes": 1_234_567,
    "landed_at": "2026-11-08T10:00:00Z",
    "last_outcome": "landed",
    "finality": "provisional",
    "tie_out": {"status": "off_by", "difference": "-0.50", "currency": "USD"},
}
DRY_RUN = {
    "dry_run": True,
    "tick": "2026-11-09T05:00:00Z",
    "not_due": [{"key": "billed_usage/G2/full", "next_due_at": "later"}],
    "requests": [
        {
            "key": "billed_usage/G1/full",
            "method": "POST",
            "path": "/reports/x/export",
            "body": {"invoiceId": "G1"},
            "live_run_id": None,
        }
    ],
    "left_out": [
        {
            "code": "invoice_legacy",
            "invoice_id": "D1",
            "cause": "It is a legacy invoice.",
            "remedy": "Nothing.",
        }
    ],
}
BACKFILL = {
    "backfill_id": "backfill-1",
    "state": "running",
    "planned": 36,
    "landed": 3,
    "no_data": 1,
    "not_served": 0,
    "failed": 0,
    "waiting": 32,
    "estimated_end": "2026-11-09T06:00:00Z",
    "runs": [],
}
GAPS = {
    "from": "2026-09",
    "to": "2026-10",
    "gaps": [
        {"dataset": "billed_usage", "billing_month": "2026-09", "state": "never_tried", "keys": []},
        {
            "dataset": "billed_usage",
            "billing_month": "2026-10",
            "state": "failed",
            "keys": [{"key": "billed_usage/G1/full", "state": "failed", "code": "graph_forbidden"}],
        },
    ],
}
STATUS = {
    "next_tick_at": "2026-11-09T05:00:00Z",
    "schedule": "0 0 5 * * *",
    "task_hub": "Tests",
    "versions": {"app": "0.1.0"},
    "last_cycle": {"cycle_id": "cycle-1", "state": "ended", "outcomes": {"landed": 2}, "runs": 2},
    "last_landed": {"billed_usage": ENTRY, "unbilled_usage": None},
    "live_runs": [
        {"run_id": RUN_ID, "stage": "waiting", "started_at": "now", "next_check_at": "soon"}
    ],
}
PREFLIGHT = {
    "status": "fail",
    "checks": [
        {
            "name": "graph",
            "status": "fail",
            "code": "graph_forbidden",
            "cause": "RequestRefusedError.",
            "remedy": "Grant it.",
            "seconds": 0.1,
            "facts": {"http_status": 403},
        },
        {
            "name": "tables",
            "status": "ok",
            "code": None,
            "cause": None,
            "remedy": None,
            "seconds": 0.1,
            "facts": {"table_prefix": "b"},
        },
    ],
}
BLOB = {"name": "part-0", "ok": True, "bytes": 5, "rows": 2, "copy_method": "stream", "code": None}

CASES: list[tuple[list[str], int, Any, str, str]] = [
    (
        [
            "list",
            "--month",
            "2026-11",
            "--dataset",
            "billed_usage",
            "--outcome",
            "failed",
            "--limit",
            "5",
        ],
        200,
        {"started": "2026-11", "runs": [a_run()], "continuation": "next-page"},
        "GET /api/runs?started=2026-11&dataset=billed_usage&outcome=failed&limit=5",
        "--continuation next-page",
    ),
    (
        ["list"],
        200,
        {"runs": [], "continuation": None},
        "GET /api/runs?limit=50",
        "There are none.",
    ),
    (
        ["show", RUN_ID],
        200,
        a_run(outcome="failed", code="graph_forbidden", remedy="Grant it."),
        f"GET /api/runs/{RUN_ID}",
        "Grant it.",
    ),
    (
        ["show", RUN_ID, "--blobs"],
        200,
        {"blobs": [BLOB], "continuation": None},
        f"GET /api/runs/{RUN_ID}/blobs?limit=100",
        "part-0",
    ),
    (["show", "../../admin"], 200, a_run(), "GET /api/runs/..%2F..%2Fadmin", "G1"),
    (
        ["cancel", RUN_ID],
        202,
        {**a_run(), "effective_by": "2026-11-08T10:00:00Z"},
        f"POST /api/runs/{RUN_ID}/cancel",
        "will have ended by 2026-11-08T10:00:00Z",
    ),
    (
        ["retry", RUN_ID],
        202,
        {**a_run(), "started": True},
        f"POST /api/runs/{RUN_ID}/retry",
        "has begun",
    ),
    (
        ["catalogue", "--month", "2026-10"],
        200,
        {"entries": [ENTRY], "continuation": None},
        "GET /api/catalogue?billing_month=2026-10&limit=100",
        "off by -0.50 USD",
    ),
    (["status"], 200, STATUS, "GET /api/status", "nothing yet"),
    (
        ["cycle", "--no-watch"],
        202,
        {"cycle_id": "cycle-1", "state": "starting", "runs": []},
        "POST /api/cycles",
        "cycle-1 has begun",
    ),
    (
        ["cycle", "--dry-run"],
        200,
        DRY_RUN,
        "POST /api/cycles",
        "left out: D1: It is a legacy invoice.",
    ),
    (
        ["backfill", "--from", "2025-09", "--to", "2026-08", "--no-watch"],
        202,
        BACKFILL,
        "POST /api/backfills",
        "backfill-1 has begun",
    ),
    (
        ["cancel", "backfill-1"],
        202,
        BACKFILL,
        "POST /api/backfills/backfill-1/cancel",
        "begins no further run",
    ),
    (
        ["gaps", "--from", "2026-09", "--dataset", "billed_usage", "--dataset", "unbilled_usage"],
        200,
        GAPS,
        "GET /api/gaps?from=2026-09&datasets=billed_usage%2Cunbilled_usage",
        "failed: billed_usage/G1/full (graph_forbidden)",
    ),
    (["gaps"], 200, GAPS, "GET /api/gaps", "never tried"),
    (
        ["start", "billed_usage", "--invoice", "G1"],
        202,
        {**a_run(), "started": False},
        "POST /api/runs",
        "is under way already",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "status", "body", "asked", "said"),
    CASES,
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_one_call(
    scripted: Scripted,
    run: Run,
    arguments: list[str],
    status: int,
    body: Any,
    asked: str,
    said: str,
) -> None:
    scripted.answers = [answer(status, body)]
    shown = run(*arguments)
    assert (shown.code, shown.err, scripted.asked) == (0, "", [asked]) and said in shown.out

    as_json = run(*arguments, "--json")
    assert as_json.code == 0 and json.loads(as_json.out) == body
    assert all(request.headers["x-functions-key"] == KEY for request in scripted.requests)


def test_start_sends_what_was_given_and_nothing_else(scripted: Scripted, run: Run) -> None:
    scripted.answers = [answer(202, {**a_run(), "started": True})]
    run(
        "start",
        "unbilled_usage",
        "--month",
        "current",
        "--currency",
        "USD",
        "--force",
        "--reason",
        "because",
    )
    run("start", "billed_usage", "--invoice", "G1", "--attribute-set", "basic")
    assert [json.loads(request.content) for request in scripted.requests] == [
        {
            "dataset": "unbilled_usage",
            "billing_month": "current",
            "currency_code": "USD",
            "force": True,
            "reason": "because",
        },
        {"dataset": "billed_usage", "invoice_id": "G1", "attribute_set": "basic"},
    ]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_doctor_s_verdict_is_the_exit_code(
    scripted: Scripted, run: Run, status: str, code: int
) -> None:
    scripted.answers = [answer(200, {**PREFLIGHT, "status": status})]
    ended = run("doctor")
    assert ended.code == code and "-> Grant it." in ended.out and "http_status: 403" in ended.out


def test_text_of_the_app_is_no_markup(scripted: Scripted, run: Run) -> None:
    scripted.answers = [answer(200, a_run(reason="[bold]x[/bold] [/nonsense]"))]
    assert "[bold]x[/bold] [/nonsense]" in run("show", RUN_ID).out


REFUSALS = [
    (problem(404, "not_found"), 5, "not_found"),
    (problem(409, "run_ended"), 4, "run_ended"),
    (
        problem(400, "request_invalid", errors=[{"field": "dataset", "message": "must be one"}]),
        4,
        "dataset: must be one",
    ),
    (problem(503, "ledger_unavailable"), 3, "ledger_unavailable"),
    (problem(500, "internal"), 3, "internal"),
    (answer(401), 4, "PARTNER_BILLING_KEY"),
    (answer(403), 4, "PARTNER_BILLING_KEY"),
    (answer(502), 3, "temporarily unavailable"),
    (answer(404, kind="text/html"), 3, "not the API"),
    (answer(200, [1]), 3, "not the API"),
    (answer(200, None, "application/json"), 3, "not the API"),
    (answer(302, Location="https://elsewhere.example/"), 3, "not the API"),
    (httpx.ConnectError("SENTINEL"), 3, "Could not connect"),
    (httpx.ReadTimeout("SENTINEL"), 3, "in time"),
    (httpx.RemoteProtocolError("SENTINEL"), 3, "was closed"),
]


@pytest.mark.parametrize(("said", "code", "told"), REFUSALS, ids=lambda value: str(value)[:30])
def test_what_is_no_answer_has_an_exit_code_and_says_what_to_do(
    scripted: Scripted,
    run: Run,
    said: Any,
    code: int,
    told: str,
) -> None:
    scripted.answers = [said]
    plain = run("show", RUN_ID)
    assert (
        (plain.code, plain.out) == (code, "")
        and told in plain.err
        and "-> " in plain.err
        and "SENTINEL" not in plain.err
    )
    assert len(scripted.requests) == 1

    document = json.loads(run("show", RUN_ID, "--json").err)
    assert document["exit_code"] == code and document["title"] and document["remedy"]


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["start"], ["start", "nonsense"], ["list", "--limit", "0"], ["show"]],
)
def test_wrong_usage(scripted: Scripted, run: Run, arguments: list[str]) -> None:
    assert run(*arguments).code == 2 and not scripted.requests


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example.org",
        f"https://app.example.org/api?code={KEY}",
        f"https://me:{KEY}@app.example.org",
        "ftp://a",
        "app",
        "https://",
        "https://[::1",
    ],
)
def test_an_address_that_would_give_the_key_away_is_refused_and_not_repeated(
    scripted: Scripted, run: Run, url: str
) -> None:
    ended = run("status", "--url", url)
    assert ended.code == 2 and "example" not in ended.err and not scripted.requests


def test_the_option_goes_before_the_environment(scripted: Scripted, run: Run) -> None:
    scripted.answers = [answer(200, STATUS)]
    run("status", "--url", "https://other.example.org/api/")
    run("status")
    assert [str(request.url) for request in scripted.requests] == [
        "https://other.example.org/api/status",
        f"{URL}/api/status",
    ]


def test_a_key_that_is_none(scripted: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_BILLING_KEY", "schlüssel–")
    assert run("status").code == 4 and not scripted.requests


def test_completion_knows_the_commands_and_the_datasets(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, expected in (
        ("partner-billing st", "status"),
        ("partner-billing start unb", "unbilled_usage"),
    ):
        monkeypatch.setenv("_PARTNER_BILLING_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        monkeypatch.setattr("sys.argv", ["partner-billing"])
        assert expected in run().out.split()


def test_help_names_every_command(run: Run) -> None:
    text = run("--help").out
    assert all(
        name in text
        for name in (
            "start",
            "list",
            "show",
            "watch",
            "retry",
            "cancel",
            "catalogue",
            "status",
            "doctor",
            "cycle",
        )
    )


def test_the_document_has_every_command_and_every_exit_code() -> None:
    text = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([a-z]+)[^|]*` \|", text, flags=re.MULTILINE))
    known = {
        command.name or getattr(command.callback, "__name__", "")
        for command in commands.app.registered_commands
    }
    assert named == known
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)}
    assert codes == {
        errors.DONE,
        errors.BAD,
        errors.USAGE,
        errors.UNREACHABLE,
        errors.REFUSED,
        errors.UNKNOWN_ID,
        errors.INTERRUPTED,
    }
