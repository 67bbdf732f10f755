"""The next tick that /status shows, against the local host's own reading of schedules."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.host import ncrontab as theirs
from triggers.ncrontab import next_tick

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)


def field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    named = number | st.sampled_from(names) if names else number
    part = (
        st.just("*")
        | named
        | st.tuples(named, named).map("-".join)
        | st.tuples(st.just("*") | number, st.integers(1, 30).map(str)).map("/".join)
    )
    return st.lists(part, min_size=1, max_size=2).map(",".join)


schedules = st.tuples(
    field(0, 59),
    field(0, 59),
    field(0, 23),
    field(1, 31),
    field(1, 12, ("Jan", "december")),
    field(0, 6, ("sun", "MON", "Friday")),
).map(" ".join)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(schedules, moments)
def test_it_is_what_the_host_says(schedule: str, after: datetime) -> None:
    try:
        expected = theirs.parse(schedule).next_after(after)
    except theirs.BadSchedule:
        expected = None
    assert next_tick(schedule, after) == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("0 0 5 * * *", "2026-11-22T05:00:00+00:00"),
        ("0 5 * * *", "2026-11-22T05:00:00+00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("*/15 * * * * *", "2026-11-21T05:00:15+00:00"),
        ("0 30 9 * Jan Mon", "2027-01-04T09:30:00+00:00"),
    ],
)
def test_known_ones(schedule: str, expected: str) -> None:
    assert next_tick(schedule, NOW) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "x",
        "* * * *",
        "0 0 5 * * * *",
        "60 0 0 * * *",
        "0 0 24 * * *",
        "0 0 0 0 * *",
        "0 0 0 * 13 *",
        "0 0 0 * * 7",
        "*/0 * * * * *",
        "0 0 0 30 2 *",
        "01:00:00",
        "0 0 5 * * Xyz",
        "٠ 0 5 * * *",
    ],
)
def test_what_cannot_be_read_or_never_comes_has_no_next_tick(schedule: str) -> None:
    assert next_tick(schedule, NOW) is None
