"""Which tick a timer serves."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import parse_iso
from triggers.schedule import tick_of

TICK = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)


def timer(following: Any, **more: Any) -> func.TimerRequest:
    return TimerRequest(
        schedule_status={"Last": "2026-11-20T05:00:00+00:00", "Next": following, **more}
    )


@pytest.mark.parametrize(
    ("now", "tick"),
    [
        (TICK - timedelta(seconds=0.4), TICK),
        (TICK, TICK),
        (TICK + timedelta(seconds=0.4), TICK),
        (TICK - timedelta(seconds=5), TICK),
        (TICK + timedelta(minutes=59), TICK),
        (TICK - timedelta(seconds=6), TICK - timedelta(seconds=6)),
        (TICK + timedelta(hours=2), TICK + timedelta(hours=2)),
        (TICK - timedelta(hours=20), TICK - timedelta(hours=20)),
    ],
)
def test_the_tick_is_what_is_next_unless_it_is_far(now: datetime, tick: datetime) -> None:
    assert tick_of(timer("2026-11-21T05:00:00+00:00"), now) == tick


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T05:00:00+00:00",
        "2026-11-21T05:00:00Z",
        "2026-11-21T05:00:00",
        "2026-11-21T06:00:00+01:00",
        "2026-11-21T05:00:00.0000000Z",
    ],
)
def test_however_the_host_writes_it(text: str) -> None:
    assert tick_of(timer(text), TICK + timedelta(seconds=1)) == TICK
    as_text: Any = json.dumps({"Next": text})
    assert tick_of(TimerRequest(schedule_status=as_text), TICK + timedelta(seconds=1)) == TICK


@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"Next": None},
        {"Next": ""},
        {"Next": "soon"},
        {"Next": 5},
        {"Next": "0001-01-01T00:00:00"},
        {"Next": "0001-01-01T00:00:00+14:00"},
        {"Next": "9999-12-31T23:59:59-14:00"},
        "nonsense",
        "[]",
        "null",
        "5",
    ],
)
def test_without_a_tick_the_moment_is_served(status: Any) -> None:
    assert tick_of(TimerRequest(schedule_status=status), TICK) == TICK


@given(st.text(max_size=30) | st.datetimes().map(lambda moment: moment.isoformat()))
def test_the_tick_is_near_whatever_the_host_says(text: str) -> None:
    tick = tick_of(timer(text), TICK)
    assert (
        TICK - timedelta(hours=1) <= tick <= TICK + timedelta(seconds=5) and tick.tzinfo is not None
    )
    assert tick in (TICK, tick) and (tick == TICK or tick == parse_iso(text))
