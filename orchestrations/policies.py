"""What the orchestrators decide, as pure functions: how long to wait, what an answer means, how wide to fan out."""

from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

import azure.durable_functions as df

from shared.errors import get_remedy
from shared.messages import (
    CancelledResult,
    CyclePlannedResult,
    EndedResult,
    LandedResult,
    LaneRequest,
    Limits,
    NoDataResult,
    PlannedRun,
    RefusedResult,
    RunRequest,
    RunResult,
    SupersededResult,
    TimedOutResult,
    UnchangedResult,
)

T = TypeVar("T")
Steps = Generator[Any, Any, T]

RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=5_000, max_number_of_attempts=3)
WAITS_WITHOUT_HEADER = (30, 60, 120, 300)  # seconds; the last one repeats
POLLS_PER_HISTORY = 50
EARLY = timedelta(seconds=1)  # the engine fires timers up to one second early
PLAN_WAITS = 20  # of one round; with waits of minutes, hours of throttling
LIST_TRIES = 4  # looks at an invoice list that cannot be had; then what is known is used
LONGEST_TIMER = timedelta(
    hours=24
)  # a longer wait is several: the engine's own long timers cannot be cancelled


class RunFailed(Exception):
    """What the portal shows of a run that failed. Code and remedy only: this text stays in the history."""

    def __init__(self, end: RunResult) -> None:
        code = end.get("code", end["outcome"])
        super().__init__(f"{end['outcome']} ({code}): {get_remedy(code)}")


def wait_for(retry_after_seconds: int | None, attempt: int, limits: Limits) -> timedelta:
    """Microsoft's wait in full, or ours where it names none. `attempt` counts from 1."""
    if retry_after_seconds is None:
        retry_after_seconds = WAITS_WITHOUT_HEADER[min(attempt, len(WAITS_WITHOUT_HEADER)) - 1]
    return timedelta(seconds=max(limits["poll_min_seconds"], retry_after_seconds)) + EARLY


def pause_before(round_number: int, asked_to_wait: int, limits: Limits) -> timedelta:
    """What storage asked for, or a growing pause of ours. `round_number` counts from 1."""
    return wait_for(asked_to_wait or None, round_number, limits)


def pause_for_list(retry_after_seconds: int | None, attempt: int) -> timedelta:
    """Before the invoice list is asked for again. `attempt` counts from 1."""
    if retry_after_seconds is None:
        retry_after_seconds = WAITS_WITHOUT_HEADER[min(attempt, len(WAITS_WITHOUT_HEADER)) - 1]
    return timedelta(seconds=max(1, retry_after_seconds)) + EARLY


def has_invoice_total(key: str) -> bool:
    """Whether the lines of this export sum up to an invoice's total: only billed reconciliation does."""
    return key.startswith("billed_reconciliation/")


def lane_requests(plan: CyclePlannedResult, cycle_id: str) -> list[LaneRequest]:
    """The inputs of a plan's lanes; `cycle_id` is the cycle's or the backfill's."""
    return [
        {
            "cycle_id": cycle_id,
            "runs": lane,
            "limits": plan["limits"],
            "requested_by": plan["requested_by"],
        }
        for lane in plan["lanes"]
    ]


def start_pause(due: PlannedRun, began: datetime, now: datetime) -> timedelta:
    """How long a run of a lane that began at `began` still waits for its turn; zero or less: not at all."""
    return began + timedelta(seconds=due.get("start_after_seconds", 0)) - now


def run_of(due: PlannedRun, lane: LaneRequest, now: datetime) -> RunRequest:
    """The input of export_run for a run of a lane that starts now: its deadline is counted from here."""
    limits = lane["limits"]
    return {
        "run_id": due["run_id"],
        "key": due["key"],
        "force": False,
        "requested_by": lane["requested_by"],
        "limits": {
            "deadline": (now + timedelta(hours=limits["deadline_hours"])).isoformat(),
            "max_rounds": limits["max_rounds"],
            "max_concurrent_pages": limits["max_concurrent_pages"],
            "poll_min_seconds": limits["poll_min_seconds"],
        },
    }


def sleep(context: df.DurableOrchestrationContext, pause: timedelta) -> Steps[None]:
    """Waits at least `pause` less the engine's earliness, however long, in timers of a day at most."""
    wake: datetime = context.current_utc_datetime + pause
    while context.current_utc_datetime < wake - EARLY:
        yield context.create_timer(min(wake, context.current_utc_datetime + LONGEST_TIMER))


def windows(count: int, width: int) -> Iterator[range]:
    """0..count-1 in runs of at most `width`; nothing at all for 0."""
    return (range(first, min(first + width, count)) for first in range(0, count, width))


def ended_by(
    answer: NoDataResult
    | RefusedResult
    | CancelledResult
    | TimedOutResult
    | UnchangedResult
    | LandedResult
    | SupersededResult
    | EndedResult,
) -> RunResult:
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
            return answer["result"]
        case "timed_out":
            return {"outcome": "timed_out", "code": "deadline_passed"}
        case "cancelled":
            return {"outcome": "cancelled", "code": "cancelled"}
        case "no_data":
            return {"outcome": "no_data"}
