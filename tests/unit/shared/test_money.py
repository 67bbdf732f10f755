"""Amounts and the smallest units of currencies."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import (
    MAX_DECIMAL_DIGITS,
    MAX_INTEGER_DIGITS,
    OVERRIDES,
    format_amount,
    get_smallest_unit,
    parse_amount,
)


@pytest.mark.parametrize(
    "text", ["0", "-0", "0.000", "0E-20", "0E-30", "0e999999999999999999999", ".0", "0.", " +0 "]
)
def test_parse_amount_every_form_of_zero_is_the_same_zero(text: str) -> None:
    amount = parse_amount(text)
    assert amount is not None and amount.as_tuple() == Decimal(0).as_tuple()


@pytest.mark.parametrize(
    "text", ["", "NaN", "Infinity", "1_000", "1,5", "٣", "1e", "--1", "1 2", ".", "1e999999999999"]
)
def test_parse_amount_other_text_is_none(text: str) -> None:
    assert parse_amount(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-30", "1e-30"),
        ("1e-31", None),
        ("9" * MAX_INTEGER_DIGITS, "9" * MAX_INTEGER_DIGITS),
        ("9" * (MAX_INTEGER_DIGITS + 1), None),
        ("1." + "0" * 200, "1"),
        ("1." + "1" * 200, None),
        ("1e19", "1e19"),
        ("1e20", None),
    ],
)
def test_parse_amount_is_exact_within_its_limits(text: str, expected: str | None) -> None:
    assert parse_amount(text) == (None if expected is None else Decimal(expected))


@given(
    st.decimals(
        -(10**MAX_INTEGER_DIGITS) + 1,
        10**MAX_INTEGER_DIGITS - 1,
        places=MAX_DECIMAL_DIGITS,
        allow_nan=False,
    ),
    st.sampled_from(["USD", "JPY", "BHD"]),
)
def test_format_amount_result_is_read_as_the_same_amount(amount: Decimal, currency: str) -> None:
    text = format_amount(amount, currency)
    assert parse_amount(text) == amount and "E" not in text


@pytest.mark.parametrize(
    ("currency", "unit"),
    [
        ("USD", "0.01"),
        ("EUR", "0.01"),
        ("JPY", "1"),
        ("KRW", "1"),
        ("BHD", "0.001"),
        ("BGN", "0.01"),  # withdrawn, but its invoices remain
        ("XXX", "0.01"),  # ISO 4217 defines no unit
        ("ZZZ", "0.01"),
        ("", "0.01"),
    ],
)
def test_get_smallest_unit_is_that_of_iso_4217(currency: str, unit: str) -> None:
    assert get_smallest_unit(currency) == Decimal(unit)


def test_overrides_are_only_what_the_library_lacks() -> None:
    from iso4217 import Currency, __published__

    listed = {currency.code: currency.exponent for currency in Currency}
    for code, override in OVERRIDES.items():
        assert listed.get(code) != override.decimals, f"remove the override of {code}"
        assert override.since <= __published__
