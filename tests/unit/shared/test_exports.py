"""The words for what can be exported: read and written back, and refused where they are none."""

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
def test_a_key_is_read_back_as_written(key: ExportKey) -> None:
    assert ExportKey.parse(str(key)) == key
    assert str(ExportKey.parse(str(key))) == str(key)


@given(export_keys, export_keys)
def test_two_keys_have_two_texts(one: ExportKey, other: ExportKey) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [*Dataset, *AttributeSet, "2026-11", "USD", "G016907411", "", "2026-13", "usd"]
        ),
        max_size=5,
    ).map("/".join)
)
def test_any_other_text_is_malformed_and_quoted_at_40_characters_at_most(text: str) -> None:
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
def test_malformed_keys(text: str) -> None:
    with pytest.raises(InvalidValueError):
        ExportKey.parse(text)


def test_a_scope_goes_with_its_kind_of_dataset_only() -> None:
    with pytest.raises(InvalidValueError, match="an invoice_id"):
        ExportKey(Dataset.BILLED_USAGE, MonthScope(BillingMonth(2026, 11), "USD"))
    with pytest.raises(InvalidValueError, match="a billing_month and a currency_code"):
        ExportKey(Dataset.UNBILLED_USAGE, InvoiceScope("G016907411"))


@pytest.mark.parametrize(
    ("text", "read"),
    [("g016907411", "G016907411"), ("D123456", "D123456"), ("G" + "9" * 15, "G" + "9" * 15)],
)
def test_invoice_ids(text: str, read: str) -> None:
    assert parse_invoice_id(text) == read


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
def test_no_invoice_ids(text: str) -> None:
    with pytest.raises(InvalidValueError, match="invoice_id must be"):
        parse_invoice_id(text)


@pytest.mark.parametrize("text", ["", "US", "USDD", "U1D", "$US", "uſd", "ＵＳＤ", "USD\n", "ıSD"])
def test_no_currencies(text: str) -> None:
    with pytest.raises(InvalidValueError, match="currency_code must be"):
        parse_currency(text)


def test_what_is_malformed_says_what_is_expected() -> None:
    for parse, word in (
        (parse_dataset, "unbilled_reconciliation"),
        (parse_attribute_set, "full or basic"),
    ):
        with pytest.raises(InvalidValueError, match=word):
            parse("nonsense")
    with pytest.raises(InvalidValueError, match="yyyy-mm"):
        BillingMonth.parse("11/2026")
    assert parse_currency("eur") == "EUR"


def test_families_and_kinds() -> None:
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
def test_no_months(text: str) -> None:
    with pytest.raises(InvalidValueError):
        BillingMonth.parse(text)


@given(months)
def test_months_go_forth_and_back(month: BillingMonth) -> None:
    assert BillingMonth.parse(str(month)) == month
    assert month.next().previous() == month.previous().next() == month
    assert month.previous() < month < month.next()
    assert BillingMonth.of(month.start()) == month
    assert BillingMonth.of(month.start() - timedelta(microseconds=1)) == month.previous()
    assert BillingMonth.of(month.next().start() - timedelta(microseconds=1)) == month


@given(months, st.datetimes(datetime(2001, 1, 1), datetime(2098, 1, 1)))
def test_only_this_month_and_the_last_are_served(month: BillingMonth, moment: datetime) -> None:
    this = BillingMonth.of(moment.replace(tzinfo=UTC))
    expected = "current" if month == this else "last" if month.next() == this else None
    assert period_word(month, moment.replace(tzinfo=UTC)) == expected


@pytest.mark.parametrize(
    ("month", "now", "word"),
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
def test_the_word_around_the_ends_of_months_and_years(
    month: str, now: str, word: str | None
) -> None:
    assert period_word(BillingMonth.parse(month), datetime.fromisoformat(now)) == word


def test_a_month_is_that_of_utc() -> None:
    east = timezone(timedelta(hours=14))
    assert BillingMonth.of(datetime(2026, 12, 1, 13, 59, tzinfo=east)) == BillingMonth(2026, 11)
    assert BillingMonth.of(datetime(2026, 12, 1, 14, 0, tzinfo=east)) == BillingMonth(2026, 12)
