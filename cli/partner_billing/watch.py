"""Follows a run, a cycle or a backfill until it ends, at the interval that the app requests."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from partner_billing.api import DEFAULT_POLL_SECONDS, Api, Response
from partner_billing.errors import UnreachableError
from partner_billing.progress import GOOD_OUTCOMES

Show = Callable[[dict[str, Any]], None]
Sleep = Callable[[float], None]

MAX_FAILED_POLLS = 20  # consecutive; with the pause, about three minutes
FAILED_POLL_PAUSE_SECONDS = 10.0


def path_of(identifier: str) -> str:
    """Return the API path of a run, a cycle or a backfill.

    >>> path_of("cycle-20261108t050000z-4pml"), path_of("backfill-1")
    ('cycles/cycle-20261108t050000z-4pml', 'backfills/backfill-1')
    >>> path_of("billed-usage-g1/..")
    'runs/billed-usage-g1%2F..'
    """
    kind = next(
        (kind for kind in ("cycle", "backfill") if identifier.startswith(f"{kind}-")), "run"
    )
    return f"{kind}s/{quote(identifier, safe='')}"


def runs_in(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of a cycle or a backfill, or the run itself."""
    return list(body["runs"]) if isinstance(body.get("runs"), list) else [body]


def has_ended(body: dict[str, Any]) -> bool:
    """Return whether a run, a cycle or a backfill has ended."""
    return (
        body.get("state") in ("ended", "failed") if "state" in body else bool(body.get("outcome"))
    )


def has_succeeded(body: dict[str, Any]) -> bool:
    """Return whether it has ended, all its runs have a good outcome, and it is not incomplete."""
    is_complete = body.get("state", "ended") == "ended" and body.get("outcome") != "incomplete"
    return is_complete and all(run.get("outcome") in GOOD_OUTCOMES for run in runs_in(body))


def follow(
    api: Api,
    identifier: str,
    show: Show,
    sleep: Sleep = time.sleep,
    *,
    redraw_seconds: float | None = None,
) -> dict[str, Any]:
    """Poll until the run, cycle or backfill has ended, and return the last body.

    Polls that fail because the app is unreachable are repeated, because an outage of the app or
    the network does not end a run.

    Args:
        api: The client.
        identifier: The ID of a run, a cycle or a backfill.
        show: Called with the body of every poll.
        sleep: A replacement for `time.sleep` in tests.
        redraw_seconds: The interval at which to call `show` again between polls.

    Raises:
        CommandError: A poll failed with a different error, or too many consecutive polls failed.
    """
    path, failed_polls = path_of(identifier), 0
    while True:
        try:
            response: Response | None = api.get(path)
            failed_polls = 0
        except UnreachableError:
            failed_polls += 1
            if failed_polls >= MAX_FAILED_POLLS:
                raise
            response = None
        if response is None:
            sleep(FAILED_POLL_PAUSE_SECONDS)
            continue
        show(response.body)
        if has_ended(response.body):
            return response.body
        wait(
            response.retry_after_seconds or DEFAULT_POLL_SECONDS,
            partial(show, response.body),
            sleep,
            redraw_seconds,
        )


def wait(
    seconds: float, draw: Callable[[], None], sleep: Sleep, redraw_seconds: float | None
) -> None:
    """Sleep, and call `draw` every `redraw_seconds`."""
    remaining = seconds
    while redraw_seconds is not None and remaining > redraw_seconds:
        sleep(redraw_seconds)
        remaining -= redraw_seconds
        draw()
    sleep(remaining)
