"""Prints API responses as tables and lists of fields."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from partner_billing.progress import describe_blobs, format_bytes, scope_of, style_of

OMITTED_FIELDS = ("cause", "request_ids", "app_version", "operations", "posts")
GAP_STYLES = {
    "landed": "green",
    "no_data": "dim",
    "not_served": "dim",
    "failed": "red",
    "never_tried": "yellow",
}
STATUS_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def create_table(*titles: str, right: Sequence[str] = ()) -> Table:
    """Return a table without borders. The columns in `right` are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def print_line(console: Console, line: str) -> None:
    """Print a line without wrapping, highlighting or markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_runs(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of runs."""
    table = create_table(
        "run", "scope", "outcome", "blobs", "bytes", "started", right=("blobs", "bytes")
    )
    for run in runs:
        state = str(run.get("outcome") or run.get("stage") or "")
        table.add_row(
            escape_value(run["run_id"]),
            scope_of(run),
            escape_value(f"{state} ({run['code']})" if run.get("code") else state),
            describe_blobs(run),
            format_bytes(run["bytes"]) if run.get("bytes") else "",
            escape_value(run.get("started_at")),
            style=style_of(run),
        )
    console.print(table if runs else "No matching runs.")


def print_fields(console: Console, body: Mapping[str, Any]) -> None:
    """Print the name and the value of every field that has a value."""
    table = create_table("", "")
    table.show_header = False
    for name, value in body.items():
        if value in (None, "", [], {}, False) or name in OMITTED_FIELDS:
            continue
        table.add_row(f"[dim]{escape(name)}[/dim]", escape_value(_format_value(name, value)))
    console.print(table)


