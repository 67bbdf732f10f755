"""The generated lines: the documented attributes, and sums that are exact to the cent."""

import gzip
import json
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.simulator import NoStorage, Partner, Simulator
from local.simulator.billing_months import Month
from local.simulator.data_amounts import licence_subtotal, usage_subtotal
from local.simulator.data_attributes import ATTRIBUTES, attribute_names
from local.simulator.data_reconciliation import invoice_total, reconciliation_lines
from local.simulator.data_usage import Changes, Period, usage_lines
from local.simulator.partner import customers_of
from tests.unit.simulator.clocks import StandingClock

MONTH = Month(2026, 10)


def lines_of(simulator: Simulator, key: str) -> list[dict[str, Any]]:
    text = b"".join(gzip.decompress(blob.content) for blob in simulator.expected(key).blobs)
    return [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("family", "attribute_set", "count"),
    [
        ("usage", "basic", 30),
        ("usage", "full", 54),
        ("reconciliation", "basic", 35),
        ("reconciliation", "full", 47),
    ],
)
def test_there_are_as_many_attributes_as_documented(
    family: str, attribute_set: str, count: int
) -> None:
    names = ATTRIBUTES[family, attribute_set]
    assert len(set(names)) == len(names) == count
    assert set(ATTRIBUTES[family, "basic"]) <= set(ATTRIBUTES[family, "full"])


def test_observed_unbilled_usage_differs_as_seen() -> None:
    documented, observed = (
        set(attribute_names("usage", "full")),
        set(attribute_names("usage", "full", as_observed=True)),
    )
    assert documented - observed == {"InvoiceNumber", "BenefitOrderID", "BenefitID"}
    assert observed - documented == {"PCToBCExchangeRateDate"}


@pytest.mark.parametrize("attribute_set", ["full", "basic"])
def test_every_line_has_exactly_the_documented_attributes(attribute_set: str) -> None:
    simulator = Simulator(storage=NoStorage(), clock=StandingClock.at("2026-11-21"))
    for key in simulator.export_keys(attribute_set):
        family = key.split("/")[0].partition("_")[2]
        assert all(
            tuple(line) == ATTRIBUTES[family, attribute_set] for line in lines_of(simulator, key)
        ), key


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    currencies=st.lists(
        st.sampled_from(["USD", "EUR", "GBP", "CHF"]), min_size=1, max_size=2, unique=True
    ),
    until=st.integers(1, 31),
    corrections=st.integers(0, 3),
    cents=st.integers(-500_000, 500_000),
)
def test_usage_sums_up_to_reconciliation_and_reconciliation_to_the_invoice(
    seed: int,
    currencies: list[str],
    until: int,
    corrections: int,
    cents: int,
) -> None:
    partner = Partner(currencies=tuple(currencies), customers=4, resources=5)
    customers = customers_of(partner, seed)
    changes = Changes(corrections, Decimal(cents) / 100)
    for currency in currencies:
        period = Period(MONTH, currency, MONTH.days[until - 1])
        usage = usage_lines(seed, customers, period, changes)
        reconciliation = reconciliation_lines(seed, customers, period, changes)
        by_plan: dict[str, Decimal] = defaultdict(Decimal)
        for line in usage:
            by_plan[line.plan.subscription_id] += line.billing_total
        for each in reconciliation:
            if each.meter:
                by_plan[each.subscription_id] -= each.subtotal
            formula = usage_subtotal if each.meter else licence_subtotal
            assert each.subtotal == formula(
                each.effective_unit_price, each.quantity, each.exchange_rate
            )
        assert set(by_plan.values()) == {Decimal(0)}
        assert invoice_total(reconciliation) == sum(
            each.subtotal + each.tax for each in reconciliation
        )


def test_a_days_amount_is_within_a_cent_of_the_formula() -> None:
    customers = customers_of(Partner(currencies=("EUR",)), 7)
    for line in usage_lines(7, customers, Period(MONTH, "EUR", MONTH.last)):
        assert abs(
            line.billing_total - line.effective_unit_price * line.quantity * line.exchange_rate
        ) < Decimal("0.02")


def test_corrections_change_lines_but_no_sum() -> None:
    customers, period = customers_of(Partner(), 7), Period(MONTH, "USD", MONTH.last)
    before, after = usage_lines(7, customers, period), usage_lines(7, customers, period, Changes(2))
    assert len(after) == len(before) + 4
    assert sum(line.billing_total for line in after) == sum(line.billing_total for line in before)


def test_the_data_has_what_makes_it_interesting() -> None:
    simulator = Simulator(
        storage=NoStorage(),
        clock=StandingClock.at("2026-11-21"),
        partner=Partner(currencies=("EUR",), customers=12),
    )
    keys = [key for key in simulator.export_keys() if key.startswith("billed_reconciliation")]
    lines = [line for key in keys for line in lines_of(simulator, key)]
    categories, charges = (
        Counter(line["ProductCategory"] for line in lines),
        Counter(line["ChargeType"] for line in lines),
    )
    assert {
        "Azure",
        "Azure Reservation",
        "Azure Savings Plan",
        "SaaS",
        "Software",
        "Office",
    } <= set(categories)
    assert {"new", "cycleCharge", "removeQuantity"} <= set(charges)
    assert any(line["Subtotal"] < 0 for line in lines) and any(
        line["TaxTotal"] > 0 for line in lines
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def digest(seed: int) -> list[str]:
        simulator = Simulator(storage=NoStorage(), clock=StandingClock.at("2026-11-21"), seed=seed)
        return [
            blob.sha256 for key in simulator.export_keys() for blob in simulator.expected(key).blobs
        ]

    assert digest(7) == digest(7)
    assert not set(digest(7)) & set(digest(8))


def test_filler_has_the_asked_weight_and_no_two_blobs_are_alike() -> None:
    simulator = Simulator(storage=NoStorage(), clock=StandingClock.at("2026-11-21"))
    key = simulator.export_keys()[0]
    for blob_bytes in (4 << 10, 64 << 10, 1 << 20):
        expected = simulator.fill(key, blobs=5, blob_bytes=blob_bytes)
        assert all(abs(blob.size - blob_bytes) < blob_bytes * 0.05 for blob in expected.blobs)
        assert len({blob.sha256 for blob in expected.blobs}) == 5
        for blob in expected.blobs:
            assert (
                len([json.loads(line) for line in gzip.decompress(blob.content).splitlines()])
                == blob.rows
            )
