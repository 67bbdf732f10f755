"""Gaps and backfills: the state of each dataset and month, and the missing keys."""

from typing import Any

import pytest

from shared.clock import parse_iso
from shared.exports import AttributeSet, BillingMonth, Dataset, ExportKey
from shared.invoices import (
    Invoice,
    InvoiceList,
    LeftOut,
    facts_of,
    invoice_of,
    month_of,
    row_of,
)
from shared.planning.gaps import (
    FIRST_SERVED,
    Gap,
    KeyState,
    Scopes,
    gaps,
    is_served,
    list_left_out,
    missing,
    months_between,
)

CURRENT_MONTH = BillingMonth(2027, 1)
INVOICES = (
    Invoice("G016907411", issued=parse_iso("2027-01-08T07:13:00Z"), currency="USD"),  # 2026-12
    Invoice("G016907412", issued=parse_iso("2026-12-08T07:13:00Z"), currency="USD"),  # 2026-11
    Invoice("G016907413", issued=parse_iso("2026-12-08T07:13:00Z"), currency="EUR"),
    Invoice("D016907414", issued=parse_iso("2026-12-08T07:13:00Z"), currency="USD"),
    Invoice("G016907415", issued=parse_iso("2026-12-08T07:13:00Z"), document_type="void_note"),
)
SCOPES = Scopes(INVOICES, ("USD", "EUR"), (AttributeSet.FULL,))
KNOWN = {
    "billed_usage/G016907411/full": KeyState("20270109T000000Z-1", "unchanged"),
    "billed_usage/G016907412/full": KeyState("", "failed", "graph_forbidden"),
    "billed_usage/G016907413/full": KeyState("20261209T000000Z-1", "failed", "graph_forbidden"),
    "unbilled_usage/2026-12/USD/full": KeyState("", "no_data"),
    "unbilled_usage/2026-11/USD/full": KeyState("20261130T000000Z-1", "landed"),
    "unbilled_usage/2026-11/EUR/full": KeyState("", "failed", "graph_forbidden"),
}


def month(text: str) -> BillingMonth:
    return BillingMonth.parse(text)


def report(dataset: Dataset, **kwargs: Any) -> dict[str, Any]:
    result = gaps(
        months_between(month("2026-10"), CURRENT_MONTH),
        [dataset],
        kwargs.get("scopes", SCOPES),
        KNOWN,
        CURRENT_MONTH,
    )
    return {
        str(gap.month): (gap.state, {str(key): state for key, state, _ in gap.keys})
        for gap in result
    }


def test_gaps_of_billed_dataset_use_months_of_invoices() -> None:
    assert report(Dataset.BILLED_USAGE) == {
        "2026-10": ("never_tried", {}),  # the invoice list has no invoice for this month
        "2026-11": (
            "failed",
            {"billed_usage/G016907412/full": "failed", "billed_usage/G016907413/full": "landed"},
        ),
        "2026-12": ("landed", {"billed_usage/G016907411/full": "landed"}),
        "2027-01": ("never_tried", {}),
    }


def test_gaps_of_unbilled_month_before_last_are_not_served_unless_landed() -> None:
    assert report(Dataset.UNBILLED_USAGE) == {
        "2026-10": (
            "not_served",
            {
                "unbilled_usage/2026-10/USD/full": "not_served",
                "unbilled_usage/2026-10/EUR/full": "not_served",
            },
        ),
        "2026-11": (
            "not_served",
            {
                "unbilled_usage/2026-11/USD/full": "landed",
                "unbilled_usage/2026-11/EUR/full": "not_served",
            },
        ),
        "2026-12": (
            "never_tried",
            {
                "unbilled_usage/2026-12/USD/full": "no_data",
                "unbilled_usage/2026-12/EUR/full": "never_tried",
            },
        ),
        "2027-01": (
            "never_tried",
            {
                "unbilled_usage/2027-01/USD/full": "never_tried",
                "unbilled_usage/2027-01/EUR/full": "never_tried",
            },
        ),
    }


def test_gaps_contain_the_error_code_of_failed_keys() -> None:
    [gap] = gaps([month("2026-11")], [Dataset.BILLED_USAGE], SCOPES, KNOWN, CURRENT_MONTH)
    assert gap == Gap(
        Dataset.BILLED_USAGE,
        month("2026-11"),
        "failed",
        (
            (ExportKey.parse("billed_usage/G016907412/full"), "failed", "graph_forbidden"),
            (ExportKey.parse("billed_usage/G016907413/full"), "landed", "graph_forbidden"),
        ),
    )


def test_missing_returns_served_keys_with_billed_keys_first() -> None:
    keys, settled = missing(
        months_between(month("2026-10"), CURRENT_MONTH),
        [Dataset.UNBILLED_USAGE, Dataset.BILLED_USAGE],
        SCOPES,
        KNOWN,
        CURRENT_MONTH,
    )
    assert [str(key) for key in keys] == [
        "billed_usage/G016907412/full",
        "unbilled_usage/2026-12/USD/full",
        "unbilled_usage/2026-12/EUR/full",
        "unbilled_usage/2027-01/USD/full",
        "unbilled_usage/2027-01/EUR/full",
    ]
    assert settled == {"landed": 3, "not_served": 3}


