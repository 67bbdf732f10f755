"""The Typer application, and the options and helpers that the commands share."""

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

from partner_billing.address import URL, find_address
from partner_billing.api import Api, Response
from partner_billing.errors import FAILED
from partner_billing.output import describe_restarts, print_failure, print_left_out, print_line
from partner_billing.progress import BackfillProgress, Progress
from partner_billing.watch import Sleep, follow, has_succeeded, runs_in

app = typer.Typer(
    name="partner-billing",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Client for the HTTP API of Partner Billing Export. "
    "Set the function key in PARTNER_BILLING_KEY.",
)

# Tests replace both.
sleep: Sleep = time.sleep
transport: httpx.BaseTransport | None = None  # the default transport of httpx


class Dataset(StrEnum):
    """The datasets that the app exports."""

    BILLED_USAGE = "billed_usage"
    UNBILLED_USAGE = "unbilled_usage"
    BILLED_RECONCILIATION = "billed_reconciliation"
    UNBILLED_RECONCILIATION = "unbilled_reconciliation"


class AttributeSet(StrEnum):
    """The attribute sets of an export."""

    FULL = "full"
    BASIC = "basic"


class Outcome(StrEnum):
    """The outcomes of a run."""

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
        "--url", help=f"URL of the app; the default is {URL} or the local stack of `make run`"
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="print the response as JSON, and errors as JSON on stderr"),
]
RunId = Annotated[str, typer.Argument(help="run ID, as shown by `list`", show_default=False)]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="follow the run until it ends")]
DatasetOption = Annotated[Dataset | None, typer.Option(help="limit the results to this dataset")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="maximum number of results")]
Continuation = Annotated[
    str | None, typer.Option(help="token for the next page, as printed below a list")
]


def open_api(url: str | None) -> Api:
    """Return a client for the app that the options and the environment specify."""
    return Api(find_address(url, os.environ, Path.cwd()), transport)


def watch_until_end(api: Api, identifier: str, as_json: bool) -> None:
    """Follow a run, a cycle or a backfill until it ends. Exit with 1 if it is incomplete."""
    console = Console(stderr=True, quiet=True) if as_json else create_console()
    redraw_seconds = 1.0 if console.is_terminal and not as_json else None
    with Progress(console) as progress, BackfillProgress(console) as backfill_progress:

        def show(body: dict[str, Any]) -> None:
            if "backfill_id" in body:
                backfill_progress.show(body)
            else:
                progress.show(runs_in(body))

        body = follow(api, identifier, show, sleep, redraw_seconds=redraw_seconds)
    if not print_if_json(body, as_json):
        print_results(console, body)
    if not has_succeeded(body):
        raise typer.Exit(FAILED)


def print_results(console: Console, body: dict[str, Any]) -> None:
    """Print the path of each landed run, and the cause and remedy for what was not exported."""
    for run in runs_in(body):
        if run.get("remedy"):
            print_line(console, f"{run['run_id']}: {run.get('cause') or ''}\n-> {run['remedy']}")
        elif run.get("path"):
            print_line(console, str(run["path"]))
        elif run.get("code"):
            print_line(console, f"{run['run_id']}: {run['code']}")
    print_left_out(console, body)
    if "state" in body:
        print_failure(console, body)
        restarts = f" ({describe_restarts(body)})" if body.get("restarts") else ""
        print_line(console, f"outcome: {body.get('outcome')}{restarts}")


def print_continuation(response: Response) -> None:
    """Print the option for the next page if the list has more results."""
    if response.body.get("continuation"):
        print_line(
            create_console(), f"More results: --continuation {response.body['continuation']}"
        )


def print_if_json(body: dict[str, Any], as_json: bool) -> bool:
    """Print the body if JSON is requested. Return whether it was printed."""
    if as_json:
        typer.echo(json.dumps(body, ensure_ascii=False, indent=2))
    return as_json


def create_console() -> Console:
    """Return a console on stdout with the width of the terminal, or 160 columns in a pipe."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=160)
