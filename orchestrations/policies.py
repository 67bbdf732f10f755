"""What the orchestrators decide, as pure functions: how long to wait, what an answer means, how wide to fan out."""

from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

import azure.durable_functions as df

from shared.errors import remedy
from shared.messages import (
    Cancelled,
    Ended,
    Landed,
    Limits,
    NoData,
    Refused,
    RunEnd,
    Superseded,
    TimedOut,
    Unchanged,
)

T = TypeVar("T")
Steps = Generator[Any, Any, T]

RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=5_000, max_number_of_attempts=3)
FAILURES = frozenset({"incomplete", "failed", "timed_out"})
WAITS_WITHOUT_HEADER = (30, 60, 120, 300)  # seconds; the last one repeats
POLLS_PER_HISTORY = 50
EARLY = timedelta(seconds=1)  # the engine fires timers up to one second early
LONGEST_TIMER = timedelta(hours=24)  # a longer wait is several: the engine's own long timers cannot be cancelled


class RunFailed(Exception):
    """What the portal shows of a run that failed. Code and remedy only: this text stays in the history."""

    def __init__(self, end: RunEnd) -> None:
        code = end.get("code", end["outcome"])
        super().__init__(f"{end['outcome']} ({code}): {remedy(code)}")


def wait_for(retry_after_seconds: int | None, attempt: int, limits: Limits) -> timedelta:
    """Microsoft's wait in full, or ours where it names none. `attempt` counts from 1."""
    if retry_after_seconds is None:
        retry_after_seconds = WAITS_WITHOUT_HEADER[min(attempt, len(WAITS_WITHOUT_HEADER)) - 1]
    return timedelta(seconds=max(limits["poll_min_seconds"], retry_after_seconds)) + EARLY


def pause_before(round_number: int, asked_to_wait: int, limits: Limits) -> timedelta:
    """What storage asked for, or a growing pause of ours. `round_number` counts from 1."""
    return wait_for(asked_to_wait or None, round_number, limits)


def sleep(context: df.DurableOrchestrationContext, pause: timedelta) -> Steps[None]:
    """Waits at least `pause` less the engine's earliness, however long, in timers of a day at most."""
    wake: datetime = context.current_utc_datetime + pause
    while context.current_utc_datetime < wake - EARLY:
        yield context.create_timer(min(wake, context.current_utc_datetime + LONGEST_TIMER))


def windows(count: int, width: int) -> Iterator[range]:
    """0..count-1 in runs of at most `width`; nothing at all for 0."""
    return (range(first, min(first + width, count)) for first in range(0, count, width))


def ended_by(answer: NoData | Refused | Cancelled | TimedOut | Unchanged | Landed | Superseded | Ended) -> RunEnd:
    """How a run ends on an answer that leaves nothing to do."""
    match answer["status"]:
        case "refused":
            return {"outcome": "failed", "code": answer["code"]}
        case "landed" | "unchanged":
            return {"outcome": answer["status"], "version": answer["version"]}
        case "superseded":
            return {"outcome": "superseded", "live_run_id": answer["live_run_id"]}
        case "no_data" if "code" in answer:
            return {"outcome": "no_data", "code": answer["code"]}
        case "ended":
            return answer["end"]
        case "timed_out":
            return {"outcome": "timed_out", "code": "deadline_passed"}
        case "cancelled":
            return {"outcome": "cancelled", "code": "cancelled"}
        case "no_data":
            return {"outcome": "no_data"}
