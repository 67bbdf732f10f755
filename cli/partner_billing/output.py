"""Answers of the API for people: tables and facts. Pure but for the console they are printed on."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from partner_billing.progress import blobs_of, scope_of, size, style_of

LEFT_OUT = ("cause", "request_ids", "app_version", "operations", "posts")
GAPS = {
    "landed": "green",
    "no_data": "dim",
    "not_served": "dim",
    "failed": "red",
    "never_tried": "yellow",
}
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def plain_table(*titles: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def runs(console: Console, listed: Sequence[Mapping[str, Any]]) -> None:
    table = plain_table(
        "run", "scope", "outcome", "blobs", "bytes", "started", right=("blobs", "bytes")
    )
    for run in listed:
        ended = str(run.get("outcome") or run.get("stage") or "")
        table.add_row(
            text(run["run_id"]),
            scope_of(run),
            text(f"{ended} ({run['code']})" if run.get("code") else ended),
            blobs_of(run),
            size(run["bytes"]) if run.get("bytes") else "",
            text(run.get("started_at")),
            style=style_of(run),
        )
    console.print(table if listed else "There are none.")


def facts(console: Console, body: Mapping[str, Any]) -> None:
    """Name and value of everything that is set; of a run, what a person asks for first."""
    table = plain_table("", "")
    table.show_header = False
    for name, value in body.items():
        if value in (None, "", [], {}, False) or name in LEFT_OUT:
            continue
        table.add_row(f"[dim]{escape(name)}[/dim]", text(_said(name, value)))
    console.print(table)


def blobs(console: Console, listed: Sequence[Mapping[str, Any]]) -> None:
    table = plain_table("blob", "proven", "bytes", "rows", "how", "code", right=("bytes", "rows"))
    for blob in listed:
        table.add_row(
            text(blob["name"]),
            "yes" if blob["ok"] else "no",
            size(blob["bytes"]),
            f"{blob['rows']:,}",
            text(blob.get("copy_method")),
            text(blob.get("code")),
            style="" if blob["ok"] else "red",
        )
    console.print(table if listed else "There are none.")


def catalogue(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    table = plain_table(
        "key",
        "month",
        "version",
        "blobs",
        "rows",
        "bytes",
        "landed",
        "last",
        "finality",
        "tie-out",
        right=("blobs", "rows", "bytes"),
    )
    for entry in entries:
        table.add_row(
            text(entry["key"]),
            text(entry.get("billing_month")),
            text(entry.get("version") or "nothing yet"),
            str(entry["blobs"]),
            f"{entry['rows']:,}",
            size(entry["bytes"]),
            text(entry.get("landed_at")),
            text(entry.get("last_outcome")),
            text(entry.get("finality")),
            text(tie_out(entry.get("tie_out"))),
        )
    console.print(table if entries else "No matching exports have landed.")


def money(text: str) -> str:
    """>>> money("65080.9"), money("-0.005"), money("1e3")
    ('65,080.90', '-0.005', '1,000.00')
    """
    amount = Decimal(text)
    cents = amount.quantize(Decimal("0.01"))
    return f"{cents if cents == amount else amount:,}"


def tie_out(found: Mapping[str, Any] | None) -> str:
    """The sum over an invoice's lines against its listed total.

    >>> tie_out({"status": "off_by", "difference": "-12.30", "currency": "USD"}), tie_out({"status": "tied_out"}), tie_out(None)
    ('off by -12.30 USD', 'tied out', '')
    """
    if not found:
        return ""
    if found["status"] == "off_by":
        return f"off by {money(found['difference'])} {found.get('currency') or ''}".strip()
    return str(found["status"]).replace("_", " ") + (
        f" ({found['code']})" if found.get("code") else ""
    )


def dry_run(console: Console, body: Mapping[str, Any]) -> None:
    """The requests of a cycle, then what rests and what is left out."""
    table = plain_table("export", "request", "body")
    for one in body["requests"]:
        live = f" (under way: {one['live_run_id']})" if one.get("live_run_id") else ""
        table.add_row(
            text(f"{one['key']}{live}"),
            text(f"{one['method']} {one['path']}"),
            text(_said("", one["body"])),
        )
    console.print(table if body["requests"] else "Nothing is due.")
    for rests in body.get("not_due") or []:
        console.print(
            f"not due before {rests['next_due_at']}: {rests['key']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for out in body.get("left_out") or []:
        what = out.get("invoice_id") or out["code"]
        console.print(
            f"left out: {what}: {out.get('cause')}", highlight=False, markup=False, soft_wrap=True
        )


def gaps(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Months down, datasets across; what failed in full below."""
    datasets = list(dict.fromkeys(str(gap["dataset"]) for gap in found))
    states = {(gap["billing_month"], gap["dataset"]): str(gap["state"]) for gap in found}
    table = plain_table("month", *datasets)
    for month in dict.fromkeys(gap["billing_month"] for gap in found):
        cells = [states.get((month, dataset), "") for dataset in datasets]
        table.add_row(
            text(month),
            *(
                f"[{GAPS.get(cell, '')}]{cell.replace('_', ' ')}[/]" if cell in GAPS else text(cell)
                for cell in cells
            ),
        )
    console.print(table)
    for gap in found:
        for key in gap["keys"]:
            if key["state"] == "failed":
                console.print(
                    f"failed: {key['key']} ({key['code']})",
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )


