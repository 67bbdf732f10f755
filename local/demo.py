"""`make demo`: lands all four datasets through the app's HTTP API on this machine, then proves it from outside.

Starts from nothing each time and leaves what it landed in .state/demo. Exit code 0 only if every run landed and every
blob was found whole; 1 if not; 3 if another demo is going on.
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
from partner_billing.progress import GOOD, Progress, Run, scope_of, seconds_of, size
from partner_billing.shown import money, tie_out

STATE = ROOT / ".state" / "demo"
DATASETS = {"billed_usage", "unbilled_usage", "billed_reconciliation", "unbilled_reconciliation"}
LONGEST_SECONDS = 150.0
LOOK_SECONDS = 0.5


class DemoError(Exception):
    """The demo could not go on; the text says why."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local.demo", description="Lands all four datasets here, and proves it."
    )
    parser.add_argument(
        "--state-dir", type=Path, default=STATE, help="emptied at the start, kept at the end"
    )
    parser.add_argument(
        "--app-root",
        type=Path,
        default=ROOT,
        help="the app's folder: this checkout, or an unpacked package",
    )
    given = parser.parse_args(arguments)
    state, app_root = given.state_dir.resolve(), given.app_root.resolve()
    console, began = console_for_all(), time.monotonic()
    exit_on_signals()
    try:
        console.print(
            "Starting storage emulator, simulated Microsoft and the Functions host ...",
            highlight=False,
        )
        with run_stack(
            state, fresh=True, app_root=app_root, settings={"EXPORT_SCHEDULE": NEVER_SCHEDULE}
        ) as stack:
            runs = land_all(stack, console)
            tied_out = tie_outs(stack)
            found = {
                str(run["run_id"]): look_at(run, auditor)
                for auditor in [landing_verifier(stack)]
                for run in runs
            }
            tables = write_ledger(stack, state / "ledger")
            report(console, runs, tied_out)
            proven = verdict(console, runs, found)
        where_to_look(console, state, runs, tables)
        console.print(f"{time.monotonic() - began:.0f} seconds in all.", highlight=False)
        return 0 if proven else 1
    except StackError as failed:
        print(failed, file=sys.stderr)
        return failed.exit_code
    except DemoError as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe demo has ended early.")
        return 1


