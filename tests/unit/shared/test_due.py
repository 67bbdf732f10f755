"""What a cycle asks for: every key once, billed ones first, dealt into lanes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import parse_iso
from shared.due import due_keys, lane_limits, lanes, limits_until
from shared.settings import Settings, load
from tests.unit.shared.test_settings import AZURE

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)


def settings(**changes: str) -> Settings:
    return load(AZURE | {"INVOICE_SOURCE": "list", "INVOICE_IDS": "G016907411,G016907412",
        "EXPORT_CURRENCIES": "USD,EUR"} | changes)


def keys(now: datetime = NOW, **changes: str) -> list[str]:
    return [str(key) for key in due_keys(settings(**changes), now)]


def test_all_that_is_due_billed_first() -> None:
    assert keys() == [
        "billed_usage/G016907411/full", "billed_reconciliation/G016907411/full",
        "billed_usage/G016907412/full", "billed_reconciliation/G016907412/full",
        "unbilled_usage/2026-11/USD/full", "unbilled_reconciliation/2026-11/USD/full",
        "unbilled_usage/2026-11/EUR/full", "unbilled_reconciliation/2026-11/EUR/full",
        "unbilled_usage/2026-10/USD/full", "unbilled_reconciliation/2026-10/USD/full",
        "unbilled_usage/2026-10/EUR/full", "unbilled_reconciliation/2026-10/EUR/full"]


@pytest.mark.parametrize(("now", "months"), [
    ("2026-12-31T23:59:59Z", {"2026-12", "2026-11"}), ("2027-01-01T00:00:00Z", {"2027-01", "2026-12"}),
    ("2026-03-01T00:30:00+01:00", {"2026-02", "2026-01"})])
def test_months_at_the_end_of_months_and_years(now: str, months: set[str]) -> None:
    assert {key.split("/")[1] for key in keys(parse_iso(now)) if key.startswith("unbilled")} == months


def test_nothing_is_asked_for_twice() -> None:
    doubled = keys(INVOICE_IDS="G016907411,g016907411", EXPORT_CURRENCIES="USD,usd", EXPORT_PERIODS="current,current",
                   EXPORT_DATASETS="billed_usage,unbilled_usage,billed_usage", EXPORT_ATTRIBUTE_SETS="full,full,basic")
    assert doubled == ["billed_usage/G016907411/full", "billed_usage/G016907411/basic",
                       "unbilled_usage/2026-11/USD/full", "unbilled_usage/2026-11/USD/basic"]


def test_what_is_not_asked_for_is_not_due() -> None:
    assert keys(INVOICE_SOURCE="none", EXPORT_CURRENCIES="") == []
    assert keys(EXPORT_DATASETS="billed_usage", EXPORT_CURRENCIES="") == ["billed_usage/G016907411/full",
        "billed_usage/G016907412/full"]
    assert keys(INVOICE_SOURCE="none", EXPORT_DATASETS="unbilled_usage", EXPORT_PERIODS="last") == [
        "unbilled_usage/2026-10/USD/full", "unbilled_usage/2026-10/EUR/full"]


@given(st.lists(st.integers()), st.integers(1, 40))
def test_lanes_hold_everything_once_in_order(items: list[int], width: int) -> None:
    dealt = lanes(items, width)
    assert len(dealt) <= width and all(dealt)
    assert sorted(item for lane in dealt for item in lane) == sorted(items)
    assert [lane[0] for lane in dealt] == items[: len(dealt)]
    assert not dealt or max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_limits() -> None:
    chosen = settings(RUN_DEADLINE_HOURS="1.5", POLL_MIN_SECONDS="20")
    limits = limits_until(chosen, NOW)
    assert parse_iso(limits["deadline"]) == NOW + timedelta(hours=1.5)
    assert {**lane_limits(chosen), "deadline": limits["deadline"]} == {**limits, "deadline_hours": 1.5}
    assert (limits["rounds"], limits["pages_in_flight"], limits["poll_min_seconds"]) == (3, 4, 20)