def status(console: Console, body: Mapping[str, Any]) -> None:
    versions = body.get("versions") or {}
    facts(
        console,
        {
            "next tick": f"{body.get('next_tick_at')} ({body.get('schedule')})",
            "task hub": body.get("task_hub"),
            "last cycle": _cycle(body.get("last_cycle")),
            "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
        },
    )
    console.print("\nlanded last", style="bold")
    landed = plain_table("dataset", "key", "landed", "rows", right=("rows",))
    for dataset, entry in (body.get("last_landed") or {}).items():
        landed.add_row(
            dataset,
            *(
                (text(entry["key"]), text(entry.get("landed_at")), f"{entry['rows']:,}")
                if entry
                else ("nothing yet", "", "")
            ),
        )
    console.print(landed)
    console.print("\nlive runs", style="bold")
    live = plain_table("run", "stage", "started", "next look")
    for run in body.get("live_runs") or []:
        live.add_row(
            text(run["run_id"]),
            text(run["stage"]),
            text(run.get("started_at")),
            text(run.get("next_check_at")),
        )
    console.print(live if body.get("live_runs") else "There are none.")


def checks(console: Console, report: Mapping[str, Any]) -> None:
    """The doctor's report: what is wrong with its remedy below it, then nothing more than a word."""
    table = plain_table("check", "", "finding")
    for check in report["checks"]:
        status, code = str(check["status"]), check.get("code")
        said = (
            f"{check['cause']} ({code})"
            if code
            else ", ".join(f"{name} {_said(name, value)}" for name, value in check["facts"].items())
        )
        if status in ("warn", "fail"):
            said += "".join(
                f"\n{name}: {_said(name, value)}" for name, value in check["facts"].items()
            )
            said += f"\n-> {check['remedy']}"
        table.add_row(
            text(check["name"]), f"[{COLOURS.get(status, 'dim')}]{escape(status)}[/]", text(said)
        )
    console.print(table)
    console.print(
        f"\n{report['status']}", style=COLOURS.get(str(report["status"]), ""), highlight=False
    )


def text(value: object) -> str:
    return "" if value is None else escape(str(value))


def _said(name: str, value: Any) -> str:
    if name == "blobs" and isinstance(value, Mapping):
        return blobs_of({"blobs": value}) or "none"
    if name == "bytes" and isinstance(value, int):
        return f"{size(value)} ({value:,})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _cycle(cycle: Mapping[str, Any] | None) -> str:
    if not cycle:
        return "none yet"
    return f"{cycle['cycle_id']} {cycle['state']}: " + (
        _said("", cycle["outcomes"]) or f"{cycle['runs']} runs"
    )
