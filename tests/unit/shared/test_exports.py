"""Export keys, datasets, months and currencies: parsing, formatting and validation."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exports import (
    AttributeSet,
    BillingMonth,
    Dataset,
    ExportKey,
    Family,
    InvalidValueError,
    InvoiceScope,
    MonthScope,
    parse_attribute_set,
    parse_currency,
    parse_dataset,
    parse_invoice_id,
    period_word,
)
from tests.unit.shared.strategies import export_keys, months


@given(export_keys)
def test_export_key_parse_of_formatted_key_returns_the_key(key: ExportKey) -> None:
    assert ExportKey.parse(str(key)) == key
    assert str(ExportKey.parse(str(key))) == str(key)


@given(export_keys, export_keys)
def test_export_key_of_different_keys_has_different_strings(
    first: ExportKey, second: ExportKey
) -> None:
    assert (str(first) == str(second)) == (first == second)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [*Dataset, *AttributeSet, "2026-11", "USD", "G016907411", "", "2026-13", "usd"]
        ),
        max_size=5,
    ).map("/".join)
)
def test_export_key_parse_error_quotes_at_most_40_characters(text: str) -> None:
    try:
        key = ExportKey.parse(text)
    except InvalidValueError as error:
        assert (len(str(error)) < 40 * 10 and text[:41] not in str(error)) or len(text) <= 40
        return
    assert str(key).lower() == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "//",
        "///",
        "billed_usage",
        "billed_usage/G016907411",
        "billed_usage//full",
        "billed_usage/G016907411/full/",
        "/billed_usage/G016907411/full",
        "billed_usage/2026-11/USD/full",
        "unbilled_usage/G016907411/full",
        "unbilled_usage/2026-11/full",
        "unbilled_usage/2026-11/USD/full/x",
        "unbilled_usage/2026-11/USDX/full",
        "unbilled_usage/2026-1/USD/full",
        "unbilled_usage/current/USD/full",
        "Billed_Usage/G016907411/full",
        "billed_usage/G016907411/Full",
        "billed_usage/G016907411/all",
        "usage/G016907411/full",
        "billed_usage/G0169/full",
        "billed_usage/016907411/full",
        "billed_usage/GG16907411/full",
        "billed_usage/G016907411 /full",
        "billed_usage/G016907411\n/full",
        "billed_usage/G١٦٩٠٧٤١١/full",
        "unbilled_usage/٢٠٢٦-11/USD/full",
        "unbilled_usage/2026-11/uſd/full",
        "billed_usage/ſ016907411/full",
        "unbilled_usage/2026‐11/USD/full",
        "unbilled_usage/2026-11/U D/full",
        "unbilled_usage/2026-11/123/full",
    ],
)
def test_export_key_parse_invalid_string_raises(text: str) -> None:
    with pytest.raises(InvalidValueError):
        ExportKey.parse(text)


def test_export_key_with_scope_of_other_dataset_kind_raises() -> None:
    with pytest.raises(InvalidValueError, match="an invoice_id"):
        ExportKey(Dataset.BILLED_USAGE, MonthScope(BillingMonth(2026, 11), "USD"))
    with pytest.raises(InvalidValueError, match="a billing_month and a currency_code"):
        ExportKey(Dataset.UNBILLED_USAGE, InvoiceScope("G016907411"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("g016907411", "G016907411"), ("D123456", "D123456"), ("G" + "9" * 15, "G" + "9" * 15)],
)
def test_parse_invoice_id_valid_returns_uppercase_id(text: str, expected: str) -> None:
    assert parse_invoice_id(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "G",
        "G12345",
        "G" + "9" * 16,
        "12345678",
        "G12345 6",
        "G123456\n",
        "ſ123456",
        "Gⅷ23456",
        "G123４56",
    ],
)
def test_parse_invoice_id_invalid_raises(text: str) -> None:
    with pytest.raises(InvalidValueError, match="invoice_id must be"):
        parse_invoice_id(text)


@pytest.mark.parametrize("text", ["", "US", "USDD", "U1D", "$US", "uſd", "ＵＳＤ", "USD\n", "ıSD"])
def test_parse_currency_invalid_raises(text: str) -> None:
    with pytest.raises(InvalidValueError, match="currency_code must be"):
        parse_currency(text)


def test_parse_error_contains_the_expected_values() -> None:
    for parse, expected in (
        (parse_dataset, "unbilled_reconciliation"),
        (parse_attribute_set, "full or basic"),
    ):
        with pytest.raises(InvalidValueError, match=expected):
            parse("nonsense")
    with pytest.raises(InvalidValueError, match="yyyy-mm"):
        BillingMonth.parse("11/2026")
    assert parse_currency("eur") == "EUR"


def test_dataset_has_billed_and_family() -> None:
    assert {dataset.value: (dataset.billed, dataset.family) for dataset in Dataset} == {
        "billed_usage": (True, Family.USAGE),
        "unbilled_usage": (False, Family.USAGE),
        "billed_reconciliation": (True, Family.RECONCILIATION),
        "unbilled_reconciliation": (False, Family.RECONCILIATION),
    }


@pytest.mark.parametrize(
    "text",
    [
        "2026-00",
        "2026-13",
        "1999-12",
        "2100-01",
        "2026-1",
        "202611",
        "2026-11-01",
        " 2026-11",
        "2026-11\n",
        "",
    ],
)
def test_billing_month_parse_invalid_string_raises(text: str) -> None:
    with pytest.raises(InvalidValueError):
        BillingMonth.parse(text)


@given(months)
def test_billing_month_next_and_previous_are_inverse(month: BillingMonth) -> None:
    assert BillingMonth.parse(str(month)) == month
    assert month.next().previous() == month.previous().next() == month
    assert month.previous() < month < month.next()
    assert BillingMonth.of(month.start()) == month
    assert BillingMonth.of(month.start() - timedelta(microseconds=1)) == month.previous()
    assert BillingMonth.of(month.next().start() - timedelta(microseconds=1)) == month


@given(months, st.datetimes(datetime(2001, 1, 1), datetime(2098, 1, 1)))
def test_period_word_exists_only_for_current_and_last_month(
    month: BillingMonth, moment: datetime
) -> None:
    current_month = BillingMonth.of(moment.replace(tzinfo=UTC))
    period = (
        "current" if month == current_month else "last" if month.next() == current_month else None
    )
    assert period_word(month, moment.replace(tzinfo=UTC)) == period


@pytest.mark.parametrize(
    ("month", "now", "expected"),
    [
        ("2026-11", "2026-11-30T23:59:59.999999+00:00", "current"),
        ("2026-11", "2026-12-01T00:00:00+00:00", "last"),
        ("2026-11", "2026-12-31T23:59:59+00:00", "last"),
        ("2026-11", "2027-01-01T00:00:00+00:00", None),
        ("2026-12", "2027-01-01T00:00:00+00:00", "last"),
        ("2026-12", "2026-12-31T23:59:59+00:00", "current"),
        ("2027-01", "2026-12-31T23:59:59+00:00", None),
        ("2028-02", "2028-02-29T12:00:00+00:00", "current"),
        ("2026-11", "2026-12-01T01:00:00+02:00", "current"),
        ("2026-12", "2026-11-30T23:00:00-02:00", "current"),
    ],
)
def test_period_word_at_month_and_year_boundaries(
    month: str, now: str, expected: str | None
) -> None:
    assert period_word(BillingMonth.parse(month), datetime.fromisoformat(now)) == expected


def test_billing_month_of_uses_utc() -> None:
    east = timezone(timedelta(hours=14))
    assert BillingMonth.of(datetime(2026, 12, 1, 13, 59, tzinfo=east)) == BillingMonth(2026, 11)
    assert BillingMonth.of(datetime(2026, 12, 1, 14, 0, tzinfo=east)) == BillingMonth(2026, 12)