def console_for_all() -> Console:
    """As wide as the terminal; wide enough for every line where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def land_all(stack: Stack, console: Console) -> list[Run]:
    """One cycle from its start to its end: the runs in the order of the plan."""
    with httpx.Client(base_url=stack.app_url, timeout=30) as api, Progress(console) as progress:
        started = api.post("/api/cycles", json={})
        if started.status_code != 202:
            raise DemoError(answered("POST /api/cycles", started, stack))
        console.print(
            f"POST /api/cycles: all that is due, as {started.json()['cycle_id']}\n", highlight=False
        )
        for cycle in looks(api, started.headers["Location"], stack):
            progress.show(cycle["runs"])
            if cycle["state"] in ("ended", "failed"):
                break
    if cycle["state"] != "ended" or not cycle["runs"]:
        raise DemoError(
            f"The cycle {cycle['state']} with {len(cycle['runs'])} runs.{last_lines(stack.app.log)}"
        )
    return list(cycle["runs"])


def looks(api: httpx.Client, location: str, stack: Stack) -> Iterator[dict[str, Any]]:
    """What the cycle answers, again and again, as long as the stack is well and time is left."""
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until:
        stack.check()
        answer = api.get(location)
        if answer.status_code == 200:
            yield answer.json()
        elif answer.status_code < 500:
            raise DemoError(answered(f"GET {location}", answer, stack))
        time.sleep(LOOK_SECONDS)
    raise DemoError(
        f"The cycle did not end within {LONGEST_SECONDS:.0f} seconds.{last_lines(stack.app.log)}"
    )


def tie_outs(stack: Stack) -> list[str]:
    """A line for each invoice: the sum over its landed lines against its listed total."""
    answer = httpx.get(f"{stack.app_url}/api/catalogue?dataset=billed_reconciliation", timeout=30)
    if answer.status_code != 200:
        raise DemoError(answered("GET /api/catalogue", answer, stack))
    lines = []
    for entry in answer.json()["entries"]:
        found = entry["tie_out"] or {}
        total = found.get("listed_total")
        listed = f"{money(total)} {found.get('currency')} listed" if total else "no total listed"
        lines.append(
            f"{entry['invoice_id']}  {tie_out(found) or 'not compared'}, {listed}, {entry['finality']}"
        )
    return lines


def answered(call: str, answer: httpx.Response, stack: Stack) -> str:
    return (
        f"{call} was answered {answer.status_code}: {answer.text[:500]}{last_lines(stack.app.log)}"
    )


def landing_verifier(stack: Stack) -> LandingVerifier:
    landing = ContainerClient.from_connection_string(stack.landing_connection_string, "billing")
    source = BlobServiceClient.from_connection_string(stack.storage.billing.connection_string)
    return LandingVerifier(landing, source, stack.state / "landing")


def look_at(run: Run, auditor: LandingVerifier) -> VerificationResult:
    return auditor.look_at(run) if run["outcome"] == "landed" else VerificationResult()


def write_ledger(stack: Stack, folder: Path) -> list[str]:
    """Each table of the ledger as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    with TableServiceClient.from_connection_string(stack.landing_connection_string) as service:
        names = sorted(table.name for table in service.list_tables())
        for name in names:
            rows = [plain(row) for row in service.get_table_client(name).list_entities()]
            lines = [json.dumps(row, default=str) for row in rows]
            (folder / f"{name}.jsonl").write_text(
                "".join(f"{line}\n" for line in lines), encoding="utf-8"
            )
    return names


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Long numbers come with their type from the SDK."""
    return {name: getattr(value, "value", value) for name, value in row.items()}


def report(console: Console, runs: Sequence[Run], tied_out: Sequence[str]) -> None:
    """What landed, and where."""
    table = Table(
        title="What landed", title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for title in ("dataset", "scope", "version"):
        table.add_column(title, overflow="fold")
    for title in ("blobs", "rows", "bytes", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for run in runs:
        seconds = seconds_of(run)
        table.add_row(
            run["dataset"],
            scope_of(run),
            run.get("version") or run["outcome"],
            str(run["blobs"]["landed"]),
            f"{run['rows']:,}",
            size(run["bytes"]),
            "" if seconds is None else f"{seconds:.1f}",
            style="" if run["outcome"] in GOOD else "red",
        )
    console.print("\n", table, sep="")
    console.print("\nThe sum over each invoice's lines, against its listed total:", style="bold")
    for line in tied_out:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nWhere, in the container billing:", style="bold")
    for run in runs:
        if run.get("path"):
            console.print(f"  {run['path']}", highlight=False, markup=False, soft_wrap=True)


def verdict(console: Console, runs: Sequence[Run], found: dict[str, VerificationResult]) -> bool:
    """Says what was found and returns whether all is well."""
    faults = [fault for findings in found.values() for fault in findings.faults]
    faults += [
        f"{run['dataset']} {scope_of(run)} ended {run['outcome']} {run.get('code') or ''} {run.get('remedy') or ''}".rstrip()
        for run in runs
        if run["outcome"] != "landed" and not has_no_data_yet(run, datetime.now(UTC))
    ]
    faults += [
        f"{dataset}: nothing landed"
        for dataset in sorted(DATASETS - {run["dataset"] for run in runs})
    ]
    blobs, count = (
        sum(findings.blobs for findings in found.values()),
        sum(findings.bytes for findings in found.values()),
    )
    for fault in faults:
        console.print(
            f"NOT PROVEN: {fault}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    if not faults:
        console.print(
            f"\nall {blobs} blobs landed and proven: each listed, read back ({size(count)}), hashed, its rows counted, "
            "and the same, byte for byte, as in Microsoft's storage",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    else:
        outcomes = ", ".join(
            f"{number} {outcome}"
            for outcome, number in Counter(run["outcome"] for run in runs).items()
        )
        console.print(
            f"\nNot all is proven: {len(faults)} faults; outcomes: {outcomes}",
            style="red",
            highlight=False,
        )
    return not faults


def has_no_data_yet(run: Run, now: datetime) -> bool:
    """Return whether the run's month started less than a day ago: usage needs a day to appear."""
    month_start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (
        run["outcome"] == "no_data"
        and run.get("billing_month") == f"{now:%Y-%m}"
        and now - month_start < timedelta(days=1)
    )


def where_to_look(
    console: Console, state: Path, runs: Sequence[Run], tables: Sequence[str]
) -> None:
    paths = [str(run["path"]).strip("/") for run in runs if run.get("path")]
    kept = display_path(state)
    example = (
        f"zcat -f {kept}/landing/{paths[0]}/*.json* | head -n 2" if paths else f"ls {kept}/landing"
    )
    console.print(
        f"""
Look at it:
  files    {kept}/landing, as they lie in the container; for example: {example}
  ledger   {kept}/ledger, its tables as JSON lines: {", ".join(tables)}
  API      make run keeps a stack up; `.venv/bin/python -m local.stack --state-dir {kept}` goes on with this one
  logs     {kept}/*.log
""".rstrip(),
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
