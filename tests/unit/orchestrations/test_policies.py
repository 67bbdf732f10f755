"""Orchestration policies: waits, run results by status, and concurrency limits."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrations.policies import (
    RETRY,
    RunFailedError,
    run_result,
    sleep,
    windows,
)
from shared import messages
from shared.errors import CATALOGUE, get_remedy
from shared.messages import FAILED_OUTCOMES, Limits, Outcome
from shared.redaction import is_secret_free

LIMITS: Limits = {
    "deadline": "2026-11-22T06:00:00+00:00",
    "max_rounds": 3,
    "max_concurrent_pages": 4,
}


@given(st.integers(0, 500), st.integers(1, 20))
def test_windows_cover_every_page_exactly_once(count: int, width: int) -> None:
    ranges = list(windows(count, width))
    assert [page for window in ranges for page in window] == list(range(count))
    assert all(1 <= len(window) <= width for window in ranges)


class VirtualContext:
    """A context whose timers fire `early` seconds early."""

    def __init__(self, early: float = 0) -> None:
        self.current_utc_datetime = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
        self.started, self.early = self.current_utc_datetime, timedelta(seconds=early)
        self.timers = list[timedelta]()

    def create_timer(self, until: datetime) -> datetime:
        self.timers.append(until - self.current_utc_datetime)
        return until

    def sleep(self, seconds: float) -> timedelta:
        """Run `sleep` to completion, and return the elapsed time."""
        for until in sleep(self, seconds):
            self.current_utc_datetime = max(self.current_utc_datetime, until - self.early)
        return self.current_utc_datetime - self.started


@pytest.mark.parametrize(
    ("hours", "timers"), [(0, 0), (1, 1), (24, 2), (25, 2), (48, 3), (49, 3), (168, 8)]
)
def test_sleep_over_a_day_uses_timers_of_at_most_one_day(hours: int, timers: int) -> None:
    context = VirtualContext()
    elapsed = context.sleep(hours * 3600)
    assert timedelta(0) <= elapsed - timedelta(hours=hours) <= timedelta(seconds=1)
    assert len(context.timers) <= timers
    assert all(timer <= timedelta(hours=24) for timer in context.timers)


def test_sleep_with_early_timer_ends_after_one_timer() -> None:
    context = VirtualContext(early=1)
    assert context.sleep(57) == timedelta(seconds=57)
    assert context.timers == [timedelta(seconds=58)]


def test_sleep_with_timer_earlier_than_tolerated_creates_another_timer() -> None:
    context = VirtualContext()
    steps = sleep(context, 57)
    first = next(steps)
    context.current_utc_datetime = first - timedelta(seconds=2)
    assert next(steps) == first


@given(st.floats(0, 200_000), st.floats(0, 1))
def test_sleep_lasts_at_least_the_requested_time(seconds: float, early: float) -> None:
    elapsed = VirtualContext(early).sleep(seconds)
    assert timedelta(seconds=seconds) <= elapsed + timedelta(microseconds=1)
    assert elapsed <= timedelta(seconds=seconds + 1, microseconds=1)


def test_sleep_of_zero_or_less_creates_no_timer() -> None:
    context = VirtualContext()
    assert context.sleep(0) == timedelta() and context.sleep(-5) == timedelta()
    assert context.timers == []


def statuses(union: Any) -> dict[str, Any]:
    """Return the TypedDict of each status of a union."""
    return {
        status: kind
        for kind in get_args(union)
        for status in get_args(get_type_hints(kind)["status"])
    }


def sample(kind: Any) -> dict[str, Any]:
    """Return a result of this type with every required key."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if name in kind.__required_keys__:
            values[name] = (
                get_args(hint)[0]
                if get_origin(hint) is not None and name == "status"
                else {
                    "code": "graph_forbidden",
                    "version": "v",
                    "live_run_id": "r",
                    "result": {"outcome": "landed", "version": "v"},
                    "operation_id": "o",
                    "wait_seconds": 1,
                    "plan": 1,
                    "pages": 1,
                    "blobs": 1,
                }[name]
            )
    return values


# The statuses that the orchestrators handle. Every other status must end the run.
HANDLED = {
    "ClaimResult": {"claimed"},
    "OperationResult": {"planned"},
    "PlanResult": {"planned", "gone", "waiting"},
    "CommitResult": {"missing", "waiting"},
}


@pytest.mark.parametrize("union", HANDLED)
def test_run_result_of_every_final_status_is_a_valid_outcome(union: str) -> None:
    for status, kind in statuses(getattr(messages, union)).items():
        if status in HANDLED[union]:
            continue
        outcome: Any = run_result(sample(kind))  # type: ignore[arg-type]
        assert outcome["outcome"] in get_args(Outcome), status
        assert outcome["outcome"] not in FAILED_OUTCOMES or outcome["code"] in CATALOGUE
        assert is_secret_free(outcome)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            {"status": "refused", "code": "graph_forbidden"},
            {"outcome": "failed", "code": "graph_forbidden"},
        ),
        ({"status": "landed", "version": "v"}, {"outcome": "landed", "version": "v"}),
        ({"status": "unchanged", "version": "v"}, {"outcome": "unchanged", "version": "v"}),
        (
            {"status": "superseded", "live_run_id": "r"},
            {"outcome": "superseded", "live_run_id": "r"},
        ),
        ({"status": "no_data"}, {"outcome": "no_data"}),
        (
            {"status": "no_data", "code": "month_not_open"},
            {"outcome": "no_data", "code": "month_not_open"},
        ),
        ({"status": "ended", "result": {"outcome": "cancelled"}}, {"outcome": "cancelled"}),
        ({"status": "timed_out"}, {"outcome": "timed_out", "code": "deadline_passed"}),
        ({"status": "cancelled"}, {"outcome": "cancelled", "code": "cancelled"}),
    ],
)
def test_run_result_of_a_status_is_the_expected_outcome(
    result: Any, expected: dict[str, str]
) -> None:
    assert run_result(result) == expected


def test_failed_outcomes_are_all_outcomes_except_five() -> None:
    assert set(get_args(Outcome)) - FAILED_OUTCOMES == {
        "landed",
        "unchanged",
        "no_data",
        "cancelled",
        "superseded",
    }


@pytest.mark.parametrize("code", [*CATALOGUE, None])
def test_run_failed_error_text_is_code_and_remedy(code: str | None) -> None:
    outcome: Any = {"outcome": "failed"} if code is None else {"outcome": "failed", "code": code}
    text = str(RunFailedError(outcome))
    assert (
        text == f"failed ({code or 'failed'}): {get_remedy(code or 'failed')}"
        and is_secret_free(text)
    )
    assert isinstance(RunFailedError(outcome), Exception) and RunFailedError(outcome).args == (
        text,
    )


def test_retry_options_are_three_attempts_after_five_seconds() -> None:
    assert (RETRY.first_retry_interval_in_milliseconds, RETRY.max_number_of_attempts) == (5_000, 3)
