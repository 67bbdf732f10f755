"""Every command against the real app, over HTTP; the waits of the program move the app's clock."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator import Behaviour
from partner_billing import commands, common
from tests.support.app_environment import AppEnvironment

Typed = Callable[..., tuple[int, Any]]


@pytest.fixture
def typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[AppEnvironment], Typed]:
    """Types a command with --json: exit code, and the document that it printed."""

    def on(env: AppEnvironment) -> Typed:
        monkeypatch.setattr(
            common, "sleep", lambda seconds: env.host.advance(timedelta(seconds=seconds))
        )

        def typed(*arguments: str) -> tuple[int, Any]:
            with pytest.raises(SystemExit) as end:
                commands.main([*arguments, "--url", env.host.base_url, "--json"])
            said = capsys.readouterr()
            return int(end.value.code or 0), json.loads(said.out or said.err)

        return typed

    return on


def test_from_the_doctor_to_the_catalogue(
    azurite: Azurite, typed: Callable[[AppEnvironment], Typed]
) -> None:
    with AppEnvironment(azurite) as env:
        cli = typed(env)
        code, report = cli("doctor")
        assert (
            code == 0 and report["status"] == "warn"
        )  # the container is not there before the first run

        code, run = cli(
            "start", "billed_usage", "--invoice", env.invoice_id, "--reason", "a test", "--watch"
        )
        assert code == 0 and run["outcome"] == "landed" and run["reason"] == "a test"
        run_id = run["run_id"]
        assert cli("show", run_id) == (0, env.get(f"/api/runs/{run_id}"))
        code, blobs = cli("show", run_id, "--blobs", "--limit", "2")
        assert code == 0 and len(blobs["blobs"]) == 2 and blobs["continuation"]
        code, more = cli(
            "show", run_id, "--blobs", "--limit", "2", "--continuation", blobs["continuation"]
        )
        assert code == 0 and more["blobs"][0]["name"] not in {
            blob["name"] for blob in blobs["blobs"]
        }

        code, again = cli("retry", run_id, "--watch")
        assert code == 0 and again["outcome"] == "unchanged" and again["retry_of"] == run_id
        code, listed = cli("list", "--dataset", "billed_usage", "--outcome", "landed")
        assert code == 0 and [one["run_id"] for one in listed["runs"]] == [run_id]
        code, catalogue = cli("catalogue", "--dataset", "billed_usage")
        assert code == 0 and [entry["path"] for entry in catalogue["entries"]] == [run["path"]]
        code, status = cli("status")
        assert code == 0 and status["last_landed"]["billed_usage"]["version"] == run["version"]
        assert cli("doctor")[1]["status"] == "ok"

        refused = cli("cancel", run_id)
        assert refused[0] == 4 and refused[1]["code"] == "run_ended"
        assert cli("show", "billed-usage-g1-full-20261108t093700z")[0] == 5
        code, wrong = cli("start", "billed_usage", "--month", "2026-11")
        assert code == 4 and {error["field"] for error in wrong["errors"]} >= {"invoice_id"}


def test_what_fails_and_what_is_cancelled(
    azurite: Azurite, typed: Callable[[AppEnvironment], Typed]
) -> None:
    with AppEnvironment(azurite, behaviour=Behaviour(permission="denied")) as env:
        cli = typed(env)
        code, report = cli("doctor")
        assert code == 1 and report["status"] == "fail"
        code, run = cli("start", "billed_usage", "--invoice", env.invoice_id, "--watch")
        assert code == 1 and run["code"] == "graph_forbidden"

        env.simulator.behaviour = Behaviour(retry_after_seconds=200, ready_after_polls=9)
        code, live = cli("start", "unbilled_usage", "--month", "current", "--currency", "USD")
        assert code == 0 and live["started"] and live["outcome"] is None
        code, marked = cli("cancel", live["run_id"])
        assert code == 0 and marked["effective_by"]
        code, end = cli("watch", live["run_id"])
        assert code == 1 and end["outcome"] == "cancelled"


def test_a_cycle_is_followed_to_its_end(
    azurite: Azurite, typed: Callable[[AppEnvironment], Typed]
) -> None:
    with AppEnvironment(azurite, EXPORT_DATASETS="unbilled_reconciliation") as env:
        code, cycle = typed(env)("cycle")
        assert (
            code == 0
            and cycle["state"] == "ended"
            and {run["outcome"] for run in cycle["runs"]} == {"landed"}
        )
        assert cycle["runs"]


def test_the_past_is_fetched_and_what_is_missing_is_told(
    azurite: Azurite, typed: Callable[[AppEnvironment], Typed]
) -> None:
    with AppEnvironment(azurite, EXPORT_DATASETS="unbilled_usage") as env:
        cli = typed(env)
        code, plan = cli("cycle", "--dry-run")
        assert (
            code == 0
            and plan["dry_run"]
            and [one["body"]["currencyCode"] for one in plan["requests"]]
        )
        month = str(env.simulator.month("last"))
        code, end = cli("backfill", "--from", month, "--to", month, "--dataset", "unbilled_usage")
        assert code == 0 and end["state"] == "ended" and end["landed"] == end["planned"] > 0
        code, told = cli("gaps", "--from", month, "--to", month, "--dataset", "unbilled_usage")
        assert code == 0 and [gap["state"] for gap in told["gaps"]] == ["landed"]
        assert cli("watch", end["backfill_id"]) == (0, end)
        refused = cli("cancel", end["backfill_id"])
        assert refused[0] == 4 and refused[1]["code"] == "backfill_ended"
