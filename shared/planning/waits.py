"""How long a run, a cycle or a backfill waits before its next request.

An activity determines the wait and records it. The orchestrator waits for exactly this time, and
the row and the `Retry-After` header of the API show it.
"""

from datetime import datetime, timedelta

from shared.clock import iso
from shared.ledger.ledger import Ledger
from shared.ledger.runs import Run
from shared.messages import WaitingResult

DEFAULT_WAITS_SECONDS = (30, 60, 120, 300)  # by attempt; the last one repeats


def wait_seconds(retry_after_seconds: int | None, attempt: int, minimum: int = 1) -> int:
    """Return the server's `Retry-After` in full, or the default wait of this attempt.

    `attempt` starts at 1. `minimum` is `POLL_MIN_SECONDS` for requests to Microsoft Graph.

    >>> [wait_seconds(None, attempt) for attempt in (1, 2, 3, 4, 5)], wait_seconds(0, 1, minimum=10)
    ([30, 60, 120, 300, 300], 10)
    """
    if retry_after_seconds is None:
        index = min(max(attempt, 1), len(DEFAULT_WAITS_SECONDS)) - 1
        retry_after_seconds = DEFAULT_WAITS_SECONDS[index]
    return max(minimum, retry_after_seconds)


def get_next_check_at(now: datetime, seconds: int) -> str:
    """Return the end of a wait that starts now, in ISO 8601."""
    return iso(now + timedelta(seconds=seconds))


async def record_wait(
    ledger: Ledger, run: Run, seconds: int, *, stage: str, **columns: str | int
) -> WaitingResult:
    """Extend the lease beyond the wait, write the wait to the run row, and return it.

    `columns` are written in the same request. A repeated call overwrites the same values.
    """
    await ledger.extend_lease(run, seconds)
    now = ledger.clock.now()
    await ledger.runs.merge(
        run.run_id,
        stage=stage,
        next_check_at=get_next_check_at(now, seconds),
        **run.get_wait_columns(now, is_waiting=True),
        **columns,
    )
    return {"status": "waiting", "wait_seconds": seconds}
