"""Decisions of the orchestrators as pure functions, and the helpers that they share."""

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
MAX_POLLS_PER_HISTORY = 50
MAX_RUN_ATTEMPTS = 3  # of a lane: further attempts only after an interruption
RUN_CHECK_SECONDS = 300  # between checks of a run that another instance of its cycle has called
MAX_RUN_CHECKS = 300
MAX_LIST_ATTEMPTS = 4  # after that, a cycle uses the invoices that are already known
MAX_TIMER = timedelta(hours=24)  # the engine cannot cancel its own long timers
TIMER_TOLERANCE = timedelta(seconds=1)  # the engine fires timers up to one second early


class RunFailedError(Exception):
    """A failed run, as the Azure portal shows it.

    The text remains in the orchestration history, so it contains only the code and the remedy.
    """

    def __init__(self, result: RunResult) -> None:
        code = result.get("code", result["outcome"])
        super().__init__(f"{result['outcome']} ({code}): {get_remedy(code)}")


def has_invoice_total(key: str) -> bool:
    """Return whether the lines of this export add up to the total of an invoice."""
    return key.startswith("billed_reconciliation/")


def lane_requests(plan: CyclePlannedResult, cycle_id: str) -> list[LaneRequest]:
    """Return the input of each lane. `cycle_id` is the ID of the cycle or of the backfill."""
    return [
        {
            "cycle_id": cycle_id,
            "runs": lane,
            "limits": plan["limits"],
            "requested_by": plan["requested_by"],
        }
        for lane in plan["lanes"]
    ]


def start_delay_seconds(run: PlannedRun, lane_started: datetime, now: datetime) -> float:
    """Return how long the run waits before it starts; zero or less means that it starts now."""
    offset = timedelta(seconds=run.get("start_after_seconds", 0))
    return (lane_started + offset - now).total_seconds()


def run_request(run: PlannedRun, lane: LaneRequest, now: datetime) -> RunRequest:
    """Return the input of `export_run` for a run that starts now.

    The deadline is measured from the start of the run, not from the start of the cycle.
    """
    limits = lane["limits"]
    return {
        "run_id": run["run_id"],
        "key": run["key"],
        "force": False,
        "requested_by": lane["requested_by"],
        "limits": {
            "deadline": (now + timedelta(hours=limits["deadline_hours"])).isoformat(),
            "max_rounds": limits["max_rounds"],
            "max_concurrent_pages": limits["max_concurrent_pages"],
        },
    }


def sleep(context: df.DurableOrchestrationContext, seconds: float) -> Steps[None]:
    """Wait for at least `seconds`, in timers of at most one day.

    Each timer is set one second later, because the engine can fire it one second early.
    """
    until: datetime = context.current_utc_datetime + timedelta(seconds=seconds)
    while context.current_utc_datetime < until:
        wake = until + TIMER_TOLERANCE
        yield context.create_timer(min(wake, context.current_utc_datetime + MAX_TIMER))


def next_check_at(context: df.DurableOrchestrationContext, wait_seconds: float) -> str:
    """Return the end of a wait that starts now, in ISO 8601, for the custom status."""
    moment: datetime = context.current_utc_datetime + timedelta(seconds=wait_seconds)
    return moment.isoformat().replace("+00:00", "Z")


def wait(
    context: df.DurableOrchestrationContext, status: dict[str, Any], seconds: float
) -> Steps[None]:
    """Wait, and show the end of the wait in the custom status, which otherwise is `status`."""
    if seconds > 0:
        context.set_custom_status({**status, "next_check_at": next_check_at(context, seconds)})
        yield from sleep(context, seconds)


def windows(count: int, width: int) -> Iterator[range]:
    """Divide `range(count)` into ranges of at most `width`; none if `count` is 0."""
    return (range(first, min(first + width, count)) for first in range(0, count, width))


def run_result(
    result: NoDataResult
    | RefusedResult
    | CancelledResult
    | TimedOutResult
    | UnchangedResult
    | LandedResult
    | SupersededResult
    | EndedResult,
) -> RunResult:
    """Return how a run ends after a result that leaves nothing to do."""
    match result["status"]:
        case "refused":
            return {"outcome": "failed", "code": result["code"]}
        case "landed" | "unchanged":
            return {"outcome": result["status"], "version": result["version"]}
        case "superseded":
            return {"outcome": "superseded", "live_run_id": result["live_run_id"]}
        case "no_data" if "code" in result:
            return {"outcome": "no_data", "code": result["code"]}
        case "ended":
            return result["result"]
        case "timed_out":
            return {"outcome": "timed_out", "code": "deadline_passed"}
        case "cancelled":
            return {"outcome": "cancelled", "code": "cancelled"}
        case "no_data":
            return {"outcome": "no_data"}