def test_missing_with_explicit_invoices_ignores_months() -> None:
    scopes = Scopes(
        (Invoice("G016907411"), Invoice("G016907419")), (), (AttributeSet.FULL, AttributeSet.BASIC)
    )
    keys, settled = missing(
        [month("2026-10")], [Dataset.BILLED_USAGE], scopes, KNOWN, CURRENT_MONTH
    )
    assert [str(key) for key in keys] == [
        "billed_usage/G016907411/basic",
        "billed_usage/G016907419/full",
        "billed_usage/G016907419/basic",
    ]
    assert settled == {"landed": 1}
    assert (
        gaps([month("2026-10")], [Dataset.BILLED_USAGE], scopes, KNOWN, CURRENT_MONTH)[0].keys == ()
    )


@pytest.mark.parametrize(
    ("dataset", "text", "served"),
    [
        (Dataset.BILLED_USAGE, "2022-08", False),
        (Dataset.BILLED_USAGE, "2022-09", True),
        (Dataset.BILLED_RECONCILIATION, "2026-12", True),
        (Dataset.UNBILLED_USAGE, "2027-01", True),
        (Dataset.UNBILLED_USAGE, "2026-12", True),
        (Dataset.UNBILLED_USAGE, "2026-11", False),
        (Dataset.UNBILLED_RECONCILIATION, "2027-02", False),
        (Dataset.BILLED_USAGE, "2027-02", False),
    ],
)
def test_is_served_for_dataset_and_month(dataset: Dataset, text: str, served: bool) -> None:
    assert is_served(dataset, month(text), CURRENT_MONTH) is served


def test_months_between_returns_all_months_of_the_range() -> None:
    assert [str(item) for item in months_between(month("2026-11"), month("2027-02"))] == [
        "2026-11",
        "2026-12",
        "2027-01",
        "2027-02",
    ]
    assert months_between(month("2027-01"), month("2026-12")) == []
    assert months_between(FIRST_SERVED, FIRST_SERVED) == [FIRST_SERVED]


@pytest.mark.parametrize(
    "listed",
    [
        *INVOICES,
        Invoice("G016907411"),
        Invoice(
            "G016907411",
            issued=parse_iso("2027-01-08T07:13:00Z"),
            currency="USD",
            document_type="credit_note",
            invoice_type="one_time",
            amends="G016907410",
            amended_by="G016907412",
            period_start=parse_iso("2026-12-01T00:00:00Z"),
        ),
    ],
)
def test_invoice_of_row_returns_the_listed_invoice(listed: Invoice) -> None:
    assert invoice_of(row_of(listed)) == listed
    assert invoice_of({"invoice_id": "G016907411", "total": "invalid"}) == Invoice("G016907411")


def test_month_of_uses_billing_period_or_issue_date() -> None:
    issued = parse_iso("2027-01-08T07:13:00Z")
    assert (
        month_of(Invoice("G1", issued=issued)) == month("2026-12")
        and month_of(Invoice("G1")) is None
    )
    assert month_of(
        Invoice("G1", issued=issued, period_start=parse_iso("2026-11-01T00:00:00Z"))
    ) == month("2026-11")


def test_facts_of_replaces_empty_strings_with_none() -> None:
    assert facts_of(Invoice("G016907411")) == {
        "date": None,
        "total": None,
        "currency": None,
        "type": "invoice",
        "amends": None,
    }


@pytest.mark.parametrize(
    ("datasets", "currencies", "codes"),
    [
        ([Dataset.BILLED_USAGE], [], {"invoice_legacy", "partner_center_forbidden"}),
        ([Dataset.UNBILLED_USAGE], ["USD"], set()),
        ([Dataset.UNBILLED_USAGE], [], {"currencies_unknown", "partner_center_forbidden"}),
    ],
)
def test_list_left_out_returns_what_the_months_and_datasets_concern(
    datasets: list[Dataset], currencies: list[str], codes: set[str]
) -> None:
    november = parse_iso("2026-11-08T07:13:00Z")
    listed = InvoiceList(
        (
            Invoice("D040001QXR", issued=november),
            Invoice("D040002QXR", issued=november.replace(year=2025)),
            Invoice("G016907411", issued=november),
        ),
        (LeftOut("partner_center_forbidden"),),
        complete=False,
    )
    scopes = Scopes(listed.invoices, currencies, [AttributeSet.FULL])
    left_out = list_left_out([BillingMonth(2026, 10)], datasets, scopes, listed)
    assert {item.code for item in left_out} == codes
    assert "D040002QXR" not in {item.invoice_id for item in left_out}
