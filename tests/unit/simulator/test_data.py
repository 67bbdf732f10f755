"""Generated lines: the documented attributes, and totals that are equal to the cent."""

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
from tests.support.clocks import FakeClock

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
def test_attributes_match_documented_number(family: str, attribute_set: str, count: int) -> None:
    names = ATTRIBUTES[family, attribute_set]
    assert len(names) == count and sorted(set(names)) == sorted(names)
    assert set(ATTRIBUTES[family, "basic"]) <= set(ATTRIBUTES[family, "full"])


def test_attribute_names_as_observed_differ_from_documentation() -> None:
    documented, observed = (
        set(attribute_names("usage", "full")),
        set(attribute_names("usage", "full", as_observed=True)),
    )
    assert documented - observed == {"InvoiceNumber", "BenefitOrderID", "BenefitID"}
    assert observed - documented == {"PCToBCExchangeRateDate"}


@pytest.mark.parametrize("attribute_set", ["full", "basic"])
def test_line_has_exactly_the_documented_attributes(attribute_set: str) -> None:
    simulator = Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"))
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
def test_usage_adds_up_to_reconciliation_and_invoice(
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
        for charge in reconciliation:
            if charge.meter:
                by_plan[charge.subscription_id] -= charge.subtotal
            formula = usage_subtotal if charge.meter else licence_subtotal
            assert charge.subtotal == formula(
                charge.effective_unit_price, charge.quantity, charge.exchange_rate
            )
        assert set(by_plan.values()) == {Decimal(0)}
        assert invoice_total(reconciliation) == sum(
            charge.subtotal + charge.tax for charge in reconciliation
        )


def test_usage_line_amount_is_within_a_cent_of_formula() -> None:
    customers = customers_of(Partner(currencies=("EUR",)), 7)
    for line in usage_lines(7, customers, Period(MONTH, "EUR", MONTH.last)):
        assert abs(
            line.billing_total - line.effective_unit_price * line.quantity * line.exchange_rate
        ) < Decimal("0.02")


def test_corrections_add_lines_but_keep_total() -> None:
    customers, period = customers_of(Partner(), 7), Period(MONTH, "USD", MONTH.last)
    before, after = usage_lines(7, customers, period), usage_lines(7, customers, period, Changes(2))
    assert len(after) == len(before) + 4
    assert sum(line.billing_total for line in after) == sum(line.billing_total for line in before)


def test_reconciliation_contains_all_kinds_of_charges() -> None:
    simulator = Simulator(
        storage=NoStorage(),
        clock=FakeClock.at("2026-11-21"),
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


def test_data_depends_only_on_seed() -> None:
    def digests(seed: int) -> list[str]:
        simulator = Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"), seed=seed)
        return [
            blob.sha256 for key in simulator.export_keys() for blob in simulator.expected(key).blobs
        ]

    assert digests(7) == digests(7)
    assert not set(digests(7)) & set(digests(8))


def test_fill_creates_different_blobs_of_requested_size() -> None:
    simulator = Simulator(storage=NoStorage(), clock=FakeClock.at("2026-11-21"))
    key = simulator.export_keys()[0]
    for blob_bytes in (4 << 10, 64 << 10, 1 << 20):
        expected = simulator.fill(key, blobs=5, blob_bytes=blob_bytes)
        assert all(abs(blob.size - blob_bytes) < blob_bytes * 0.05 for blob in expected.blobs)
        assert len({blob.sha256 for blob in expected.blobs}) == 5
        for blob in expected.blobs:
            lines = [json.loads(line) for line in gzip.decompress(blob.content).splitlines()]
            number = int(blob.name.split("-")[1])
            assert [line["Line"] for line in lines] == [
                f"{number}-{row}" for row in range(blob.rows)
            ]
