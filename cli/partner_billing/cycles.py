"""The commands for many exports: `cycle`, `backfill` and `gaps`."""

from typing import Annotated

import typer

from partner_billing import output
from partner_billing.api import Api, Response
from partner_billing.common import (
    Dataset,
    Json,
    Url,
    app,
    create_console,
    open_api,
    print_if_json,
    watch_until_end,
)

WatchByDefault = Annotated[
    bool, typer.Option("--watch/--no-watch", help="follow the progress until the end")
]
Datasets = Annotated[
    list[Dataset] | None,
    typer.Option("--dataset", help="limit the exports to this dataset; can be repeated"),
]


@app.command()
def cycle(
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="print the requests that would be sent to Microsoft, without starting any runs",
        ),
    ] = False,
    watch: WatchByDefault = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Start the scheduled exports now. The exit code is 1 if the cycle is incomplete."""
    with open_api(url) as api:
        response = api.post("cycles", {"dry_run": True} if dry_run else {})
        if dry_run:
            if not print_if_json(response.body, as_json):
                output.print_dry_run(create_console(), response.body)
        else:
            _follow(api, response, str(response.body["cycle_id"]), watch, as_json)


@app.command()
def backfill(
    first: Annotated[
        str, typer.Option("--from", help="first month, for example 2025-09", show_default=False)
    ],
    last: Annotated[
        str,
        typer.Option(
            "--to", help="last month (inclusive), for example 2026-08", show_default=False
        ),
    ],
    dataset: Datasets = None,
    watch: WatchByDefault = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Export the missing data for past months that Microsoft still serves.

    The exit code is 1 if it is incomplete.
    """
    request: dict[str, object] = {"from": first, "to": last}
    if dataset:
        request["datasets"] = [item.value for item in dataset]
    with open_api(url) as api:
        response = api.post("backfills", request)
        _follow(api, response, str(response.body["backfill_id"]), watch, as_json)


@app.command()
def gaps(
    first: Annotated[
        str | None, typer.Option("--from", help="first month; the default is one year ago")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", help="last month (inclusive); the default is the current month"),
    ] = None,
    dataset: Datasets = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show whether each dataset has landed for each month, and the reason if it is missing."""
    query = {
        "from": first,
        "to": last,
        "datasets": ",".join(item.value for item in dataset) if dataset else None,
    }
    with open_api(url) as api:
        response = api.get("gaps", **query)
    if not print_if_json(response.body, as_json):
        output.print_gaps(create_console(), response.body["gaps"])


def _follow(api: Api, response: Response, identifier: str, watch: bool, as_json: bool) -> None:
    if watch:
        watch_until_end(api, identifier, as_json)
    elif not print_if_json(response.body, as_json):
        create_console().print(f"{identifier} has started.", highlight=False, markup=False)
