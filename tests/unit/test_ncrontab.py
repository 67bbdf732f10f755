"""NCRONTAB schedules: fixed cases, invalid schedules, and a comparison with a full search."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ncrontab import InvalidScheduleError, next_tick, parse

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("0 */5 * * * *", ["2026-01-01T12:05:00", "2026-01-01T12:10:00"]),
        ("*/5 * * * *", ["2026-01-01T12:05:00", "2026-01-01T12:10:00"]),
        ("0 0 8 * * Mon-Fri", ["2026-01-02T08:00:00", "2026-01-05T08:00:00"]),
        ("30 5 1 1,15 * *", ["2026-01-15T01:05:30", "2026-02-01T01:05:30"]),
        ("0 30 9 * Jan Mon", ["2026-01-05T09:30:00", "2026-01-12T09:30:00"]),
        ("*/10 * * * * *", ["2026-01-01T12:00:10", "2026-01-01T12:00:20"]),
        ("0 0 0 1 1 0", ["2034-01-01T00:00:00", "2040-01-01T00:00:00"]),  # day AND weekday
        ("0 5/15 * * * *", ["2026-01-01T12:05:00", "2026-01-01T12:20:00"]),
        ("0 0 0 29 2 *", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
        (
            "0 0 22-20 * * *",
            ["2026-01-01T20:00:00", "2026-01-01T21:00:00"],
        ),  # a reversed range is swapped
        ("0 0 12 * january THURSDAY", ["2026-01-08T12:00:00", "2026-01-15T12:00:00"]),
        ("00:05:00", ["2026-01-01T12:05:00", "2026-01-01T12:10:00"]),
        ("1.00:00:00", ["2026-01-02T12:00:00", "2026-01-03T12:00:00"]),
    ],
)
def test_next_after_returns_the_next_ticks(text: str, ticks: list[str]) -> None:
    schedule, moment = parse(text), NOON
    for tick in ticks:
        moment = schedule.next_after(moment)
        assert moment.isoformat() == f"{tick}+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* 60 * * * *",
        "* * 24 * * *",
        "* * * 0 * *",
        "* * * 32 * *",
        "* * * * 13 *",
        "* * * * * 7",
        "*/0 * * * * *",
        "a * * * * *",
        "* * * * Foo *",
        "1- * * * * *",
        "٠ 0 5 * * *",
        "0 0 0 30 2 *",
        "00:00:00",
        "24:00:00",
        "-1 * * * * *",
    ],
)
def test_parse_invalid_schedule_raises(text: str) -> None:
    with pytest.raises(InvalidScheduleError):
        parse(text)


def test_next_after_in_a_time_zone_follows_clock_changes() -> None:
    berlin = parse("0 30 2 * * *", ZoneInfo("Europe/Berlin"))
    assert berlin.next_after(NOON).isoformat() == "2026-01-02T01:30:00+00:00"
    # 02:30 does not exist on 29 March 2026: the tick is at the time that would have been 02:30.
    assert (
        berlin.next_after(datetime(2026, 3, 28, 12, tzinfo=UTC)).isoformat()
        == "2026-03-29T01:30:00+00:00"
    )
    # 02:30 exists twice on 25 October 2026.
    first = berlin.next_after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    assert first.isoformat() == "2026-10-25T00:30:00+00:00"


def random_field(chance: random.Random, low: int, high: int) -> tuple[str, set[int]]:
    kind = chance.randrange(5)
    a, b = chance.randint(low, high), chance.randint(low, high)
    if kind == 0:
        return "*", set(range(low, high + 1))
    if kind == 1:
        return str(a), {a}
    if kind == 2:
        return f"{min(a, b)}-{max(a, b)}", set(range(min(a, b), max(a, b) + 1))
    if kind == 3:
        step = chance.randint(1, 7)
        return f"*/{step}", set(range(low, high + 1, step))
    return f"{a},{b}", {a, b}


def test_next_after_of_random_schedules_matches_a_search_by_second() -> None:
    chance = random.Random(20260101)
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    for _ in range(600):
        fields = [random_field(chance, *bound) for bound in bounds]
        fields[3:5] = (
            [("*", set(range(1, 32))), ("*", set(range(1, 13)))]
            if chance.random() < 0.8
            else fields[3:5]
        )
        text = " ".join(field for field, _ in fields)
        seconds, minutes, hours, days, months, weekdays = (values for _, values in fields)
        moment = NOON + timedelta(seconds=chance.randrange(86400 * 365))
        try:
            tick = parse(text).next_after(moment)
        except InvalidScheduleError:
            continue
        probe, steps = moment.replace(microsecond=0), 0
        while steps < 3_000_000:  # skips days and hours that cannot match
            steps += 1
            if (
                probe.month not in months
                or probe.day not in days
                or probe.isoweekday() % 7 not in weekdays
            ):
                probe = probe.replace(hour=0, minute=0, second=0) + timedelta(days=1, seconds=-1)
            elif probe.hour not in hours and probe.minute == 0 and probe.second == 0:
                probe += timedelta(seconds=3599)
            probe += timedelta(seconds=1)
            if (
                probe.second in seconds
                and probe.minute in minutes
                and probe.hour in hours
                and probe.day in days
                and probe.month in months
                and probe.isoweekday() % 7 in weekdays
            ):
                break
        assert tick == probe, (text, moment)


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
def test_next_tick_returns_the_first_tick(schedule: str, expected: str) -> None:
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
def test_next_tick_of_invalid_schedule_or_time_span_is_none(schedule: str) -> None:
    assert next_tick(schedule, NOW) is None
