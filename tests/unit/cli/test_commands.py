"""The request, the text output and the JSON output of each command."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from partner_billing import commands, errors
from tests.unit.cli.fake_api import (
    KEY,
    URL,
    FakeApi,
    RunCommand,
    create_problem,
    create_response,
    create_run,
)

RUN_ID = create_run()["run_id"]
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
DAMAGED_ENTRY = {
    **ENTRY,
    "damage": {
        "version": "20261109T093700Z-3f9a1c21",
        "code": "version_damaged",
        "cause": "Blobs were changed.",
        "remedy": "Restore them.",
    },
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
            "remedy": "No action is required.",
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
    "last_cycle": {
        "cycle_id": "cycle-1",
        "state": "ended",
        "outcomes": {"landed": 2},
        "outcome": "incomplete",
        "left_out": [{"code": "partner_center_forbidden", "cause": "Denied.", "remedy": "Grant."}],
        "runs": 2,
    },
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
        {"started": "2026-11", "runs": [create_run()], "continuation": "next-page"},
        "GET /api/runs?started=2026-11&dataset=billed_usage&outcome=failed&limit=5",
        "--continuation next-page",
    ),
    (
        ["list"],
        200,
        {"runs": [], "continuation": None},
        "GET /api/runs?limit=50",
        "No matching runs.",
    ),
    (
        ["show", RUN_ID],
        200,
        create_run(outcome="failed", code="graph_forbidden", remedy="Grant it."),
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
    (["show", "../../admin"], 200, create_run(), "GET /api/runs/..%2F..%2Fadmin", "G1"),
    (
        ["cancel", RUN_ID],
        202,
        {**create_run(), "effective_by": "2026-11-08T10:00:00Z"},
        f"POST /api/runs/{RUN_ID}/cancel",
        "will end by 2026-11-08T10:00:00Z",
    ),
    (
        ["retry", RUN_ID],
        202,
        {**create_run(), "started": True},
        f"POST /api/runs/{RUN_ID}/retry",
        "has started",
    ),
    (
        ["catalogue", "--month", "2026-10"],
        200,
        {"entries": [ENTRY], "continuation": None},
        "GET /api/catalogue?billing_month=2026-10&limit=100",
        "off by -0.50 USD",
    ),
    (["status"], 200, STATUS, "GET /api/status", "none"),
    (
        ["cycle", "--no-watch"],
        202,
        {"cycle_id": "cycle-1", "state": "starting", "runs": []},
        "POST /api/cycles",
        "cycle-1 has started",
    ),
    (
        ["cycle", "--dry-run"],
        200,
        DRY_RUN,
        "POST /api/cycles",
        "excluded: D1: It is a legacy invoice.",
    ),
    (
        ["backfill", "--from", "2025-09", "--to", "2026-08", "--no-watch"],
        202,
        BACKFILL,
        "POST /api/backfills",
        "backfill-1 has started",
    ),
    (
        ["cancel", "backfill-1"],
        202,
        BACKFILL,
        "POST /api/backfills/backfill-1/cancel",
        "will start no further runs",
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
        {**create_run(), "started": False},
        "POST /api/runs",
        "is already running",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "status", "body", "expected_call", "expected_text"),
    CASES,
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_command_sends_one_request_and_prints_the_response(
    fake_api: FakeApi,
    run: RunCommand,
    arguments: list[str],
    status: int,
    body: Any,
    expected_call: str,
    expected_text: str,
) -> None:
    fake_api.responses = [create_response(status, body)]
    result = run(*arguments)
    assert (result.code, result.err, fake_api.calls) == (0, "", [expected_call])
    assert expected_text in result.out

    json_result = run(*arguments, "--json")
    assert json_result.code == 0 and json.loads(json_result.out) == body
    assert all(request.headers["x-functions-key"] == KEY for request in fake_api.requests)


def test_start_sends_only_given_options(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [create_response(202, {**create_run(), "started": True})]
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
    assert [json.loads(request.content) for request in fake_api.requests] == [
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
def test_doctor_exit_code_depends_on_status(
    fake_api: FakeApi, run: RunCommand, status: str, code: int
) -> None:
    fake_api.responses = [create_response(200, {**PREFLIGHT, "status": status})]
    result = run("doctor")
    assert result.code == code
    assert "-> Grant it." in result.out and "http_status: 403" in result.out


def test_show_escapes_markup(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [create_response(200, create_run(reason="[bold]x[/bold] [/invalid]"))]
    assert "[bold]x[/bold] [/invalid]" in run("show", RUN_ID).out


ERROR_RESPONSES = [
    (create_problem(404, "not_found"), 5, "not_found"),
    (create_problem(409, "run_ended"), 4, "run_ended"),
    (
        create_problem(
            400, "request_invalid", errors=[{"field": "dataset", "message": "must be one"}]
        ),
        4,
        "dataset: must be one",
    ),
    (create_problem(503, "ledger_unavailable"), 3, "ledger_unavailable"),
    (create_problem(500, "internal"), 3, "internal"),
    (create_response(401), 4, "PARTNER_BILLING_KEY"),
    (create_response(403), 4, "PARTNER_BILLING_KEY"),
    (create_response(502), 3, "temporarily unavailable"),
    (create_response(404, content_type="text/html"), 3, "not the API"),
    (create_response(200, [1]), 3, "not the API"),
    (create_response(200, None, "application/json"), 3, "not the API"),
    (create_response(302, Location="https://elsewhere.example/"), 3, "not the API"),
    (httpx.ConnectError("SENTINEL"), 3, "Could not connect"),
    (httpx.ReadTimeout("SENTINEL"), 3, "in time"),
    (httpx.RemoteProtocolError("SENTINEL"), 3, "was closed"),
]


@pytest.mark.parametrize(
    ("response", "exit_code", "expected_text"), ERROR_RESPONSES, ids=lambda value: str(value)[:30]
)
def test_error_response_sets_exit_code_and_prints_remedy(
    fake_api: FakeApi,
    run: RunCommand,
    response: Any,
    exit_code: int,
    expected_text: str,
) -> None:
    fake_api.responses = [response]
    result = run("show", RUN_ID)
    assert (result.code, result.out) == (exit_code, "")
    assert expected_text in result.err and "-> " in result.err
    assert "SENTINEL" not in result.err
    assert len(fake_api.requests) == 1

    document = json.loads(run("show", RUN_ID, "--json").err)
    assert document["exit_code"] == exit_code and document["title"] and document["remedy"]


@pytest.mark.parametrize(
    "arguments",
    [["invalid"], ["start"], ["start", "invalid"], ["list", "--limit", "0"], ["show"]],
)
def test_invalid_arguments_exit_with_usage_error(
    fake_api: FakeApi, run: RunCommand, arguments: list[str]
) -> None:
    assert run(*arguments).code == 2 and not fake_api.requests


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
def test_unsafe_url_is_rejected_and_not_printed(
    fake_api: FakeApi, run: RunCommand, url: str
) -> None:
    result = run("status", "--url", url)
    assert result.code == 2 and "example" not in result.err and not fake_api.requests


def test_damaged_versions_are_shown(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [
        create_response(200, {**STATUS, "damaged": [DAMAGED_ENTRY]}),
        create_response(200, {"entries": [DAMAGED_ENTRY], "continuation": None}),
    ]
    status, catalogue = run("status").out, run("catalogue").out
    assert "billed_usage/G1/full, version 20261109T093700Z-3f9a1c21" in status
    assert "Blobs were changed. (version_damaged)" in status and "-> Restore them." in status
    assert "20261109T093700Z-3f9a1c21 is damaged" in catalogue


def test_status_of_failed_cycle_shows_code_remedy_and_restarts(
    fake_api: FakeApi, run: RunCommand
) -> None:
    failure = {
        "state": "failed",
        "code": "restart_limit_reached",
        "cause": "The orchestration failed.",
        "remedy": "See the log.",
        "restarts": 3,
    }
    cycle = {**STATUS["last_cycle"], **failure}
    fake_api.responses = [create_response(200, {**STATUS, "last_cycle": cycle})]
    status = run("status").out
    assert "cycle-1 failed, incomplete, started again 3 times: landed 2" in status
    assert "failed: restart_limit_reached: The orchestration failed.\n-> See the log." in status


def test_url_option_overrides_environment(fake_api: FakeApi, run: RunCommand) -> None:
    fake_api.responses = [create_response(200, STATUS)]
    run("status", "--url", "https://other.example.org/api/")
    run("status")
    assert [str(request.url) for request in fake_api.requests] == [
        "https://other.example.org/api/status",
        f"{URL}/api/status",
    ]


def test_key_with_invalid_characters_is_refused(
    fake_api: FakeApi, run: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_BILLING_KEY", "schlüssel–")
    assert run("status").code == 4 and not fake_api.requests


def test_completion_suggests_commands_and_datasets(
    run: RunCommand, monkeypatch: pytest.MonkeyPatch
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


def test_help_lists_all_commands(run: RunCommand) -> None:
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
            "backfill",
            "gaps",
        )
    )


def test_document_lists_all_commands_and_exit_codes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z]+)[^|]*` \|", text, flags=re.MULTILINE))
    registered = {
        command.name or getattr(command.callback, "__name__", "")
        for command in commands.app.registered_commands
    }
    assert documented == registered
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)}
    assert codes == {
        errors.DONE,
        errors.FAILED,
        errors.USAGE,
        errors.UNREACHABLE,
        errors.REFUSED,
        errors.NOT_FOUND,
        errors.INTERRUPTED,
    }
