"""Data versions over time: new, unchanged and restated data."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest

from local.simulator import Behaviour, NoStorage, Partner, Simulator
from local.simulator.data_versions import ExportKey
from tests.support.clocks import FakeClock


def simulator_at(moment: str, **switches: object) -> tuple[Simulator, FakeClock]:
    clock = FakeClock.at(moment)
    return Simulator(
        storage=NoStorage(), clock=clock, behaviour=replace(Behaviour(), **switches)
    ), clock


def exportable_invoices(simulator: Simulator) -> list[str]:
    return [invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy]


def test_invoices_contain_two_new_commerce_and_one_legacy() -> None:
    simulator, _ = simulator_at("2026-11-21")
    invoices = simulator.invoices()
    assert sorted(invoice.invoice_id[0] for invoice in invoices) == ["D", "G", "G"]
    assert all(re.fullmatch(r"[DG]\d{9}", invoice.invoice_id) for invoice in invoices)
    assert [str(invoice.month) for invoice in invoices if not invoice.legacy] == [
        "2026-09",
        "2026-10",
    ]


def test_invoice_is_issued_on_the_eighth_and_others_keep_their_ids() -> None:
    simulator, clock = simulator_at("2026-12-08T07:12:00")
    before = exportable_invoices(simulator)
    clock.advance(minutes=1)
    assert exportable_invoices(simulator)[:2] == before and len(exportable_invoices(simulator)) == 3
    with pytest.raises(KeyError):
        simulator_at("2026-12-08T07:12:00")[0].expected(
            f"billed_usage/{exportable_invoices(simulator)[2]}/full"
        )


def test_invoices_exist_for_each_currency() -> None:
    simulator = Simulator(
        storage=NoStorage(),
        clock=FakeClock.at("2026-11-21"),
        partner=Partner(currencies=("USD", "EUR")),
    )
    assert sorted(invoice.currency for invoice in simulator.invoices() if not invoice.legacy) == [
        "EUR",
        "EUR",
        "USD",
        "USD",
    ]


def test_current_month_grows_daily_and_keeps_etag_in_between() -> None:
    simulator, clock = simulator_at("2026-11-10T00:10:00")
    first = simulator.expected("unbilled_usage/2026-11/USD/full")
    clock.advance(hours=20)
    assert simulator.expected("unbilled_usage/2026-11/USD/full") == first
    clock.advance(hours=4)
    second = simulator.expected("unbilled_usage/2026-11/USD/full")
    assert second.etag != first.etag and second.rows > first.rows and second.created > first.created


def test_last_month_no_longer_changes() -> None:
    simulator, clock = simulator_at("2026-11-02T12:00:00")
    complete = simulator.expected("unbilled_usage/2026-10/USD/full")
    clock.advance(days=17)
    assert simulator.expected("unbilled_usage/2026-10/USD/full").etag == complete.etag


def test_current_month_on_first_day_is_empty() -> None:
    simulator, _ = simulator_at("2026-11-01T12:00:00")
    assert simulator.expected("unbilled_usage/2026-11/USD/full").rows == 0


def test_stalled_month_catches_up_when_invoices_are_issued() -> None:
    simulator, clock = simulator_at("2026-11-07T12:00:00", unbilled_data="stalled")
    stalled = simulator.expected("unbilled_usage/2026-11/USD/full")
    clock.advance(days=1)
    assert simulator.expected("unbilled_usage/2026-11/USD/full").rows == 7 * stalled.rows


def test_month_current_before_opening_means_previous_month() -> None:
    simulator, clock = simulator_at("2026-11-01T05:00:00", month_opens_after_hours=6)
    assert (str(simulator.month("current")), str(simulator.month("last"))) == ("2026-10", "2026-09")
    clock.advance(hours=1)
    assert (str(simulator.month("current")), str(simulator.month("last"))) == ("2026-11", "2026-10")


def test_billed_usage_partial_at_first_is_complete_a_day_later() -> None:
    simulator, clock = simulator_at("2026-11-08T12:00:00", billed_usage="partial_at_first")
    key = f"billed_usage/{exportable_invoices(simulator)[1]}/full"
    partial = simulator.expected(key)
    clock.advance(days=1)
    complete = simulator.expected(key)
    assert (
        partial.rows == complete.rows * 18 // 31
        and partial.etag != complete.etag
        and partial.created < complete.created
    )
    assert partial.folder != complete.folder


def test_restate_changes_both_attribute_sets_of_one_key() -> None:
    simulator, _ = simulator_at("2026-11-21")
    keys = (*simulator.export_keys("full"), *simulator.export_keys("basic"))
    before = {key: simulator.expected(key) for key in keys}
    key = simulator.export_keys()[0]
    simulator.restate(key, amount=Decimal("12.34"))
    changed = {name for name, old in before.items() if simulator.expected(name).etag != old.etag}
    assert changed == {key, key.replace("/full", "/basic")}
    new = simulator.expected(key)
    assert (
        new.rows == before[key].rows + 3
        and new.created > before[key].created
        and new.folder != before[key].folder
    )


def test_restate_twice_in_a_minute_gives_different_blobs() -> None:
    simulator, _ = simulator_at("2026-11-21")
    key = simulator.export_keys()[0]
    first, second = simulator.restate(key), simulator.restate(key)
    assert first.etag != second.etag
    assert {blob.name for blob in first.blobs}.isdisjoint(blob.name for blob in second.blobs)


def test_restate_share_zero_removes_lines_until_next_restatement() -> None:
    simulator, _ = simulator_at("2026-11-21")
    for key in simulator.export_keys():
        rows = simulator.expected(key).rows
        assert simulator.restate(key, share=Decimal(0)).rows == 0
        assert simulator.restate(key).rows >= rows


@pytest.mark.parametrize(
    "text",
    ["billed_usage/G1/2/full", "unbilled_usage/2026-11/full", "usage/G1/full", "billed_usage/G1"],
)
def test_parse_invalid_key_raises(text: str) -> None:
    with pytest.raises(ValueError, match="is not an export key"):
        ExportKey.parse(text)
