"""Many exports at once: the schedule's round, the past, and what is missing of it."""

from typing import Annotated

import typer

from partner_billing import output
from partner_billing.api import Answer, Api
from partner_billing.common import (
    Dataset,
    Json,
    Url,
    app,
    ask,
    printed_as_json,
    terminal,
    to_its_end,
)

ToItsEnd = Annotated[bool, typer.Option("--watch/--no-watch", help="follow it to its end")]
Datasets = Annotated[
    list[Dataset] | None,
    typer.Option("--dataset", help="only this dataset; may be given several times"),
]


@app.command()
def cycle(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="start nothing; print the requests that would be made")
    ] = False,
    watch: ToItsEnd = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask now for all that the schedule would ask for, and follow it. Ends with 1 where something failed."""
    with ask(url) as api:
        begun = api.post("cycles", {"dry_run": True} if dry_run else {})
        if dry_run:
            if not printed_as_json(begun.body, as_json):
                output.dry_run(terminal(), begun.body)
        else:
            _follow(api, begun, str(begun.body["cycle_id"]), watch, as_json)


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", help="first month: 2025-09", show_default=False)],
    last: Annotated[
        str, typer.Option("--to", help="last month, included: 2026-08", show_default=False)
    ],
    dataset: Datasets = None,
    watch: ToItsEnd = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Fetch what is missing of past months, as far as Microsoft still serves it. Ends with 1 where something failed."""
    order: dict[str, object] = {"from": first, "to": last}
    if dataset:
        order["datasets"] = [one.value for one in dataset]
    with ask(url) as api:
        begun = api.post("backfills", order)
        _follow(api, begun, str(begun.body["backfill_id"]), watch, as_json)


@app.command()
def gaps(
    first: Annotated[
        str | None, typer.Option("--from", help="first month; a year ago unless told")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="last month, included; this month unless told")
    ] = None,
    dataset: Datasets = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """What is landed of each month and dataset, and what is missing and why."""
    wanted = {
        "from": first,
        "to": last,
        "datasets": ",".join(one.value for one in dataset) if dataset else None,
    }
    with ask(url) as api:
        found = api.get("gaps", **wanted)
    if not printed_as_json(found.body, as_json):
        output.gaps(terminal(), found.body["gaps"])


def _follow(api: Api, begun: Answer, what: str, watch: bool, as_json: bool) -> None:
    if watch:
        to_its_end(api, what, as_json)
    elif not printed_as_json(begun.body, as_json):
        terminal().print(f"{what} has begun.", highlight=False, markup=False)
