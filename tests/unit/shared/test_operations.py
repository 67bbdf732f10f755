"""The wait around a month boundary, when Microsoft and the app might use different months."""

import pytest

from shared.clock import parse_iso
from shared.operations import seconds_to_leave_boundary


@pytest.mark.parametrize(
    ("now", "minutes", "seconds"),
    [
        ("2026-11-30T23:29:59Z", 30, 0),
        ("2026-11-30T23:30:00Z", 30, 3_601),
        ("2026-11-30T23:59:59Z", 30, 1_802),
        ("2026-12-01T00:00:00Z", 30, 1_801),
        ("2026-12-01T00:10:00Z", 30, 1_201),
        ("2026-12-01T00:29:59Z", 30, 2),
        ("2026-12-01T00:30:00Z", 30, 0),
        ("2027-01-01T00:00:00+01:00", 30, 0),
        ("2027-01-01T01:10:00+01:00", 30, 1_201),
        ("2026-12-01T00:00:00Z", 0, 0),
        ("2026-12-15T12:00:00Z", 720, 0),
    ],
)
def test_seconds_to_leave_boundary_before_and_after_midnight(
    now: str, minutes: int, seconds: int
) -> None:
    assert seconds_to_leave_boundary(parse_iso(now), minutes) == seconds
