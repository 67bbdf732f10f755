"""The commands. Each is one question to the API, or one and then looks until the end."""

import json
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from partner_billing import __version__, shown
from partner_billing.address import URL, find
from partner_billing.api import Answer, Api
from partner_billing.failures import BAD, Failure, WrongUsage
from partner_billing.progress import Progress
from partner_billing.watching import Sleep, follow, went_well

app = typer.Typer(
    name="partner-billing", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Asks a deployment of Partner Billing Export, by its HTTP API. The key comes from PARTNER_BILLING_KEY.")

sleep: Sleep = time.sleep


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


Url = Annotated[str | None, typer.Option("--url", help=f"the app's address; else {URL}, else the local stack of `make run`")]
Json = Annotated[bool, typer.Option("--json", help="print the API's answer as JSON, and errors as JSON on stderr")]
RunId = Annotated[str, typer.Argument(help="as `list` shows it", show_default=False)]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="follow it to its end")]
DatasetOption = Annotated[Dataset | None, typer.Option(help="only this dataset")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="how many at most")]
Continuation = Annotated[str | None, typer.Option(help="what a list that goes on has printed at its end")]


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def start(
    dataset: Dataset,
    invoice: Annotated[str | None, typer.Option(help="of a billed dataset: G016907411")] = None,
    month: Annotated[str | None, typer.Option(help="of an unbilled dataset: 2026-11, current or last")] = None,
    currency: Annotated[str | None, typer.Option(help="of an unbilled dataset: USD")] = None,
    attribute_set: Annotated[AttributeSet | None, typer.Option(help="which columns")] = None,
    force: Annotated[bool, typer.Option("--force", help="land it anew, even if this version is landed")] = False,
    reason: Annotated[str | None, typer.Option(help="for whoever reads the run's row")] = None,
    watch: Watch = False, url: Url = None, as_json: Json = False,
) -> None:
    """Ask for one export. One that is under way already is not started twice: it is shown."""
    asked = {
        "dataset": dataset.value, "invoice_id": invoice, "billing_month": month, "currency_code": currency,
        "attribute_set": attribute_set.value if attribute_set else None, "force": force or None, "reason": reason}
    with Api(find(url, os.environ, Path.cwd())) as api:
        begun = api.post("runs", {name: value for name, value in asked.items() if value is not None})
        _started(api, begun, watch, as_json)


@app.command("list")
def list_runs(
    month: Annotated[str | None, typer.Option(help="in which they started: 2026-11; else this month")] = None,
    dataset: DatasetOption = None, outcome: Annotated[Outcome | None, typer.Option(help="only these")] = None,
    limit: Limit = 50, continuation: Continuation = None, url: Url = None, as_json: Json = False,
) -> None:
    """The runs of a month, newest first."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        found = api.get(
            "runs", started=month, dataset=dataset and dataset.value, outcome=outcome and outcome.value, limit=limit,
            continuation=continuation)
    if not _as_json(found.body, as_json):
        shown.runs(_console(), found.body["runs"])
        _goes_on(found)


@app.command()
def show(
    run_id: RunId, blobs: Annotated[bool, typer.Option("--blobs", help="its files instead")] = False,
    limit: Limit = 100, continuation: Continuation = None, url: Url = None, as_json: Json = False,
) -> None:
    """One run: where it is, or how it ended, why, and what to do."""
    path = f"runs/{quote(run_id, safe='')}"
    with Api(find(url, os.environ, Path.cwd())) as api:
        found = api.get(f"{path}/blobs", limit=limit, continuation=continuation) if blobs else api.get(path)
    if _as_json(found.body, as_json):
        return
    if blobs:
        shown.blobs(_console(), found.body["blobs"])
        _goes_on(found)
    else:
        shown.facts(_console(), found.body)


@app.command()
def watch(
    run_or_cycle: Annotated[str, typer.Argument(help="the id of a run or of a cycle", show_default=False)],
    url: Url = None, as_json: Json = False,
) -> None:
    """Follow a run or a cycle to its end. Ends with 1 where something in it failed."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        _follow(api, run_or_cycle, as_json)


@app.command()
def retry(
    run_id: RunId, reason: Annotated[str | None, typer.Option(help="for whoever reads the run's row")] = None,
    watch: Watch = False, url: Url = None, as_json: Json = False,
) -> None:
    """Ask again for what a run that has ended asked for; what is proven is not copied again."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        _started(api, api.post(f"runs/{quote(run_id, safe='')}/retry", {"reason": reason} if reason else {}), watch, as_json)


@app.command()
def cancel(run_id: RunId, url: Url = None, as_json: Json = False) -> None:
    """End a run in order: what is proven stays, and a later run carries on."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        found = api.post(f"runs/{quote(run_id, safe='')}/cancel")
    if not _as_json(found.body, as_json):
        _console().print(
            f"{found.body['run_id']} will have ended by {found.body.get('effective_by')}.", highlight=False, markup=False)


