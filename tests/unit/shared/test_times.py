"""ISO 8601 times, and the wait that a Retry-After header requests."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import SystemClock, iso, parse_iso
from shared.retry_after import MAX_WAIT_SECONDS, parse_retry_after, retry_after_seconds

NOW = datetime(2026, 11, 8, 9, 37, tzinfo=UTC)
moments = st.datetimes(
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-9, minutes=-30))]
    ),
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 12, 31),
)


def test_system_clock_returns_increasing_utc_times() -> None:
    clock = SystemClock()
    before, tick = clock.now(), clock.monotonic()
    assert before.tzinfo is UTC and clock.now() >= before and clock.monotonic() >= tick


@given(moments)
def test_parse_iso_of_formatted_time_returns_the_time(moment: datetime) -> None:
    text = iso(moment)
    assert parse_iso(text) == moment and parse_iso(text).tzinfo is UTC
    assert text.endswith("Z") and "+" not in text and text.isascii()


@given(moments, moments)
def test_iso_strings_of_equal_precision_sort_by_time(first: datetime, second: datetime) -> None:
    first, second = first.replace(microsecond=0), second.replace(microsecond=0)
    assert (iso(first) < iso(second)) == (first < second)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-08T09:37:00Z", NOW),
        ("2026-11-08T09:37:00+00:00", NOW),
        ("2026-11-08T10:37:00+01:00", NOW),
        ("2026-11-08T09:37:00", NOW),
        ("2026-11-08 09:37:00Z", NOW),
        ("2026-11-08T09:37:00.0000000Z", NOW),
        ("2026-11-08T09:37:00.87Z", NOW + timedelta(milliseconds=870)),
    ],
)
def test_parse_iso_accepts_other_iso_formats(text: str, moment: datetime) -> None:
    assert parse_iso(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "None",
        "2026-13-08T09:37:00Z",
        "2026-11-08T25:00:00Z",
        "1762594620",
        "2026-11-08T09:37:00ZZ",
    ],
)
def test_parse_iso_invalid_string_raises(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|must be in"):
        parse_iso(text)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("0", 0),
        ("57", 57),
        (" 57 ", 57),
        ("057", 57),
        ("86400", 86_400),
        ("604801", MAX_WAIT_SECONDS),
        ("9" * 64, MAX_WAIT_SECONDS),
        ("9" * 65, None),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("5 s", None),
        ("0x10", None),
        ("١٢", None),
        ("１２", None),
        ("²", None),
        ("soon", None),
        ("57, 58", None),
        ("57;", None),
        ("Sun, 08 Nov 2026 09:38:30 GMT", 90),
        ("Sun, 08 Nov 2026 10:38:30 +0100", 90),
        ("Sun, 08 Nov 2026 09:38:30 -0000", 90),
        ("Sun, 08 Nov 2026 09:38:30", 90),
        ("Sunday, 08-Nov-26 09:38:30 GMT", 90),
        ("Sun Nov  8 09:38:30 2026", None),
        ("Sun, 08 Nov 2026 09:37:00 GMT", 0),
        ("Sun, 08 Nov 2020 09:37:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_WAIT_SECONDS),
        ("Sun, 08 Nov 2026 09:38:30 +9999", None),
        ("Sun, 99 Nov 2026 09:38:30 GMT", None),
        ("2026-11-08T09:38:30Z", None),
        ("Sun, 08 Nov 2026 25:38:30 GMT", None),
        ("\x00", None),
        ("a" * 64, None),
    ],
)
def test_retry_after_seconds_returns_seconds_or_none(
    header: str | None, seconds: int | None
) -> None:
    wait_seconds = retry_after_seconds(header, NOW)
    # The obsolete asctime format is optional.
    assert wait_seconds == seconds or (header == "Sun Nov  8 09:38:30 2026" and wait_seconds == 90)


def test_retry_after_seconds_rounds_fractions_up() -> None:
    assert (
        retry_after_seconds("Sun, 08 Nov 2026 09:38:30 GMT", NOW + timedelta(milliseconds=1)) == 90
    )
    assert (
        retry_after_seconds("Sun, 08 Nov 2026 09:38:30 GMT", NOW - timedelta(milliseconds=1)) == 91
    )


@given(
    st.text(max_size=70)
    | st.from_regex(
        r"[A-Z][a-z]{2}, ?\d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d ([A-Z]{3}|[+-]\d{4})",
        fullmatch=True,
    )
)
def test_retry_after_seconds_of_any_header_is_none_or_within_limits(header: str) -> None:
    wait_seconds = retry_after_seconds(header, NOW)
    assert wait_seconds is None or (
        isinstance(wait_seconds, int) and 0 <= wait_seconds <= MAX_WAIT_SECONDS
    )


@given(st.integers(-10 * MAX_WAIT_SECONDS, 10 * MAX_WAIT_SECONDS))
def test_retry_after_seconds_of_date_is_difference_to_now(seconds: int) -> None:
    from email.utils import format_datetime

    wait_seconds = retry_after_seconds(
        format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), NOW
    )
    assert wait_seconds == min(max(seconds, 0), MAX_WAIT_SECONDS)


@pytest.mark.parametrize(
    ("date", "retry_after", "seconds"),
    [
        ("Sun, 08 Nov 2026 08:00:00 GMT", "Sun, 08 Nov 2026 08:05:00 GMT", 300),
        ("Sun, 08 Nov 2026 11:00:00 GMT", "Sun, 08 Nov 2026 11:05:00 GMT", 300),
        ("Sun, 08 Nov 2026 11:00:00 GMT", "57", 57),
        ("not a date", "Sun, 08 Nov 2026 09:38:00 GMT", 60),
        (None, "Sun, 08 Nov 2026 09:38:00 GMT", 60),
        ("Sun, 08 Nov 2026 11:00:00 GMT", None, None),
    ],
)
def test_parse_retry_after_date_is_relative_to_date_header(
    date: str | None, retry_after: str | None, seconds: int | None
) -> None:
    headers = {"Date": date, "Retry-After": retry_after}
    present = {name: value for name, value in headers.items() if value is not None}
    assert parse_retry_after(present, NOW) == seconds
