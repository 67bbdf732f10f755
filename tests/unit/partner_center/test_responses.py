"""Parsers accept every documented format of an invoice and report what they cannot parse."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CATALOGUE, BillingExportError
from shared.http.response import HttpResponse
from shared.invoices import Invoice, InvoiceList, LeftOut
from shared.partner_center.responses import merge_pages, parse_invoice_page
from tests.unit.partner_center.fake_partner_center import invoice


def parse_items(*items: Any, **members: Any) -> InvoiceList:
    return merge_pages(
        [
            parse_invoice_page(
                create_response({"totalCount": len(items), "items": list(items), **members})
            )
        ]
    )


def create_response(document: Any, status: int = 200, wait: int | None = None) -> HttpResponse:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return HttpResponse(status, "application/json", None, wait, "r-1", body)


def test_parse_invoice_page_with_documented_example_returns_invoice() -> None:
    assert parse_items(invoice()).invoices == (
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
    ("value", "expected"),
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
def test_parse_invoice_page_accepts_spellings_of_document_type(value: Any, expected: str) -> None:
    assert parse_items(invoice(documentType=value)).invoices[0].document_type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Recurring", "recurring"),
        ("recurring", "recurring"),
        ("OneTime", "one_time"),
        ("one_time", "one_time"),
        (None, ""),
    ],
)
def test_parse_invoice_page_accepts_spellings_of_invoice_type(value: Any, expected: str) -> None:
    assert parse_items(invoice(invoiceType=value)).invoices[0].invoice_type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
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
def test_parse_invoice_page_parses_dates(value: Any, expected: datetime | None) -> None:
    assert parse_items(invoice(invoiceDate=value)).invoices[0].issued == expected


def test_parse_invoice_page_parses_optional_period() -> None:
    assert parse_items(invoice()).invoices[0].period_start is None
    periods = invoice(
        billingPeriodStartDate="2026-10-01T00:00:00Z", billingPeriodEndDate="2026-10-31T00:00:00Z"
    )
    assert parse_items(periods).invoices[0].period_start == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
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
        ("0E-20", "0"),
        ("-0", "0"),
        ('"1_000"', None),
        ("[]", None),
        ("0." + "1" * 41, None),
        ("1." + "0" * 30_000, None),
    ],
)
def test_parse_invoice_page_parses_amount_as_decimal(value: str, expected: str | None) -> None:
    body = json.dumps({"items": [invoice(totalCharges="HERE")]}).replace('"HERE"', value).encode()
    total = merge_pages([parse_invoice_page(create_response(body))]).invoices[0].total
    assert total == (None if expected is None else Decimal(expected)) and not isinstance(
        total, float
    )


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
def test_parse_invoice_page_reports_unreadable_items_and_keeps_others(item: Any) -> None:
    result = parse_items(item, invoice("G016907412"))
    assert [invoice.invoice_id for invoice in result.invoices] == ["G016907412"]
    assert [invoice.code for invoice in result.left_out] == ["invoice_unreadable"]
    assert "sig" not in repr(result)


def test_parse_invoice_page_without_currency_returns_empty_string() -> None:
    assert parse_items(invoice(currencyCode=None)).invoices[0].currency == ""
    assert parse_items(invoice(currencyCode="eur")).invoices[0].currency == "EUR"


def test_merge_pages_with_empty_list_reports_it() -> None:
    assert parse_items() == InvoiceList((), (LeftOut(code="invoice_list_empty"),))


def test_merge_pages_reports_duplicate_only_if_it_differs() -> None:
    assert parse_items(invoice(), invoice()) == parse_items(invoice())
    result = parse_items(invoice(), invoice(totalCharges=1), invoice(totalCharges=2))
    assert [invoice.total for invoice in result.invoices] == [Decimal("1234.5")]
    assert result.left_out == (LeftOut(code="invoice_duplicate", invoice_id="G016907411"),)


@pytest.mark.parametrize("is_short_first", [True, False])
def test_merge_pages_uses_the_most_complete_entry_of_an_invoice(is_short_first: bool) -> None:
    """A voided invoice contains its amendment without date, total and currency."""
    short = {"id": "G016907412", "amendsOf": "G016907411"}
    voided = invoice(documentType="void_note", amendments=[short])
    full = invoice("G016907412", documentType="adjustment_note", totalCharges=0)
    result = parse_items(*([voided, full] if is_short_first else [full, voided]))
    assert result.left_out == ()
    invoices = {invoice.invoice_id: invoice for invoice in result.invoices}
    assert invoices["G016907412"] == Invoice(
        "G016907412",
        issued=datetime(2026, 11, 8, 7, 13, tzinfo=UTC),
        currency="USD",
        total=Decimal(0),
        document_type="adjustment_note",
        invoice_type="recurring",
        amends="G016907411",
    )
    assert invoices["G016907411"].amended_by == "G016907412"


def test_merge_pages_completes_an_entry_with_the_values_of_the_others() -> None:
    result = parse_items(
        invoice(totalCharges=None), invoice(currencyCode=None, invoiceType=None, totalCharges=7)
    )
    assert [(each.currency, each.total, each.invoice_type) for each in result.invoices] == [
        ("USD", Decimal(7), "recurring")
    ]
    assert result.left_out == ()


@pytest.mark.parametrize("invoice_id", ["D040001QXR", "d040001qxr"])
def test_parse_invoice_page_accepts_legacy_ids_with_letters(invoice_id: str) -> None:
    result = parse_items(invoice(invoice_id))
    assert result.left_out == ()
    assert [(each.invoice_id, each.legacy) for each in result.invoices] == [("D040001QXR", True)]


def test_merge_pages_links_amended_and_amending_invoice() -> None:
    result = parse_items(
        invoice("G2", amendsOf="G016907411") | {"id": "G016907412"},
        invoice(documentType="void_note"),
    )
    new, old = result.invoices
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


def test_parse_invoice_page_returns_nested_amendment_as_invoice() -> None:
    result = parse_items(
        invoice(documentType="void_note", amendments=[invoice("G016907412", totalCharges=1200)])
    )
    assert [
        (invoice.invoice_id, invoice.amends, invoice.amended_by) for invoice in result.invoices
    ] == [
        ("G016907411", "", "G016907412"),
        ("G016907412", "G016907411", ""),
    ]


def test_parse_invoice_page_limits_depth_of_amendments() -> None:
    deep = invoice()
    for number in range(40):
        deep = invoice(f"G01690{number:04}", amendments=[deep])
    assert len(parse_items(deep).invoices) == 6


def test_parse_invoice_page_marks_legacy_invoices() -> None:
    assert [
        invoice.legacy for invoice in parse_items(invoice("D016907411"), invoice()).invoices
    ] == [True, False]


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
def test_parse_invoice_page_with_transient_status_raises_error_with_wait(
    status: int, body: Any, wait: int | None, code: str, seconds: int | None
) -> None:
    with pytest.raises(BillingExportError) as raised:
        parse_invoice_page(create_response(body, status, wait))
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
def test_parse_invoice_page_with_client_error_raises_refused(status: int, code: str) -> None:
    with pytest.raises(BillingExportError) as raised:
        parse_invoice_page(create_response({"statusCode": status, "message": "SENTINEL"}, status))
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
        b'{"items": null, "totalCount": null}',
        b'{"items": null, "totalCount": 1}',
        b'{"totalCount": 1}',
        b"{}",
        b"[" * 100_000,
    ],
)
def test_parse_invoice_page_without_list_raises_malformed(document: bytes) -> None:
    with pytest.raises(BillingExportError) as raised:
        parse_invoice_page(create_response(document))
    assert raised.value.code == "partner_center_malformed"


@pytest.mark.parametrize("document", [{"items": None, "totalCount": 0}, {"totalCount": 0}])
def test_parse_invoice_page_without_invoices_accepts_null_items(document: dict[str, Any]) -> None:
    page = parse_invoice_page(create_response({**document, "links": None}))
    assert (page.entries, page.total, page.has_next) == ((), 0, False)


@pytest.mark.parametrize(
    "member",
    [
        "invoiceDate",
        "currencyCode",
        "totalCharges",
        "documentType",
        "invoiceType",
        "amendsOf",
        "amendments",
        "billingPeriodStartDate",
    ],
)
def test_parse_invoice_page_treats_null_as_absent(member: str) -> None:
    full = invoice(amendsOf="G016907410")
    absent = {name: value for name, value in full.items() if name != member}
    assert parse_items({**full, member: None}) == parse_items(absent)


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
def test_parse_invoice_page_with_any_json_returns_list_or_malformed(document: Any) -> None:
    try:
        result = merge_pages([parse_invoice_page(create_response(document))])
    except BillingExportError as error:
        assert error.code == "partner_center_malformed"
        return
    assert all(invoice.code in CATALOGUE for invoice in result.left_out)
    assert len({invoice.invoice_id for invoice in result.invoices}) == len(result.invoices)
