"""Follows a run, a cycle or a backfill to its end, as slowly as the app asks: no look before `Retry-After` says so."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from partner_billing.api import USUAL, Answer, Api
from partner_billing.errors import UnreachableError

Show = Callable[[dict[str, Any]], None]
Sleep = Callable[[float], None]

PATIENCE = 20  # looks in a row that nobody answers: about three minutes
PAUSE = 10.0  # seconds after such a look
GOOD = ("landed", "unchanged", "no_data")


def path_of(what: str) -> str:
    """>>> path_of("cycle-20261108t050000z-4pml"), path_of("backfill-1"), path_of("billed-usage-g1/..")
    ('cycles/cycle-20261108t050000z-4pml', 'backfills/backfill-1', 'runs/billed-usage-g1%2F..')
    """
    kind = next((kind for kind in ("cycle", "backfill") if what.startswith(f"{kind}-")), "run")
    return f"{kind}s/{quote(what, safe='')}"


def runs_in(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of a cycle or a backfill, or the run itself."""
    return list(body["runs"]) if isinstance(body.get("runs"), list) else [body]


def is_over(body: dict[str, Any]) -> bool:
    return (
        body.get("state") in ("ended", "failed") if "state" in body else bool(body.get("outcome"))
    )


def went_well(body: dict[str, Any]) -> bool:
    """Everything in it ended as one would wish; a cycle or a backfill that could not finish did not."""
    return body.get("state", "ended") == "ended" and all(
        run.get("outcome") in GOOD for run in runs_in(body)
    )


def follow(
    api: Api, what: str, show: Show, sleep: Sleep = time.sleep, *, redraw: float | None = None
) -> dict[str, Any]:
    """The body of the last look. `redraw`: seconds after which what is known is shown again while it waits.

    A look that nobody answers is repeated; a run does not end because this program cannot see it. Raises what Api does.
    """
    path, silent = path_of(what), 0
    while True:
        try:
            answer: Answer | None = api.get(path)
            silent = 0
        except UnreachableError:
            silent += 1
            if silent >= PATIENCE:
                raise
            answer = None
        if answer is None:
            sleep(PAUSE)
            continue
        show(answer.body)
        if is_over(answer.body):
            return answer.body
        wait(answer.retry_after or USUAL, partial(show, answer.body), sleep, redraw)


def wait(seconds: float, draw: Callable[[], None], sleep: Sleep, redraw: float | None) -> None:
    """The whole of it, drawing in between."""
    left = seconds
    while redraw is not None and left > redraw:
        sleep(redraw)
        left -= redraw
        draw()
    sleep(left)
