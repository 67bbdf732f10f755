"""`make demo`: lands all four datasets through the app's HTTP API and verifies the result.

Each demo starts with an empty state and keeps the landed data in .state/demo.

Exit codes: 0 if every run landed and every blob was verified, 1 if not, 3 if another demo is
running.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient, ContainerClient
from rich.console import Console
from rich.table import Table

from local.azurite import ROOT
from local.stack import (
    NEVER_SCHEDULE,
    Stack,
    StackError,
    display_path,
    exit_on_signals,
    last_lines,
    run_stack,
)
from local.verify_landing import LandingVerifier, VerificationResult
from partner_billing.output import describe_tie_out, format_amount
from partner_billing.progress import (
    GOOD_OUTCOMES,
    Progress,
    Run,
    duration_seconds,
    format_bytes,
    scope_of,
)

STATE = ROOT / ".state" / "demo"
DATASETS = {"billed_usage", "unbilled_usage", "billed_reconciliation", "unbilled_reconciliation"}
MAX_CYCLE_SECONDS = 150.0
POLL_SECONDS = 0.5


class DemoError(Exception):
    """The demo could not continue. The message states why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local.demo",
        description="Lands all four datasets locally and verifies them.",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=STATE,
        help="the state directory; it is deleted at the start and kept at the end",
    )
    parser.add_argument(
        "--app-root",
        type=Path,
        default=ROOT,
        help="the folder that contains the app: this checkout or an unpacked package",
    )
    options = parser.parse_args(arguments)
    state, app_root = options.state_dir.resolve(), options.app_root.resolve()
    console, started_at = create_console(), time.monotonic()
    exit_on_signals()
    try:
        console.print(
            "Starting the storage emulator, the simulator and the local Functions host ...",
            highlight=False,
        )
        with run_stack(
            state, fresh=True, app_root=app_root, settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}
        ) as stack:
            runs = land_all(stack, console)
            invoice_totals = describe_tie_outs(stack)
            results = verify_runs(stack, runs)
            tables = write_ledger(stack, state / "ledger")
            print_report(console, runs, invoice_totals)
            is_verified = print_verdict(console, runs, results)
        print_next_steps(console, state, runs, tables)
        console.print(f"Total time: {time.monotonic() - started_at:.0f} seconds.", highlight=False)
        return 0 if is_verified else 1
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo was cancelled.")
        return 1


def create_console() -> Console:
    """Return a console that is as wide as the terminal, or wide enough for every line."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def land_all(stack: Stack, console: Console) -> list[Run]:
    """Run one cycle to completion and return its runs in the planned order."""
    with httpx.Client(base_url=stack.app_url, timeout=30) as api, Progress(console) as progress:
        started = api.post("/api/cycles", json={})
        if started.status_code != 202:
            raise DemoError(describe_response("POST /api/cycles", started, stack))
        console.print(
            f"POST /api/cycles started cycle {started.json()['cycle_id']} for all due exports.\n",
            highlight=False,
        )
        for cycle in poll_cycle(api, started.headers["Location"], stack):
            progress.show(cycle["runs"])
            if cycle["state"] in ("ended", "failed"):
                break
    if cycle["state"] != "ended" or not cycle["runs"]:
        raise DemoError(
            f"The cycle is in the {cycle['state']} state and has {len(cycle['runs'])} runs."
            f"{last_lines(stack.app.log)}"
        )
    return list(cycle["runs"])


def poll_cycle(api: httpx.Client, location: str, stack: Stack) -> Iterator[dict[str, Any]]:
    """Yield the cycle's status until the caller stops.

    Raises DemoError after MAX_CYCLE_SECONDS, and StackError if a process of the stack stopped.
    """
    deadline = time.monotonic() + MAX_CYCLE_SECONDS
    while time.monotonic() < deadline:
        stack.check()
        response = api.get(location)
        if response.status_code == 200:
            yield response.json()
        elif response.status_code < 500:
            raise DemoError(describe_response(f"GET {location}", response, stack))
        time.sleep(POLL_SECONDS)
    raise DemoError(
        f"The cycle did not end within {MAX_CYCLE_SECONDS:.0f} seconds.{last_lines(stack.app.log)}"
    )


def describe_tie_outs(stack: Stack) -> list[str]:
    """Return a line for each invoice that compares the total of its lines with the listed total."""
    response = httpx.get(f"{stack.app_url}/api/catalogue?dataset=billed_reconciliation", timeout=30)
    if response.status_code != 200:
        raise DemoError(describe_response("GET /api/catalogue", response, stack))
    lines = []
    for entry in response.json()["entries"]:
        comparison = entry["tie_out"] or {}
        total = comparison.get("listed_total")
        listed = (
            f"listed total {format_amount(total)} {comparison.get('currency')}"
            if total
            else "no listed total"
        )
        lines.append(
            f"{entry['invoice_id']}  {describe_tie_out(comparison) or 'not compared'}, "
            f"{listed}, {entry['finality']}"
        )
    return lines


def describe_response(call: str, response: httpx.Response, stack: Stack) -> str:
    """Return an error message for a response with an unexpected status."""
    return (
        f"{call} returned {response.status_code}: {response.text[:500]}{last_lines(stack.app.log)}"
    )


def verify_runs(stack: Stack, runs: Sequence[Run]) -> dict[str, VerificationResult]:
    """Verify the landed runs and return the result for each run ID."""
    landing = ContainerClient.from_connection_string(stack.landing_connection_string, "billing")
    source = BlobServiceClient.from_connection_string(stack.storage.billing.connection_string)
    verifier = LandingVerifier(landing, source, stack.state / "landing")
    return {
        str(run["run_id"]): verifier.verify_run(run)
        if run["outcome"] == "landed"
        else VerificationResult()
        for run in runs
    }


def write_ledger(stack: Stack, folder: Path) -> list[str]:
    """Write each ledger table as a JSON Lines file and return the table names."""
    folder.mkdir(parents=True, exist_ok=True)
    with TableServiceClient.from_connection_string(stack.landing_connection_string) as service:
        names = sorted(table.name for table in service.list_tables())
        for name in names:
            rows = [plain_values(row) for row in service.get_table_client(name).list_entities()]
            lines = [json.dumps(row, default=str) for row in rows]
            (folder / f"{name}.jsonl").write_text(
                "".join(f"{line}\n" for line in lines), encoding="utf-8"
            )
    return names


def plain_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without the SDK's type wrappers, such as `EntityProperty` for Int64."""
    return {name: getattr(value, "value", value) for name, value in row.items()}


