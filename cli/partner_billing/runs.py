"""Questions to the API about runs and what they landed, and the orders that start and end one."""

from typing import Annotated
from urllib.parse import quote

import typer

from partner_billing import __version__, output
from partner_billing.api import Answer, Api
from partner_billing.common import (
    AttributeSet,
    Continuation,
    Dataset,
    DatasetOption,
    Json,
    Limit,
    Outcome,
    RunId,
    Url,
    Watch,
    app,
    ask,
    goes_on,
    printed_as_json,
    terminal,
    to_its_end,
)
from partner_billing.errors import BAD
from partner_billing.watch import path_of


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def start(
    dataset: Dataset,
    invoice: Annotated[str | None, typer.Option(help="of a billed dataset: G016907411")] = None,
    month: Annotated[
        str | None, typer.Option(help="of an unbilled dataset: 2026-11, current or last")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="of an unbilled dataset: USD")] = None,
    attribute_set: Annotated[AttributeSet | None, typer.Option(help="which columns")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="land it anew, even if this version is landed")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="for whoever reads the run's row")] = None,
    watch: Watch = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask for one export. One that is under way already is not started twice: it is output."""
    asked = {
        "dataset": dataset.value,
        "invoice_id": invoice,
        "billing_month": month,
        "currency_code": currency,
        "attribute_set": attribute_set.value if attribute_set else None,
        "force": force or None,
        "reason": reason,
    }
    with ask(url) as api:
        begun = api.post(
            "runs", {name: value for name, value in asked.items() if value is not None}
        )
        _started(api, begun, watch, as_json)


@app.command("list")
def list_runs(
    month: Annotated[
        str | None, typer.Option(help="in which they started: 2026-11; else this month")
    ] = None,
    dataset: DatasetOption = None,
    outcome: Annotated[Outcome | None, typer.Option(help="only these")] = None,
    limit: Limit = 50,
    continuation: Continuation = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """The runs of a month, newest first."""
    with ask(url) as api:
        found = api.get(
            "runs",
            started=month,
            dataset=dataset and dataset.value,
            outcome=outcome and outcome.value,
            limit=limit,
            continuation=continuation,
        )
    if not printed_as_json(found.body, as_json):
        output.runs(terminal(), found.body["runs"])
        goes_on(found)


@app.command()
def show(
    run_id: RunId,
    blobs: Annotated[bool, typer.Option("--blobs", help="its files instead")] = False,
    limit: Limit = 100,
    continuation: Continuation = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """One run: where it is, or how it ended, why, and what to do."""
    path = f"runs/{quote(run_id, safe='')}"
    with ask(url) as api:
        found = (
            api.get(f"{path}/blobs", limit=limit, continuation=continuation)
            if blobs
            else api.get(path)
        )
    if printed_as_json(found.body, as_json):
        return
    if blobs:
        output.blobs(terminal(), found.body["blobs"])
        goes_on(found)
    else:
        output.facts(terminal(), found.body)


@app.command()
def watch(
    what: Annotated[
        str,
        typer.Argument(metavar="ID", help="of a run, a cycle or a backfill", show_default=False),
    ],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Follow a run, a cycle or a backfill to its end. Ends with 1 where something in it failed."""
    with ask(url) as api:
        to_its_end(api, what, as_json)


@app.command()
def retry(
    run_id: RunId,
    reason: Annotated[str | None, typer.Option(help="for whoever reads the run's row")] = None,
    watch: Watch = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask again for what a run that has ended asked for; what is proven is not copied again."""
    with ask(url) as api:
        _started(
            api,
            api.post(f"runs/{quote(run_id, safe='')}/retry", {"reason": reason} if reason else {}),
            watch,
            as_json,
        )


@app.command()
def cancel(
    what: Annotated[
        str, typer.Argument(metavar="ID", help="of a run or a backfill", show_default=False)
    ],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """End a run or a backfill in order: what is proven stays, and a later one carries on."""
    with ask(url) as api:
        found = api.post(f"{path_of(what)}/cancel")
    if not printed_as_json(found.body, as_json):
        until = found.body.get("effective_by")
        said = (
            f"will have ended by {until}"
            if until
            else "begins no further run, and ends those under way"
        )
        terminal().print(f"{what} {said}.", highlight=False, markup=False)


@app.command()
def catalogue(
    dataset: DatasetOption = None,
    month: Annotated[str | None, typer.Option(help="billing month: 2026-11")] = None,
    limit: Limit = 100,
    continuation: Continuation = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """What is landed: the newest version of every export."""
    with ask(url) as api:
        found = api.get(
            "catalogue",
            dataset=dataset and dataset.value,
            billing_month=month,
            limit=limit,
            continuation=continuation,
        )
    if not printed_as_json(found.body, as_json):
        output.catalogue(terminal(), found.body["entries"])
        goes_on(found)


@app.command()
def status(url: Url = None, as_json: Json = False) -> None:
    """What comes next, what runs, what landed last, which versions."""
    with ask(url) as api:
        found = api.get("status")
    if not printed_as_json(found.body, as_json):
        output.status(terminal(), found.body)


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Whether everything is set up right, and if not, what to do. Ends with 1 where a check failed."""
    with ask(url) as api:
        found = api.get("preflight")
    if not printed_as_json(found.body, as_json):
        output.checks(terminal(), found.body)
    if found.body["status"] == "fail":
        raise typer.Exit(BAD)


def _started(api: Api, begun: Answer, watch: bool, as_json: bool) -> None:
    run_id = str(begun.body["run_id"])
    if not watch and printed_as_json(begun.body, as_json):
        return
    if not as_json:
        word = "has begun" if begun.body.get("started", True) else "is under way already"
        terminal().print(f"{run_id} {word}.", highlight=False, markup=False)
    if watch:
        to_its_end(api, run_id, as_json)