def print_blobs(console: Console, blobs: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the blobs of a run."""
    table = create_table(
        "blob", "verified", "bytes", "rows", "copy method", "code", right=("bytes", "rows")
    )
    for blob in blobs:
        table.add_row(
            escape_value(blob["name"]),
            "yes" if blob["ok"] else "no",
            format_bytes(blob["bytes"]),
            _format_rows(blob["rows"]),
            escape_value(blob.get("copy_method")),
            escape_value(blob.get("code")),
            style="" if blob["ok"] else "red",
        )
    console.print(table if blobs else "The run has no blobs.")


def print_catalogue(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of catalogue entries."""
    table = create_table(
        "key",
        "month",
        "version",
        "blobs",
        "rows",
        "bytes",
        "landed",
        "last outcome",
        "finality",
        "tie-out",
        right=("blobs", "rows", "bytes"),
    )
    for entry in entries:
        table.add_row(
            escape_value(entry["key"]),
            escape_value(entry.get("billing_month")),
            _format_version(entry),
            str(entry["blobs"]),
            _format_rows(entry["rows"]),
            format_bytes(entry["bytes"]),
            escape_value(entry.get("landed_at")),
            escape_value(entry.get("last_outcome")),
            escape_value(entry.get("finality")),
            escape_value(describe_tie_out(entry.get("tie_out"))),
        )
    console.print(table if entries else "No matching exports have landed.")


def _format_version(entry: Mapping[str, Any]) -> str:
    version = escape_value(entry.get("version") or "none")
    damage = entry.get("damage")
    return f"{version}\n[red]{escape_value(damage['version'])} is damaged[/]" if damage else version


def print_damaged(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    """Print the damaged versions with their code and remedy."""
    if not entries:
        return
    console.print("\ndamaged versions", style="bold red")
    for entry in entries:
        damage = entry["damage"]
        print_line(console, f"{entry['key']}, version {damage['version']}")
        print_line(console, f"  {damage['cause']} ({damage['code']})")
    print_line(console, f"-> {entries[0]['damage']['remedy']}")


def format_amount(text: str) -> str:
    """Return an amount with thousands separators.

    The API returns amounts with the decimals of their currency.

    >>> format_amount("65080.90"), format_amount("-0.005"), format_amount("65080")
    ('65,080.90', '-0.005', '65,080')
    """
    return f"{Decimal(text):,f}"


def describe_tie_out(comparison: Mapping[str, Any] | None) -> str:
    """Return how the sum of an invoice's lines compares with the invoice's total.

    >>> describe_tie_out({"status": "off_by", "difference": "-12.30", "currency": "USD"})
    'off by -12.30 USD'
    >>> describe_tie_out({"status": "tied_out"}), describe_tie_out(None)
    ('tied out', '')
    """
    if not comparison:
        return ""
    if comparison["status"] == "off_by":
        difference = format_amount(comparison["difference"])
        return f"off by {difference} {comparison.get('currency') or ''}".strip()
    return str(comparison["status"]).replace("_", " ") + (
        f" ({comparison['code']})" if comparison.get("code") else ""
    )


def print_dry_run(console: Console, body: Mapping[str, Any]) -> None:
    """Print the requests of a cycle, then the exports that are excluded or not yet due."""
    table = create_table("export", "request", "body")
    for request in body["requests"]:
        live = f" (running: {request['live_run_id']})" if request.get("live_run_id") else ""
        table.add_row(
            escape_value(f"{request['key']}{live}"),
            escape_value(f"{request['method']} {request['path']}"),
            escape_value(_format_value("", request["body"])),
        )
    console.print(table if body["requests"] else "No exports are due.")
    for export in body.get("not_due") or []:
        print_line(console, f"not due before {export['next_due_at']}: {export['key']}")
    print_left_out(console, body)


def print_left_out(console: Console, body: Mapping[str, Any]) -> None:
    """Print what a cycle or a backfill did not request, with the cause and the remedy."""
    for exclusion in body.get("left_out") or []:
        subject = exclusion.get("invoice_id") or exclusion["code"]
        print_line(console, f"excluded: {subject}: {exclusion.get('cause')}")
        if exclusion.get("remedy"):
            print_line(console, f"-> {exclusion['remedy']}")


def print_failure(console: Console, body: Mapping[str, Any]) -> None:
    """Print why a cycle or a backfill failed, with the remedy, and nothing if it did not."""
    if body.get("code"):
        print_line(console, f"failed: {body['code']}: {body.get('cause')}")
        print_line(console, f"-> {body.get('remedy')}")


def describe_restarts(body: Mapping[str, Any]) -> str:
    """Return how often the app started a cycle or a backfill again.

    >>> describe_restarts({"restarts": 1}), describe_restarts({"restarts": 3})
    ('started again once', 'started again 3 times')
    """
    count = body["restarts"]
    return "started again once" if count == 1 else f"started again {count} times"


def print_gaps(console: Console, gaps: Sequence[Mapping[str, Any]]) -> None:
    """Print the state of each month and dataset as a table, and the failed exports below it."""
    datasets = list(dict.fromkeys(str(gap["dataset"]) for gap in gaps))
    states = {(gap["billing_month"], gap["dataset"]): str(gap["state"]) for gap in gaps}
    table = create_table("month", *datasets)
    for month in dict.fromkeys(gap["billing_month"] for gap in gaps):
        cells = [states.get((month, dataset), "") for dataset in datasets]
        table.add_row(
            escape_value(month),
            *(
                f"[{GAP_STYLES.get(cell, '')}]{cell.replace('_', ' ')}[/]"
                if cell in GAP_STYLES
                else escape_value(cell)
                for cell in cells
            ),
        )
    console.print(table)
    for gap in gaps:
        for key in gap["keys"]:
            if key["state"] == "failed":
                print_line(console, f"failed: {key['key']} ({key['code']})")


def print_status(console: Console, body: Mapping[str, Any]) -> None:
    """Print the status of the app, its latest exports and its live runs."""
    versions = body.get("versions") or {}
    print_fields(
        console,
        {
            "next cycle": f"{body.get('next_tick_at')} ({body.get('schedule')})",
            "task hub": body.get("task_hub"),
            "last cycle": _format_cycle(body.get("last_cycle")),
            "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
        },
    )
    print_failure(console, body.get("last_cycle") or {})
    print_left_out(console, body.get("last_cycle") or {})
    console.print("\nlatest exports", style="bold")
    landed = create_table("dataset", "key", "landed", "rows", right=("rows",))
    for dataset, entry in (body.get("last_landed") or {}).items():
        landed.add_row(
            dataset,
            *(
                (
                    escape_value(entry["key"]),
                    escape_value(entry.get("landed_at")),
                    _format_rows(entry["rows"]),
                )
                if entry
                else ("none", "", "")
            ),
        )
    console.print(landed)
    print_damaged(console, body.get("damaged") or [])
    console.print("\nlive runs", style="bold")
    live = create_table("run", "stage", "started", "next poll")
    for run in body.get("live_runs") or []:
        live.add_row(
            escape_value(run["run_id"]),
            escape_value(run["stage"]),
            escape_value(run.get("started_at")),
            escape_value(run.get("next_check_at")),
        )
    console.print(live if body.get("live_runs") else "No runs are in progress.")


def print_checks(console: Console, report: Mapping[str, Any]) -> None:
    """Print the preflight checks with their findings and remedies, then the overall status."""
    table = create_table("check", "status", "finding")
    for check in report["checks"]:
        status, code = str(check["status"]), check.get("code")
        finding = (
            f"{check['cause']} ({code})"
            if code
            else ", ".join(
                f"{name} {_format_value(name, value)}" for name, value in check["facts"].items()
            )
        )
        if status in ("warn", "fail"):
            finding += "".join(
                f"\n{name}: {_format_value(name, value)}" for name, value in check["facts"].items()
            )
            finding += f"\n-> {check['remedy']}"
        table.add_row(
            escape_value(check["name"]),
            f"[{STATUS_STYLES.get(status, 'dim')}]{escape(status)}[/]",
            escape_value(finding),
        )
    console.print(table)
    console.print(
        f"\n{report['status']}", style=STATUS_STYLES.get(str(report["status"]), ""), highlight=False
    )


def escape_value(value: object) -> str:
    """Return the value as text without Rich markup, and None as an empty string."""
    return "" if value is None else escape(str(value))


def _format_value(name: str, value: Any) -> str:
    if name == "blobs" and isinstance(value, Mapping):
        return describe_blobs({"blobs": value}) or "none"
    if name == "bytes" and isinstance(value, int):
        return f"{format_bytes(value)} ({value:,})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _format_cycle(cycle: Mapping[str, Any] | None) -> str:
    if not cycle:
        return "none"
    outcome = f", {cycle['outcome']}" if cycle.get("outcome") else ""
    restarts = f", {describe_restarts(cycle)}" if cycle.get("restarts") else ""
    return f"{cycle['cycle_id']} {cycle['state']}{outcome}{restarts}: " + (
        _format_value("", cycle["outcomes"]) or f"{cycle['runs']} runs"
    )


def _format_rows(rows: int | None) -> str:
    """Return a number of rows, which is unknown with the proof mode "transfer"."""
    return "unknown" if rows is None else f"{rows:,}"