def print_report(console: Console, runs: Sequence[Run], invoice_totals: Sequence[str]) -> None:
    """Print the landed data, the comparison with the invoices, and the folders."""
    table = Table(
        title="Landed exports", title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for title in ("dataset", "scope", "version"):
        table.add_column(title, overflow="fold")
    for title in ("blobs", "rows", "bytes", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for run in runs:
        seconds = duration_seconds(run)
        table.add_row(
            run["dataset"],
            scope_of(run),
            run.get("version") or run["outcome"],
            str(run["blobs"]["landed"]),
            "unknown" if run["rows"] is None else f"{run['rows']:,}",
            format_bytes(run["bytes"]),
            "" if seconds is None else f"{seconds:.1f}",
            style="" if run["outcome"] in GOOD_OUTCOMES else "red",
        )
    console.print("\n", table, sep="")
    console.print("\nTotal of each invoice's lines compared with its listed total:", style="bold")
    for line in invoice_totals:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print('\nFolders in the container "billing":', style="bold")
    for run in runs:
        if run.get("path"):
            console.print(f"  {run['path']}", highlight=False, markup=False, soft_wrap=True)


def print_verdict(
    console: Console, runs: Sequence[Run], results: Mapping[str, VerificationResult]
) -> bool:
    """Print the result of the verification and return whether everything was verified."""
    now = datetime.now(UTC)
    problems = [problem for result in results.values() for problem in result.problems]
    problems += [
        f"{run['dataset']} {scope_of(run)} has the outcome {run['outcome']} "
        f"{run.get('code') or ''} {run.get('remedy') or ''}".rstrip()
        for run in runs
        if run["outcome"] != "landed" and not has_no_data_yet(run, now)
    ]
    problems += [
        f"{dataset}: nothing landed"
        for dataset in sorted(DATASETS - {run["dataset"] for run in runs})
    ]
    for problem in problems:
        console.print(
            f"NOT VERIFIED: {problem}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    if problems:
        outcomes = ", ".join(
            f"{count} {outcome}"
            for outcome, count in Counter(run["outcome"] for run in runs).items()
        )
        console.print(
            f"\nVerification failed with {len(problems)} problems. Outcomes: {outcomes}.",
            style="red",
            highlight=False,
        )
    else:
        blobs = sum(result.blobs for result in results.values())
        total_bytes = sum(result.bytes for result in results.values())
        console.print(
            f"\nAll {blobs} blobs landed and verified ({format_bytes(total_bytes)}): size, SHA-256 "
            "and row count match, and each blob is identical to the blob in Microsoft's storage.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    return not problems


def has_no_data_yet(run: Run, now: datetime) -> bool:
    """Return whether the run's month started less than a day ago; usage takes a day to appear."""
    month_start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (
        run["outcome"] == "no_data"
        and run.get("billing_month") == f"{now:%Y-%m}"
        and now - month_start < timedelta(days=1)
    )


def print_next_steps(
    console: Console, state: Path, runs: Sequence[Run], tables: Sequence[str]
) -> None:
    """Print where to find the landed files, the ledger and the logs."""
    paths = [str(run["path"]).strip("/") for run in runs if run.get("path")]
    folder = display_path(state)
    command = (
        f"zcat -f {folder}/landing/{paths[0]}/*.json* | head -n 2"
        if paths
        else f"ls {folder}/landing"
    )
    resume = f".venv/bin/python -m local.stack --state-dir {folder}"
    console.print(
        f"""
Next steps:
  files    {folder}/landing contains the folders of the container. Try: {command}
  ledger   {folder}/ledger contains the ledger tables as JSON Lines: {", ".join(tables)}
  API      make run starts a stack; `{resume}` continues with this state
  logs     {folder}/*.log
""".rstrip(),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
