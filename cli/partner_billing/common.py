"""What all commands share: the program, its options, how it reaches the app, how it prints."""

import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from partner_billing.address import URL, find
from partner_billing.api import Answer, Api
from partner_billing.errors import BAD
from partner_billing.progress import Counts, Progress
from partner_billing.watch import Sleep, follow, runs_in, went_well

app = typer.Typer(
    name="partner-billing",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Asks a deployment of Partner Billing Export, by its HTTP API. The key comes from PARTNER_BILLING_KEY.",
)

sleep: Sleep = time.sleep
transport: httpx.BaseTransport | None = None  # httpx's own


class Dataset(StrEnum):
    BILLED_USAGE = "billed_usage"
    UNBILLED_USAGE = "unbilled_usage"
    BILLED_RECONCILIATION = "billed_reconciliation"
    UNBILLED_RECONCILIATION = "unbilled_reconciliation"


class AttributeSet(StrEnum):
    FULL = "full"
    BASIC = "basic"


class Outcome(StrEnum):
    LANDED = "landed"
    UNCHANGED = "unchanged"
    NO_DATA = "no_data"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


Url = Annotated[
    str | None,
    typer.Option(
        "--url", help=f"the app's address; else {URL}, else the local stack of `make run`"
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="print the API's answer as JSON, and errors as JSON on stderr"),
]
RunId = Annotated[str, typer.Argument(help="as `list` shows it", show_default=False)]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="follow it to its end")]
DatasetOption = Annotated[Dataset | None, typer.Option(help="only this dataset")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="how many at most")]
Continuation = Annotated[
    str | None, typer.Option(help="what a list that goes on has printed at its end")
]


def ask(url: str | None) -> Api:
    return Api(find(url, os.environ, Path.cwd()), transport)


def to_its_end(api: Api, what: str, as_json: bool) -> None:
    """Follows a run, a cycle or a backfill; ends the program with 1 where something in it failed."""
    console = Console(stderr=True, quiet=True) if as_json else terminal()
    redraw = 1.0 if console.is_terminal and not as_json else None
    with Progress(console) as progress, Counts(console) as counts:

        def show(body: dict[str, Any]) -> None:
            if "backfill_id" in body:
                counts.show(body)
            else:
                progress.show(runs_in(body))

        end = follow(api, what, show, sleep, redraw=redraw)
    if not printed_as_json(end, as_json):
        told(console, end)
    if not went_well(end):
        raise typer.Exit(BAD)


def told(console: Console, end: dict[str, Any]) -> None:
    """What a person needs beside the last line of the display: where it landed, or what to do."""
    for run in runs_in(end):
        if run.get("remedy"):
            console.print(
                f"{run['run_id']}: {run.get('cause') or ''}\n-> {run['remedy']}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        elif run.get("path"):
            console.print(str(run["path"]), highlight=False, markup=False, soft_wrap=True)
        elif run.get("code"):
            console.print(
                f"{run['run_id']}: {run['code']}", highlight=False, markup=False, soft_wrap=True
            )


def goes_on(found: Answer) -> None:
    if found.body.get("continuation"):
        terminal().print(
            f"More results: --continuation {found.body['continuation']}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def printed_as_json(body: dict[str, Any], wanted: bool) -> bool:
    if wanted:
        typer.echo(json.dumps(body, ensure_ascii=False, indent=2))
    return wanted


def terminal() -> Console:
    """As wide as the terminal; wide enough for every line where there is none."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=160)
