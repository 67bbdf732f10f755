"""Every form in which an invoice may be listed, and what is left out by name."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CATALOGUE, BillingExportError
from shared.invoices import Invoice, InvoiceList, LeftOut
from shared.partner_center.responses import PartnerCenterResponse, merge_pages, parse_invoice_page
from tests.unit.partner_center.scripted import invoice


def read(*items: Any, **members: Any) -> InvoiceList:
    return merge_pages(
        [parse_invoice_page(answer({"totalCount": len(items), "items": list(items), **members}))]
    )


def answer(document: Any, status: int = 200, wait: int | None = None) -> PartnerCenterResponse:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return PartnerCenterResponse(status, "application/json", wait, "r-1", body)


def test_an_invoice_as_the_examples_have_it() -> None:
    assert read(invoice()).invoices == (
        Invoice(
            "G016907411",
            issued=datetime(2026, 11, 8, 7, 13, tzinfo=UTC),
            currency="USD",
            total=Decimal("1234.5"),
            document_type="invoice",
            invoice_type="recurring",
        ),
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("invoice", "invoice"),
        ("Invoice", "invoice"),
        ("void_note", "void_note"),
        ("Void Note", "void_note"),
        ("VoidNote", "void_note"),
        ("adjustment_note", "adjustment_note"),
        ("Credit Note", "credit_note"),
        (None, "invoice"),
        (7, "invoice"),
        ("<b>", "invoice"),
    ],
)
def test_both_spellings_of_the_document_type(written: Any, said: str) -> None:
    assert read(invoice(documentType=written)).invoices[0].document_type == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Recurring", "recurring"),
        ("recurring", "recurring"),
        ("OneTime", "one_time"),
        ("one_time", "one_time"),
        (None, ""),
    ],
)
def test_both_spellings_of_the_invoice_type(written: Any, said: str) -> None:
    assert read(invoice(invoiceType=written)).invoices[0].invoice_type == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2026-11-08T07:13:00Z", datetime(2026, 11, 8, 7, 13, tzinfo=UTC)),
        ("2026-11-08T07:13:00", datetime(2026, 11, 8, 7, 13, tzinfo=UTC)),
        ("2026-11-08T07:13:00.1234567Z", datetime(2026, 11, 8, 7, 13, 0, 123456, tzinfo=UTC)),
        ("2026-11-08T01:13:00-06:00", datetime(2026, 11, 8, 7, 13, tzinfo=UTC)),
        ("2026-11-08", datetime(2026, 11, 8, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-10:00", None),
        ("soon", None),
        (20261108, None),
        (None, None),
    ],
)
def test_dates(written: Any, said: datetime | None) -> None:
    assert read(invoice(invoiceDate=written)).invoices[0].issued == said


def test_period_dates_where_they_are_there() -> None:
    assert read(invoice()).invoices[0].period_start is None
    periods = invoice(
        billingPeriodStartDate="2026-10-01T00:00:00Z", billingPeriodEndDate="2026-10-31T00:00:00Z"
    )
    assert read(periods).invoices[0].period_start == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1234.10", "1234.10"),
        ("0.1", "0.1"),
        ("1000000000000000", None),
        ("-12.34", "-12.34"),
        ("1234", "1234"),
        ('"1234.50"', "1234.50"),
        ("true", None),
        ("null", None),
        ('"a lot"', None),
        ("NaN", None),
        ("1e400", None),
        ("1e-2", "0.01"),
        ("[]", None),
        ("0." + "1" * 41, None),
        ("1." + "0" * 30_000, None),
    ],
)
def test_money_is_never_a_float(written: str, said: str | None) -> None:
    body = json.dumps({"items": [invoice(totalCharges="HERE")]}).replace('"HERE"', written).encode()
    total = merge_pages([parse_invoice_page(answer(body))]).invoices[0].total
    assert total == (None if said is None else Decimal(said)) and not isinstance(total, float)


@pytest.mark.parametrize(
    "item",
    [
        7,
        None,
        "G016907411",
        [],
        {},
        {"id": 7},
        {"id": "x"},
        invoice("G0169&sig=x"),
        invoice(currencyCode="DOLLAR"),
        invoice(currencyCode=7),
    ],
)
def test_what_cannot_be_read_is_named_and_leaves_the_others_alone(item: Any) -> None:
    found = read(item, invoice("G016907412"))
    assert [one.invoice_id for one in found.invoices] == ["G016907412"]
    assert [one.code for one in found.left_out] == ["invoice_unreadable"]
    assert "sig" not in repr(found)


def test_a_currency_that_is_not_given_is_not_known() -> None:
    assert read(invoice(currencyCode=None)).invoices[0].currency == ""
    assert read(invoice(currencyCode="eur")).invoices[0].currency == "EUR"


def test_an_empty_list_says_so() -> None:
    assert read() == InvoiceList((), (LeftOut(code="invoice_list_empty"),))


def test_a_duplicate_is_one_invoice_and_is_named_only_if_it_differs() -> None:
    assert read(invoice(), invoice()) == read(invoice())
    found = read(invoice(), invoice(totalCharges=1), invoice(totalCharges=2))
    assert [one.total for one in found.invoices] == [Decimal("1234.5")]
    assert found.left_out == (LeftOut(code="invoice_duplicate", invoice_id="G016907411"),)


def test_an_amended_invoice_and_the_one_that_replaces_it_know_each_other() -> None:
    found = read(
        invoice("G2", amendsOf="G016907411") | {"id": "G016907412"},
        invoice(documentType="void_note"),
    )
    new, old = found.invoices
    assert (new.invoice_id, new.amends, new.amended_by, new.voided) == (
        "G016907412",
        "G016907411",
        "",
        False,
    )
    assert (old.invoice_id, old.amends, old.amended_by, old.voided) == (
        "G016907411",
        "",
        "G016907412",
        True,
    )


def test_an_amendment_that_is_only_listed_inside_is_an_invoice_of_its_own() -> None:
    found = read(
        invoice(documentType="void_note", amendments=[invoice("G016907412", totalCharges=1200)])
    )
    assert [(one.invoice_id, one.amends, one.amended_by) for one in found.invoices] == [
        ("G016907411", "", "G016907412"),
        ("G016907412", "G016907411", ""),
    ]


def test_amendments_within_amendments_end_somewhere() -> None:
    deep = invoice()
    for number in range(40):
        deep = invoice(f"G01690{number:04}", amendments=[deep])
    assert len(read(deep).invoices) == 6


def test_legacy_invoices_are_known_by_their_letter() -> None:
    assert [one.legacy for one in read(invoice("D016907411"), invoice()).invoices] == [True, False]


@pytest.mark.parametrize(
    ("status", "body", "wait", "code", "seconds"),
    [
        (
            429,
            {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."},
            57,
            "partner_center_throttled",
            57,
        ),
        (
            429,
            {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."},
            None,
            "partner_center_throttled",
            57,
        ),
        (
            429,
            {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 57 seconds."},
            90,
            "partner_center_throttled",
            90,
        ),
        (429, b"", None, "partner_center_throttled", None),
        (500, b"<html>", 5, "partner_center_unavailable", 5),
        (503, b"", None, "partner_center_unavailable", None),
        (408, b"", None, "partner_center_unavailable", None),
        (302, b"", None, "partner_center_malformed", None),
    ],
)
def test_what_may_be_asked_again(
    status: int, body: Any, wait: int | None, code: str, seconds: int | None
) -> None:
    with pytest.raises(BillingExportError) as raised:
        parse_invoice_page(answer(body, status, wait))
    error = raised.value
    assert (error.code, error.request_id, getattr(error, "retry_after_seconds", "none")) == (
        code,
        "r-1",
        seconds,
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "partner_center_refused"),
        (401, "partner_center_unauthorized"),
        (403, "partner_center_forbidden"),
        (404, "partner_center_refused"),
    ],
)
def test_what_is_refused(status: int, code: str) -> None:
    with pytest.raises(BillingExportError) as raised:
        parse_invoice_page(answer({"statusCode": status, "message": "SENTINEL"}, status))
    assert (
        raised.value.code == code
        and not hasattr(raised.value, "retry_after_seconds")
        and "SENTINEL" not in str(raised.value)
    )


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        b'"items"',
        b'{"items": {}}',
        b'{"items": null}',
        b"{}",
        b"[" * 100_000,
    ],
)
def test_what_is_no_list_is_malformed(document: bytes) -> None:
    with pytest.raises(BillingExportError) as raised:
        parse_invoice_page(answer(document))
    assert raised.value.code == "partner_center_malformed"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["G016907411", "USD", "next"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "items",
                    "invoiceDate",
                    "totalCharges",
                    "currencyCode",
                    "documentType",
                    "amendments",
                    "amendsOf",
                    "links",
                    "next",
                    "uri",
                    "totalCount",
                    "billingPeriodStartDate",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_a_list_or_an_error_of_ours(document: Any) -> None:
    try:
        found = merge_pages([parse_invoice_page(answer(document))])
    except BillingExportError as error:
        assert error.code == "partner_center_malformed"
        return
    assert all(one.code in CATALOGUE for one in found.left_out)
    assert len({one.invoice_id for one in found.invoices}) == len(found.invoices)
