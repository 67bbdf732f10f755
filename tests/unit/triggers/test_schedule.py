"""The tick for which a timer starts a cycle."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest
from azure.functions.timer import TimerRequest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import parse_iso
from triggers.schedule import get_tick

TICK = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)


def make_timer(next_tick: Any) -> func.TimerRequest:
    return TimerRequest(schedule_status={"Last": "2026-11-20T05:00:00+00:00", "Next": next_tick})


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
def test_get_tick_returns_next_unless_it_is_far_from_now(now: datetime, tick: datetime) -> None:
    assert get_tick(make_timer("2026-11-21T05:00:00+00:00"), now) == tick


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
def test_get_tick_accepts_every_time_format_of_the_host(text: str) -> None:
    now = TICK + timedelta(seconds=1)
    assert get_tick(make_timer(text), now) == TICK
    status: Any = json.dumps({"Next": text})
    assert get_tick(TimerRequest(schedule_status=status), now) == TICK


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
def test_get_tick_invalid_status_returns_now(status: Any) -> None:
    assert get_tick(TimerRequest(schedule_status=status), TICK) == TICK


@given(st.text(max_size=30) | st.datetimes().map(lambda moment: moment.isoformat()))
def test_get_tick_any_text_returns_a_time_near_now(text: str) -> None:
    tick = get_tick(make_timer(text), TICK)
    assert TICK - timedelta(hours=1) <= tick <= TICK + timedelta(seconds=5)
    assert tick.tzinfo is not None
    assert tick == TICK or tick == parse_iso(text)
