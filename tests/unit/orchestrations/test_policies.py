"""How long to wait, what an answer means, how wide to fan out."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrations.policies import (
    RETRY,
    RunFailed,
    ended_by,
    pause_before,
    sleep,
    wait_for,
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
    "poll_min_seconds": 10,
}


def seconds(pause: timedelta) -> float:
    return pause.total_seconds()


@pytest.mark.parametrize(
    ("asked", "attempt", "waits"),
    [
        (None, 1, 31),
        (None, 2, 61),
        (None, 3, 121),
        (None, 4, 301),
        (None, 5, 301),
        (None, 1000, 301),
        (0, 1, 11),
        (9, 1, 11),
        (10, 1, 11),
        (11, 1, 12),
        (57, 3, 58),
        (43_200, 1, 43_201),
    ],
)
def test_microsofts_wait_in_full_or_ours(asked: int | None, attempt: int, waits: int) -> None:
    assert seconds(wait_for(asked, attempt, LIMITS)) == waits


@given(st.none() | st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 86_400))
def test_no_wait_is_shorter_than_asked_or_than_the_least(
    asked: int | None, attempt: int, least: int
) -> None:
    waits = seconds(wait_for(asked, attempt, {**LIMITS, "poll_min_seconds": least}))
    assert waits >= max(asked or 0, least) + 1


@pytest.mark.parametrize(
    ("round_number", "asked", "pause"),
    [(1, 0, 31), (2, 0, 61), (3, 0, 121), (9, 0, 301), (1, 5, 11), (2, 90, 91)],
)
def test_pauses_between_rounds(round_number: int, asked: int, pause: int) -> None:
    assert seconds(pause_before(round_number, asked, LIMITS)) == pause


@given(st.integers(0, 500), st.integers(1, 20))
def test_windows_cover_every_page_once(count: int, width: int) -> None:
    all_of_them = list(windows(count, width))
    assert [page for window in all_of_them for page in window] == list(range(count))
    assert all(1 <= len(window) <= width for window in all_of_them)


class Context:
    """An engine that fires each timer `early` seconds early."""

    def __init__(self, early: float = 0) -> None:
        self.current_utc_datetime = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
        self.started, self.early, self.timers = (
            self.current_utc_datetime,
            timedelta(seconds=early),
            list[timedelta](),
        )

    def create_timer(self, until: datetime) -> datetime:
        self.timers.append(until - self.current_utc_datetime)
        return until

    def run(self, pause: timedelta) -> timedelta:
        """How long it really slept."""
        for until in sleep(self, pause):
            self.current_utc_datetime = max(self.current_utc_datetime, until - self.early)
        return self.current_utc_datetime - self.started


@pytest.mark.parametrize(
    ("hours", "timers"), [(0, 0), (1, 1), (24, 1), (25, 2), (48, 2), (49, 3), (168, 7)]
)
def test_a_long_sleep_is_several_timers_of_a_day_at_most(hours: int, timers: int) -> None:
    context = Context()
    assert context.run(timedelta(hours=hours)) == timedelta(hours=hours)
    assert len(context.timers) == timers and all(
        timer <= timedelta(hours=24) for timer in context.timers
    )


def test_a_timer_that_fires_a_second_early_is_enough() -> None:
    context = Context(early=1)
    assert context.run(timedelta(seconds=58)) == timedelta(seconds=57) and len(context.timers) == 1


def test_a_timer_that_fires_earlier_than_that_is_waited_out() -> None:
    context = Context(early=1.5)
    context.timers.append(timedelta())
    steps = sleep(context, timedelta(seconds=58))
    first = next(steps)
    context.current_utc_datetime = first - timedelta(seconds=2)
    assert next(steps) == first


@given(st.floats(0, 200_000), st.floats(0, 1))
def test_a_sleep_is_at_most_a_second_short(pause: float, early: float) -> None:
    context = Context(early)
    slept = context.run(timedelta(seconds=pause))
    assert (
        timedelta(seconds=pause) - timedelta(seconds=1, microseconds=1)
        <= slept
        <= timedelta(seconds=pause)
    )


def test_nothing_to_wait_for_makes_no_timer() -> None:
    context = Context()
    assert context.run(timedelta(seconds=1)) == timedelta() and context.timers == []
    assert context.run(timedelta(seconds=-5)) == timedelta() and context.timers == []


def statuses(union: Any) -> dict[str, Any]:
    """Status -> the answer's TypedDict, of a union of shared.messages."""
    return {
        status: kind
        for kind in get_args(union)
        for status in get_args(get_type_hints(kind)["status"])
    }


def sample(kind: Any) -> dict[str, Any]:
    """An answer of this kind, with every required key."""
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
                    "retry_after_seconds": 1,
                    "plan": 1,
                    "pages": 1,
                    "blobs": 1,
                }[name]
            )
    return values


# What the orchestrators handle themselves, before they ask ended_by: everything else must end a run.
HANDLED = {
    "ClaimResult": {"claimed"},
    "OperationResult": {"succeeded"},
    "PlanResult": {"planned", "gone", "waiting"},
    "CommitResult": {"missing"},
}


@pytest.mark.parametrize("union", HANDLED)
def test_every_answer_that_ends_a_run_has_an_ending(union: str) -> None:
    for status, kind in statuses(getattr(messages, union)).items():
        if status in HANDLED[union]:
            continue
        end: Any = ended_by(sample(kind))  # type: ignore[arg-type]
        assert end["outcome"] in get_args(Outcome), status
        assert end["outcome"] not in FAILED_OUTCOMES or end["code"] in CATALOGUE
        assert is_secret_free(end)


@pytest.mark.parametrize(
    ("answer", "end"),
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
def test_how_a_run_ends(answer: Any, end: dict[str, str]) -> None:
    assert ended_by(answer) == end


def test_failures_are_the_outcomes_that_nobody_wants() -> None:
    assert set(get_args(Outcome)) - FAILED_OUTCOMES == {
        "landed",
        "unchanged",
        "no_data",
        "cancelled",
        "superseded",
    }


@pytest.mark.parametrize("code", [*CATALOGUE, None])
def test_what_the_portal_shows_is_code_and_remedy(code: str | None) -> None:
    end: Any = {"outcome": "failed"} if code is None else {"outcome": "failed", "code": code}
    text = str(RunFailed(end))
    assert (
        text == f"failed ({code or 'failed'}): {get_remedy(code or 'failed')}"
        and is_secret_free(text)
    )
    assert isinstance(RunFailed(end), Exception) and RunFailed(end).args == (text,)


def test_retries_are_few_and_paused() -> None:
    assert (RETRY.first_retry_interval_in_milliseconds, RETRY.max_number_of_attempts) == (5_000, 3)
