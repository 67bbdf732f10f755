"""The commands for runs, exports and the app."""

from typing import Annotated
from urllib.parse import quote

import typer

from partner_billing import __version__, output
from partner_billing.api import Api, Response
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
    create_console,
    open_api,
    print_continuation,
    print_if_json,
    watch_until_end,
)
from partner_billing.errors import FAILED
from partner_billing.watch import path_of

Reason = Annotated[str | None, typer.Option(help="reason to store with the run")]


@app.callback(invoke_without_command=True)
def print_version(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def start(
    dataset: Dataset,
    invoice: Annotated[
        str | None, typer.Option(help="invoice for a billed dataset, for example G016907411")
    ] = None,
    month: Annotated[
        str | None, typer.Option(help="month for an unbilled dataset: 2026-11, current or last")
    ] = None,
    currency: Annotated[
        str | None, typer.Option(help="currency for an unbilled dataset, for example USD")
    ] = None,
    attribute_set: Annotated[
        AttributeSet | None, typer.Option(help="attribute set that defines the exported columns")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="land the data again even if this version has already landed"),
    ] = False,
    reason: Reason = None,
    watch: Watch = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Start one export. If it is already running, show the running one instead."""
    request = {
        "dataset": dataset.value,
        "invoice_id": invoice,
        "billing_month": month,
        "currency_code": currency,
        "attribute_set": attribute_set.value if attribute_set else None,
        "force": force or None,
        "reason": reason,
    }
    with open_api(url) as api:
        response = api.post(
            "runs", {name: value for name, value in request.items() if value is not None}
        )
        _show_started(api, response, watch, as_json)


@app.command("list")
def list_runs(
    month: Annotated[
        str | None,
        typer.Option(
            help="month in which the runs started, for example 2026-11; default: current month"
        ),
    ] = None,
    dataset: DatasetOption = None,
    outcome: Annotated[
        Outcome | None, typer.Option(help="limit the results to this outcome")
    ] = None,
    limit: Limit = 50,
    continuation: Continuation = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the runs of a month, newest first."""
    with open_api(url) as api:
        response = api.get(
            "runs",
            started=month,
            dataset=dataset and dataset.value,
            outcome=outcome and outcome.value,
            limit=limit,
            continuation=continuation,
        )
    if not print_if_json(response.body, as_json):
        output.print_runs(create_console(), response.body["runs"])
        print_continuation(response)


@app.command()
def show(
    run_id: RunId,
    blobs: Annotated[
        bool, typer.Option("--blobs", help="list the blobs of the run instead")
    ] = False,
    limit: Limit = 100,
    continuation: Continuation = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the stage of a run, or its outcome with the cause and the remedy of an error."""
    path = f"runs/{quote(run_id, safe='')}"
    with open_api(url) as api:
        response = (
            api.get(f"{path}/blobs", limit=limit, continuation=continuation)
            if blobs
            else api.get(path)
        )
    if print_if_json(response.body, as_json):
        return
    if blobs:
        output.print_blobs(create_console(), response.body["blobs"])
        print_continuation(response)
    else:
        output.print_fields(create_console(), response.body)


@app.command()
def watch(
    identifier: Annotated[
        str,
        typer.Argument(metavar="ID", help="ID of a run, a cycle or a backfill", show_default=False),
    ],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Follow a run, a cycle or a backfill until it ends. The exit code is 1 if it failed."""
    with open_api(url) as api:
        watch_until_end(api, identifier, as_json)


@app.command()
def retry(
    run_id: RunId,
    reason: Reason = None,
    watch: Watch = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Repeat the export of a run that has ended. Verified blobs are not copied again."""
    with open_api(url) as api:
        response = api.post(
            f"runs/{quote(run_id, safe='')}/retry", {"reason": reason} if reason else {}
        )
        _show_started(api, response, watch, as_json)


@app.command()
def cancel(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="ID of a run or a backfill", show_default=False)
    ],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Cancel a run or a backfill. Verified blobs are kept, and a later run uses them."""
    with open_api(url) as api:
        response = api.post(f"{path_of(identifier)}/cancel")
    if not print_if_json(response.body, as_json):
        effective_by = response.body.get("effective_by")
        effect = (
            f"will end by {effective_by}"
            if effective_by
            else "will start no further runs and will cancel the current runs"
        )
        create_console().print(f"{identifier} {effect}.", highlight=False, markup=False)


@app.command()
def catalogue(
    dataset: DatasetOption = None,
    month: Annotated[str | None, typer.Option(help="billing month, for example 2026-11")] = None,
    limit: Limit = 100,
    continuation: Continuation = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the newest landed version of every export."""
    with open_api(url) as api:
        response = api.get(
            "catalogue",
            dataset=dataset and dataset.value,
            billing_month=month,
            limit=limit,
            continuation=continuation,
        )
    if not print_if_json(response.body, as_json):
        output.print_catalogue(create_console(), response.body["entries"])
        print_continuation(response)


@app.command()
def status(url: Url = None, as_json: Json = False) -> None:
    """Show the next scheduled cycle, the last cycle, live runs, latest exports and versions."""
    with open_api(url) as api:
        response = api.get("status")
    if not print_if_json(response.body, as_json):
        output.print_status(create_console(), response.body)


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Check the configuration and show remedies. The exit code is 1 if a check failed."""
    with open_api(url) as api:
        response = api.get("preflight")
    if not print_if_json(response.body, as_json):
        output.print_checks(create_console(), response.body)
    if response.body["status"] == "fail":
        raise typer.Exit(FAILED)


def _show_started(api: Api, response: Response, watch: bool, as_json: bool) -> None:
    run_id = str(response.body["run_id"])
    if not watch and print_if_json(response.body, as_json):
        return
    if not as_json:
        state = "has started" if response.body.get("started", True) else "is already running"
        create_console().print(f"{run_id} {state}.", highlight=False, markup=False)
    if watch:
        watch_until_end(api, run_id, as_json)
