"""Whether the root directory or the lines confirm the month of unbilled data."""

import pytest

from shared.exports import ExportKey
from shared.lines.newest_date import NO_DATE, UNREADABLE_DATE
from shared.manifest import DifferentMonthError
from shared.versions.months import get_date_member, verify_month

USAGE, RECONCILIATION = (
    ExportKey.parse(f"unbilled_{family}/2026-12/USD/full") for family in ("usage", "reconciliation")
)
BILLED = ExportKey.parse("billed_reconciliation/G016907411/full")
OPAQUE, NAMED = "https://h/c/v1/8fe347d7", "https://h/c/v1/BillingMonth=202612/Currency=USD"


@pytest.mark.parametrize(
    ("key", "root", "member"),
    [
        (USAGE, OPAQUE, "UsageDate"),
        (RECONCILIATION, OPAQUE, "OrderDate"),
        (USAGE, NAMED, ""),
        (RECONCILIATION, NAMED, ""),
        (BILLED, OPAQUE, ""),
        (BILLED, NAMED, ""),
    ],
)
def test_get_date_member_is_empty_unless_the_lines_must_confirm_the_month(
    key: ExportKey, root: str, member: str
) -> None:
    assert get_date_member(key, root) == member
    if not member:
        verify_month(key, root, [""])


@pytest.mark.parametrize("key", [USAGE, RECONCILIATION])
@pytest.mark.parametrize(
    ("newest_dates", "is_confirmed"),
    [
        (["2026-12-01"], True),
        (["2026-12-31", "2026-11-30", "2024-01-15"], True),
        (["2026-12-01", NO_DATE], True),
        (["2026-11-30"], False),
        (["2027-01-01", "2026-12-01"], False),
        (["2025-12-01"], False),
        ([NO_DATE], False),
        ([], False),
        (["2026-12-01", UNREADABLE_DATE], False),
        (["2026-12-01", ""], False),
    ],
)
def test_verify_month_requires_the_newest_date_in_the_month(
    key: ExportKey, newest_dates: list[str], is_confirmed: bool
) -> None:
    try:
        verify_month(key, OPAQUE, newest_dates)
    except DifferentMonthError:
        assert not is_confirmed
    else:
        assert is_confirmed
