"""The commands with a running app. Their waits advance the app's virtual clock."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from local.azurite import Azurite
from local.simulator import Behaviour
from partner_billing import commands, common
from tests.support.app_environment import AppEnvironment

RunCommand = Callable[..., tuple[int, Any]]
CreateCli = Callable[[AppEnvironment], RunCommand]


@pytest.fixture
def create_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CreateCli:
    """Return a factory of functions that run a command with `--json`.

    The functions return the exit code and the printed JSON.
    """

    def create(env: AppEnvironment) -> RunCommand:
        monkeypatch.setattr(
            common, "sleep", lambda seconds: env.host.advance(timedelta(seconds=seconds))
        )

        def run_command(*arguments: str) -> tuple[int, Any]:
            with pytest.raises(SystemExit) as exit_info:
                commands.main([*arguments, "--url", env.host.base_url, "--json"])
            output = capsys.readouterr()
            return int(exit_info.value.code or 0), json.loads(output.out or output.err)

        return run_command

    return create


def test_commands_of_successful_run_return_api_responses(
    azurite: Azurite, create_cli: CreateCli
) -> None:
    with AppEnvironment(azurite) as env:
        cli = create_cli(env)
        code, report = cli("doctor")
        # The first run creates the container.
        assert code == 0 and report["status"] == "warn"

        code, run = cli(
            "start", "billed_usage", "--invoice", env.invoice_id, "--reason", "test", "--watch"
        )
        assert code == 0 and run["outcome"] == "landed" and run["reason"] == "test"
        run_id = run["run_id"]
        assert cli("show", run_id) == (0, env.get(f"/api/runs/{run_id}"))
        code, blobs = cli("show", run_id, "--blobs", "--limit", "2")
        assert code == 0 and len(blobs["blobs"]) == 2 and blobs["continuation"]
        code, next_page = cli(
            "show", run_id, "--blobs", "--limit", "2", "--continuation", blobs["continuation"]
        )
        assert code == 0 and next_page["blobs"][0]["name"] not in {
            blob["name"] for blob in blobs["blobs"]
        }

        code, retried = cli("retry", run_id, "--watch")
        assert code == 0 and retried["outcome"] == "unchanged" and retried["retry_of"] == run_id
        code, listed = cli("list", "--dataset", "billed_usage", "--outcome", "landed")
        assert code == 0 and [item["run_id"] for item in listed["runs"]] == [run_id]
        code, catalogue = cli("catalogue", "--dataset", "billed_usage")
        assert code == 0 and [entry["path"] for entry in catalogue["entries"]] == [run["path"]]
        code, status = cli("status")
        assert code == 0 and status["last_landed"]["billed_usage"]["version"] == run["version"]
        assert cli("doctor")[1]["status"] == "ok"

        refused = cli("cancel", run_id)
        assert refused[0] == 4 and refused[1]["code"] == "run_ended"
        assert cli("show", "billed-usage-g1-full-20261108t093700z")[0] == 5
        code, error = cli("start", "billed_usage", "--month", "2026-11")
        assert code == 4 and {item["field"] for item in error["errors"]} >= {"invoice_id"}


def test_commands_of_failed_and_cancelled_runs_exit_with_1(
    azurite: Azurite, create_cli: CreateCli
) -> None:
    with AppEnvironment(azurite, behaviour=Behaviour(permission="denied")) as env:
        cli = create_cli(env)
        code, report = cli("doctor")
        assert code == 1 and report["status"] == "fail"
        code, run = cli("start", "billed_usage", "--invoice", env.invoice_id, "--watch")
        assert code == 1 and run["code"] == "graph_forbidden"

        env.simulator.behaviour = Behaviour(retry_after_seconds=200, ready_after_polls=9)
        code, live = cli("start", "unbilled_usage", "--month", "current", "--currency", "USD")
        assert code == 0 and live["started"] and live["outcome"] is None
        code, cancelled = cli("cancel", live["run_id"])
        assert code == 0 and cancelled["effective_by"]
        code, ended = cli("watch", live["run_id"])
        assert code == 1 and ended["outcome"] == "cancelled"


def test_cycle_follows_all_runs(azurite: Azurite, create_cli: CreateCli) -> None:
    with AppEnvironment(azurite, EXPORT_DATASETS="unbilled_reconciliation") as env:
        code, cycle = create_cli(env)("cycle")
        assert (
            code == 0
            and cycle["state"] == "ended"
            and {run["outcome"] for run in cycle["runs"]} == {"landed"}
        )
        assert cycle["runs"]


def test_backfill_lands_gaps_of_past_month(azurite: Azurite, create_cli: CreateCli) -> None:
    with AppEnvironment(azurite, EXPORT_DATASETS="unbilled_usage") as env:
        cli = create_cli(env)
        code, plan = cli("cycle", "--dry-run")
        assert (
            code == 0
            and plan["dry_run"]
            and [request["body"]["currencyCode"] for request in plan["requests"]]
        )
        month = str(env.simulator.month("last"))
        code, ended = cli("backfill", "--from", month, "--to", month, "--dataset", "unbilled_usage")
        assert code == 0 and ended["state"] == "ended"
        assert ended["landed"] == ended["planned"] > 0
        code, response = cli("gaps", "--from", month, "--to", month, "--dataset", "unbilled_usage")
        assert code == 0 and [gap["state"] for gap in response["gaps"]] == ["landed"]
        assert cli("watch", ended["backfill_id"]) == (0, ended)
        refused = cli("cancel", ended["backfill_id"])
        assert refused[0] == 4 and refused[1]["code"] == "backfill_ended"
