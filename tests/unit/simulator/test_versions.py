"""Data versions as time goes by: what is new, what stands still, what was restated."""

from dataclasses import replace
from decimal import Decimal

import pytest

from local.simulator import Behaviour, NoStorage, Partner, Simulator
from local.simulator.data_versions import ExportKey
from tests.unit.simulator.clocks import StandingClock


def simulator_at(moment: str, **switches: object) -> tuple[Simulator, StandingClock]:
    clock = StandingClock.at(moment)
    return Simulator(
        storage=NoStorage(), clock=clock, behaviour=replace(Behaviour(), **switches)
    ), clock


def g_invoices(simulator: Simulator) -> list[str]:
    return [invoice.invoice_id for invoice in simulator.invoices() if not invoice.legacy]


def test_two_modern_invoices_and_a_legacy_one_are_known_and_ids_look_right() -> None:
    simulator, _ = simulator_at("2026-11-21")
    invoices = simulator.invoices()
    assert sorted(invoice.invoice_id[0] for invoice in invoices) == ["D", "G", "G"]
    assert all(
        len(invoice.invoice_id) == 10 and invoice.invoice_id[1:].isdigit() for invoice in invoices
    )
    assert [str(invoice.month) for invoice in invoices if not invoice.legacy] == [
        "2026-09",
        "2026-10",
    ]


def test_an_invoice_appears_on_the_eighth_and_the_old_ones_keep_their_ids() -> None:
    simulator, clock = simulator_at("2026-12-08T07:12:00")
    before = g_invoices(simulator)
    clock.forward(minutes=1)
    assert g_invoices(simulator)[:2] == before and len(g_invoices(simulator)) == 3
    with pytest.raises(KeyError):
        simulator_at("2026-12-08T07:12:00")[0].expected(
            f"billed_usage/{g_invoices(simulator)[2]}/full"
        )


def test_each_currency_has_its_invoice() -> None:
    simulator = Simulator(
        storage=NoStorage(),
        clock=StandingClock.at("2026-11-21"),
        partner=Partner(currencies=("USD", "EUR")),
    )
    assert sorted(invoice.currency for invoice in simulator.invoices() if not invoice.legacy) == [
        "EUR",
        "EUR",
        "USD",
        "USD",
    ]


def test_the_current_month_grows_a_day_at_a_time_and_its_etag_changes_only_then() -> None:
    simulator, clock = simulator_at("2026-11-10T00:10:00")
    first = simulator.expected("unbilled_usage/2026-11/USD/full")
    clock.forward(hours=20)
    assert simulator.expected("unbilled_usage/2026-11/USD/full") == first
    clock.forward(hours=4)
    second = simulator.expected("unbilled_usage/2026-11/USD/full")
    assert second.etag != first.etag and second.rows > first.rows and second.created > first.created


def test_the_last_month_stops_changing() -> None:
    simulator, clock = simulator_at("2026-11-02T12:00:00")
    closed = simulator.expected("unbilled_usage/2026-10/USD/full")
    clock.forward(days=17)
    assert simulator.expected("unbilled_usage/2026-10/USD/full").etag == closed.etag


def test_on_the_first_of_a_month_there_is_nothing_yet() -> None:
    simulator, _ = simulator_at("2026-11-01T12:00:00")
    assert simulator.expected("unbilled_usage/2026-11/USD/full").rows == 0


def test_a_stalled_month_jumps_when_the_invoices_are_out() -> None:
    simulator, clock = simulator_at("2026-11-07T12:00:00", unbilled_data="stalled")
    stalled = simulator.expected("unbilled_usage/2026-11/USD/full")
    clock.forward(days=1)
    assert simulator.expected("unbilled_usage/2026-11/USD/full").rows == 7 * stalled.rows


def test_current_may_mean_the_month_before_for_a_while() -> None:
    simulator, clock = simulator_at("2026-11-01T05:00:00", month_opens_after_hours=6)
    assert (str(simulator.month("current")), str(simulator.month("last"))) == ("2026-10", "2026-09")
    clock.forward(hours=1)
    assert (str(simulator.month("current")), str(simulator.month("last"))) == ("2026-11", "2026-10")


def test_billed_usage_may_be_partial_at_first() -> None:
    simulator, clock = simulator_at("2026-11-08T12:00:00", billed_usage="partial_at_first")
    key = f"billed_usage/{g_invoices(simulator)[1]}/full"
    partial = simulator.expected(key)
    clock.forward(days=1)
    whole = simulator.expected(key)
    assert (
        partial.rows == whole.rows * 18 // 31
        and partial.etag != whole.etag
        and partial.created < whole.created
    )
    assert partial.folder != whole.folder


def test_restating_changes_both_attribute_sets_of_one_subject_only() -> None:
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


def test_restating_twice_in_a_minute_gives_two_folders() -> None:
    simulator, _ = simulator_at("2026-11-21")
    key = simulator.export_keys()[0]
    first, second = simulator.restate(key), simulator.restate(key)
    assert first.etag != second.etag and not {blob.name for blob in first.blobs} & {
        blob.name for blob in second.blobs
    }


def test_a_share_of_nothing_leaves_nothing_and_the_next_restatement_brings_it_back() -> None:
    simulator, _ = simulator_at("2026-11-21")
    for key in simulator.export_keys():
        rows = simulator.expected(key).rows
        assert simulator.restate(key, share=Decimal(0)).rows == 0
        assert simulator.restate(key).rows >= rows


@pytest.mark.parametrize(
    "text",
    ["billed_usage/G1/2/full", "unbilled_usage/2026-11/full", "usage/G1/full", "billed_usage/G1"],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no export key"):
        ExportKey.parse(text)