@app.command()
def catalogue(
    dataset: DatasetOption = None,
    month: Annotated[str | None, typer.Option(help="billing month: 2026-11")] = None,
    limit: Limit = 100, continuation: Continuation = None, url: Url = None, as_json: Json = False,
) -> None:
    """What is landed: the newest version of every export."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        found = api.get(
            "catalogue", dataset=dataset and dataset.value, billing_month=month, limit=limit, continuation=continuation)
    if not _as_json(found.body, as_json):
        shown.catalogue(_console(), found.body["entries"])
        _goes_on(found)


@app.command()
def status(url: Url = None, as_json: Json = False) -> None:
    """What comes next, what runs, what landed last, which versions."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        found = api.get("status")
    if not _as_json(found.body, as_json):
        shown.status(_console(), found.body)


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Whether everything is set up right, and if not, what to do. Ends with 1 where a check failed."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        found = api.get("preflight")
    if not _as_json(found.body, as_json):
        shown.checks(_console(), found.body)
    if found.body["status"] == "fail":
        raise typer.Exit(BAD)


@app.command()
def cycle(
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="follow it to its end")] = True,
    url: Url = None, as_json: Json = False,
) -> None:
    """Ask now for all that the schedule would ask for, and follow it. Ends with 1 where something failed."""
    with Api(find(url, os.environ, Path.cwd())) as api:
        begun = api.post("cycles")
        if watch:
            _follow(api, str(begun.body["cycle_id"]), as_json)
        elif not _as_json(begun.body, as_json):
            _console().print(f"{begun.body['cycle_id']} has begun.", highlight=False, markup=False)


def _started(api: Api, begun: Answer, watch: bool, as_json: bool) -> None:
    run_id = str(begun.body["run_id"])
    if not watch and _as_json(begun.body, as_json):
        return
    if not as_json:
        word = "has begun" if begun.body.get("started", True) else "is under way already"
        _console().print(f"{run_id} {word}.", highlight=False, markup=False)
    if watch:
        _follow(api, run_id, as_json)


def _follow(api: Api, run_or_cycle: str, as_json: bool) -> None:
    console = Console(stderr=True, quiet=True) if as_json else _console()
    with Progress(console) as progress:
        end = follow(api, run_or_cycle, progress.show, sleep, redraw=1.0 if console.is_terminal and not as_json else None)
    if not _as_json(end, as_json):
        _told(console, end)
    if not went_well(end):
        raise typer.Exit(BAD)


def _told(console: Console, end: dict[str, Any]) -> None:
    """What a person needs beside the last line of the display: where it landed, or what to do."""
    for run in end["runs"] if "cycle_id" in end and "runs" in end else [end]:
        if run.get("remedy"):
            console.print(
                f"{run['run_id']}: {run.get('cause') or ''}\n-> {run['remedy']}", highlight=False, markup=False, soft_wrap=True)
        elif run.get("path"):
            console.print(str(run["path"]), highlight=False, markup=False, soft_wrap=True)


def _goes_on(found: Answer) -> None:
    if found.body.get("continuation"):
        _console().print(
            f"There are more: --continuation {found.body['continuation']}", highlight=False, markup=False, soft_wrap=True)


def _as_json(body: dict[str, Any], wanted: bool) -> bool:
    if wanted:
        typer.echo(json.dumps(body, ensure_ascii=False, indent=2))
    return wanted


def _console() -> Console:
    """As wide as the terminal; wide enough for every line where there is none."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=160)


def main(arguments: list[str] | None = None) -> None:
    """Ends the process with one of the exit codes of failures.py."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=given, prog_name="partner-billing")
    except Failure as failure:
        tell(failure, "--json" in given)
        code = failure.exit_code
    sys.exit(code)


def tell(failure: Failure, as_json: bool) -> None:
    if as_json:
        print(json.dumps(failure.document(), ensure_ascii=False), file=sys.stderr)
        return
    print(f"{failure.title}{f' ({failure.code})' if failure.code else ''}", file=sys.stderr)
    for wrong in failure.members.get("errors") or []:
        if isinstance(wrong, dict):
            print(f"  {wrong.get('field')}: {wrong.get('message')}", file=sys.stderr)
    if failure.remedy:
        print(f"-> {failure.remedy}", file=sys.stderr)
    if isinstance(failure, WrongUsage):
        print("See partner-billing --help.", file=sys.stderr)
