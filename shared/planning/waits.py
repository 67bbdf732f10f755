"""How long a run, a cycle or a backfill waits before its next request.

The activity that determines a wait of a run also applies the deadline of the run and records the
wait: the lease of the key is extended beyond it, and the run row and the `Retry-After` header of
the API show its end. The orchestrator waits for exactly this time and has no rule of its own.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from shared.clock import iso, parse_iso
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.messages import TimedOutResult, WaitingResult

# By attempt; the last one repeats.
DEFAULT_WAITS_SECONDS = (30, 60, 120, 300)
# A commit repeats its request within one history, so its waits become longer and fewer.
COMMIT_WAITS_SECONDS = (30, 60, 120, 300, 600, 1_200, 1_800)
# Before the next export request, if the previous one may have taken effect: a run has only three of
# them, which must not all be used during one short outage.
UNCONFIRMED_POST_WAITS_SECONDS = (300, 1_800)
TIMER_TOLERANCE = timedelta(seconds=1)  # the engine fires timers up to one second early


def default_wait_seconds(attempt: int, waits: Sequence[int] = DEFAULT_WAITS_SECONDS) -> int:
    """Return the wait of an attempt, which starts at 1, if the server requests none."""
    return waits[min(max(attempt, 1), len(waits)) - 1]


def wait_seconds(retry_after_seconds: int | None, attempt: int, minimum: int = 1) -> int:
    """Return the server's `Retry-After` in full, or the default wait of this attempt.

    `attempt` starts at 1. `minimum` is `POLL_MIN_SECONDS` for requests to Microsoft Graph.

    >>> [wait_seconds(None, attempt) for attempt in (1, 2, 3, 4, 5)], wait_seconds(0, 1, minimum=10)
    ([30, 60, 120, 300, 300], 10)
    """
    if retry_after_seconds is None:
        retry_after_seconds = default_wait_seconds(attempt)
    return max(minimum, retry_after_seconds)


def remaining_seconds(run: Run, now: datetime) -> int:
    """Return the seconds until the end of the wait that the run row shows, or 0."""
    if not run.next_check_at:
        return 0
    return max(0, math.ceil((parse_iso(run.next_check_at) - now).total_seconds()))


def get_next_check_at(now: datetime, seconds: int) -> str:
    """Return the end of a wait that starts now, in ISO 8601."""
    return iso(now + timedelta(seconds=seconds))


def get_next_check_columns(run: Run, now: datetime, seconds: int) -> dict[str, Any]:
    """Return the columns of the run row for a wait that starts now."""
    return {
        "next_check_at": get_next_check_at(now, seconds),
        **run.get_wait_columns(now, is_waiting=True),
    }


async def start_wait(
    ledger: Ledger, run: Run, seconds: int, *, stage: str, **columns: str | int
) -> WaitingResult | TimedOutResult:
    """Record a wait and return it, or return that the deadline of the run has passed.

    A wait that crosses the deadline is not cut short: the run makes one more attempt after it.
    `columns` are written in the same request. A repeated call overwrites the same values.
    """
    now = ledger.clock.now()
    if now >= parse_iso(run.deadline) - TIMER_TOLERANCE:
        await ledger.runs.merge(run.run_id, **columns)
        return {"status": "timed_out"}
    await ledger.extend_lease(run, seconds)
    await ledger.runs.merge(
        run.run_id, stage=stage, **get_next_check_columns(run, now, seconds), **columns
    )
    return {"status": "waiting", "wait_seconds": seconds}
