"""The due keys of a cycle: order, schedule for settled invoices, lanes and start times."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import parse_iso
from shared.exports import (
    BillingMonth,
    Dataset,
    ExportKey,
    InvalidValueError,
    InvoiceScope,
    MonthScope,
)
from shared.invoices import Invoice, InvoiceList, LeftOut, is_plan_complete
from shared.planning.due import (
    SPREAD_SECONDS,
    KnownKey,
    export_request,
    finality,
    is_recent,
    lane_limits,
    lanes,
    next_due_at,
    run_limits,
    select_due,
    stalled_since,
    start_offset_seconds,
)
from shared.settings import Settings, load_settings
from tests.support.settings import AZURE

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
FULL = "full"


def settings(**changes: str) -> Settings:
    return load_settings(AZURE | {"EXPORT_CURRENCIES": "USD,EUR"} | changes)


def invoice(
    number: int = 1, issued: str | None = "2026-11-08T07:13:00Z", kind: str = "G", **kwargs: str
) -> Invoice:
    return Invoice(
        f"{kind}01690741{number}",
        issued=parse_iso(issued) if issued else None,
        currency=kwargs.get("currency", "USD"),
        total=Decimal(10),
        document_type=kwargs.get("document_type", "invoice"),
    )


def keys(
    *invoices: Invoice,
    now: datetime = NOW,
    known: dict[str, KnownKey] | None = None,
    **changes: str,
) -> list[str]:
    return [
        str(key)
        for key in select_due(settings(**changes), now, InvoiceList(invoices), known or {}).keys
    ]


def left_out(*invoices: Invoice, **changes: str) -> list[LeftOut]:
    return list(select_due(settings(**changes), NOW, InvoiceList(invoices), {}).left_out)


def test_select_due_returns_billed_keys_first() -> None:
    assert keys(invoice(1), invoice(2)) == [
        "billed_usage/G016907411/full",
        "billed_reconciliation/G016907411/full",
        "billed_usage/G016907412/full",
        "billed_reconciliation/G016907412/full",
        "unbilled_usage/2026-11/USD/full",
        "unbilled_reconciliation/2026-11/USD/full",
        "unbilled_usage/2026-11/EUR/full",
        "unbilled_reconciliation/2026-11/EUR/full",
        "unbilled_usage/2026-10/USD/full",
        "unbilled_reconciliation/2026-10/USD/full",
        "unbilled_usage/2026-10/EUR/full",
        "unbilled_reconciliation/2026-10/EUR/full",
    ]


@pytest.mark.parametrize(
    ("now", "months"),
    [
        ("2026-12-31T23:59:59Z", {"2026-12", "2026-11"}),
        ("2027-01-01T00:00:00Z", {"2027-01", "2026-12"}),
        ("2026-03-01T00:30:00+01:00", {"2026-02", "2026-01"}),
    ],
)
def test_select_due_at_month_and_year_boundaries_returns_two_months(
    now: str, months: set[str]
) -> None:
    assert {
        key.split("/")[1] for key in keys(now=parse_iso(now)) if key.startswith("unbilled")
    } == months


def test_select_due_with_duplicates_returns_each_key_once() -> None:
    unique_keys = keys(
        invoice(1),
        invoice(1),
        EXPORT_CURRENCIES="USD,usd",
        EXPORT_PERIODS="current,current",
        EXPORT_DATASETS="billed_usage,unbilled_usage,billed_usage",
        EXPORT_ATTRIBUTE_SETS="full,full,basic",
    )
    assert unique_keys == [
        "billed_usage/G016907411/full",
        "billed_usage/G016907411/basic",
        "unbilled_usage/2026-11/USD/full",
        "unbilled_usage/2026-11/USD/basic",
    ]


def test_select_due_returns_only_configured_keys() -> None:
    assert keys(EXPORT_CURRENCIES="") == []
    assert keys(invoice(1), EXPORT_DATASETS="billed_usage", EXPORT_CURRENCIES="") == [
        "billed_usage/G016907411/full"
    ]
    assert keys(EXPORT_DATASETS="unbilled_usage", EXPORT_PERIODS="last") == [
        "unbilled_usage/2026-10/USD/full",
        "unbilled_usage/2026-10/EUR/full",
    ]


def test_select_due_without_currencies_uses_those_of_recent_new_commerce_invoices() -> None:
    listed = (
        invoice(1, currency="EUR"),
        invoice(2, currency="CHF", document_type="void_note"),
        invoice(3, kind="D", currency="NOK"),
        invoice(4, "2020-01-08T07:13:00Z", currency="SEK"),
        invoice(5, currency=""),
        invoice(6, currency="EUR"),
    )
    unbilled = [
        key
        for key in keys(*listed, EXPORT_CURRENCIES="", EXPORT_PERIODS="current")
        if key.startswith("unbilled_usage")
    ]
    assert unbilled == ["unbilled_usage/2026-11/EUR/full", "unbilled_usage/2026-11/CHF/full"]


def test_select_due_without_any_currency_reports_currencies_unknown() -> None:
    assert left_out(EXPORT_CURRENCIES="") == [LeftOut("currencies_unknown")]
    assert left_out(EXPORT_CURRENCIES="", EXPORT_DATASETS="billed_usage") == []


@pytest.mark.parametrize(
    ("listed", "code"),
    [
        (invoice(kind="D"), "invoice_legacy"),
        (invoice(document_type="void_note"), "invoice_voided"),
        (invoice(kind="E"), "invoice_unknown_kind"),
    ],
)
def test_select_due_reports_each_excluded_invoice(listed: Invoice, code: str) -> None:
    assert left_out(listed) == [LeftOut(code, listed.invoice_id)]
    assert not [key for key in keys(listed) if key.startswith("billed")]
    assert left_out(listed, EXPORT_DATASETS="unbilled_usage") == []


@pytest.mark.parametrize("invoice_id", ["T016907411", "D040001QXR", "G016907411"])
def test_select_due_requests_every_invoice_that_is_listed_manually(invoice_id: str) -> None:
    requested = Invoice(
        invoice_id,
        issued=parse_iso("2020-01-08T07:13:00Z"),
        document_type="void_note",
        is_requested=True,
    )
    assert f"billed_usage/{invoice_id}/full" in keys(requested)
    assert left_out(requested) == []


@pytest.mark.parametrize(
    ("issued", "codes"),
    [
        ("2020-01-08T07:13:00Z", []),
        ("2026-11-08T07:13:00Z", ["invoice_legacy", "invoice_unreadable"]),
        (None, ["invoice_legacy", "invoice_unreadable"]),
    ],
)
def test_select_due_reports_exclusions_only_in_the_lookback_period(
    issued: str | None, codes: list[str]
) -> None:
    moment = parse_iso(issued) if issued else None
    unreadable = LeftOut("invoice_unreadable", "G01", moment)
    listed = InvoiceList((Invoice("D040001QXR", issued=moment),), (unreadable,))
    due = select_due(settings(), NOW, listed, {})
    assert sorted(item.code for item in due.left_out) == codes


@pytest.mark.parametrize(
    ("changes", "incomplete"),
    [
        ({}, {"billed_usage", "billed_reconciliation"}),
        ({"EXPORT_CURRENCIES": ""}, set(Dataset)),
        ({"EXPORT_DATASETS": "unbilled_usage"}, set()),
    ],
)
def test_select_due_without_invoice_list_reports_incomplete_datasets(
    changes: dict[str, str], incomplete: set[str]
) -> None:
    rejected = InvoiceList((), (LeftOut("partner_center_unauthorized"),), complete=False)
    due = select_due(settings(**changes), NOW, rejected, {})
    assert due.incomplete == incomplete
    assert is_plan_complete(due.left_out) is not bool(incomplete)
    # Unbilled data is requested for the configured currencies.
    expected = 0 if "EXPORT_CURRENCIES" in changes else 4 if changes else 8
    assert len(due.keys) == expected


@pytest.mark.parametrize("document_type", ["adjustment_note", "credit_note", "invoice"])
def test_select_due_includes_adjustment_and_credit_notes(document_type: str) -> None:
    assert (
        len([key for key in keys(invoice(document_type=document_type)) if key.startswith("billed")])
        == 2
    )


def test_select_due_reports_each_invoice_list_problem_once() -> None:
    listed = InvoiceList((), (LeftOut("invoice_list_empty"), LeftOut("invoice_list_empty")))
    assert select_due(settings(), NOW, listed, {}).left_out == (LeftOut("invoice_list_empty"),)


@pytest.mark.parametrize(
    ("issued", "now", "recent"),
    [
        ("2026-08-01T00:00:00Z", "2026-11-30", True),
        ("2026-07-31T23:59:59Z", "2026-11-01", False),
        ("2026-10-08T07:13:00Z", "2027-01-31", True),
        ("2026-09-30T23:59:00Z", "2027-01-01", False),
        (None, "2027-01-01", True),
        ("2027-02-08T07:13:00Z", "2027-01-01", True),
    ],
)
def test_is_recent_lookback_starts_on_first_day_of_month(
    issued: str | None, now: str, recent: bool
) -> None:
    assert is_recent(invoice(issued=issued), BillingMonth.of(parse_iso(now)), 3) is recent


@pytest.mark.parametrize(
    ("now", "started_at", "outcome", "next_due"),
    [
        # The invoice settles on 29 November, which is the last day of the daily schedule.
        ("2026-11-29T05:00:00Z", "2026-11-28T05:00:00Z", "landed", None),
        ("2026-11-30T05:00:00Z", "2026-11-29T05:00:00Z", "unchanged", "2026-12-06T05:00:00Z"),
        ("2026-12-05T05:00:00Z", "2026-11-29T05:00:00Z", "unchanged", "2026-12-06T05:00:00Z"),
        ("2026-12-06T05:00:00Z", "2026-11-29T05:00:00Z", "unchanged", None),
        # The previous run started 9 seconds late.
        ("2026-12-06T05:00:00Z", "2026-11-29T05:00:09Z", "unchanged", None),
        ("2026-12-31T05:00:00Z", "2026-12-27T05:00:00Z", "no_data", "2027-01-03T05:00:00Z"),
        ("2027-01-03T05:00:00Z", "2026-12-27T05:00:00Z", "no_data", None),
        ("2026-12-01T05:00:00Z", "2026-11-30T05:00:00Z", "failed", None),
        ("2026-12-01T05:00:00Z", "2026-11-30T05:00:00Z", "timed_out", None),
        ("2026-12-01T05:00:00Z", "2026-11-30T05:00:00Z", "incomplete", None),
        ("2026-12-01T05:00:00Z", None, "", None),
    ],
)
def test_next_due_at_is_weekly_after_settling_unless_last_run_failed(
    now: str, started_at: str | None, outcome: str, next_due: str | None
) -> None:
    known = KnownKey(None, parse_iso(started_at) if started_at else None, outcome)
    assert next_due_at(invoice(), known, 21, parse_iso(now)) == (
        parse_iso(next_due) if next_due else None
    )


def test_next_due_at_of_damaged_key_is_now() -> None:
    started_at, now = parse_iso("2026-11-29T05:00:00Z"), parse_iso("2026-11-30T05:00:00Z")
    intact = KnownKey(None, started_at, "unchanged")
    assert next_due_at(invoice(), intact, 21, now) == parse_iso("2026-12-06T05:00:00Z")
    assert next_due_at(invoice(), replace(intact, is_damaged=True), 21, now) is None


def test_next_due_at_of_invoice_without_date_uses_settlement_date_of_key() -> None:
    undated_invoice, started_at = invoice(issued=None), parse_iso("2026-12-30T05:00:00Z")
    assert (
        next_due_at(
            undated_invoice,
            KnownKey(None, started_at, "no_data"),
            21,
            parse_iso("2026-12-31T05:00:00Z"),
        )
        is None
    )
    settled_key = KnownKey(date(2026, 12, 29), started_at, "unchanged")
    assert next_due_at(
        undated_invoice, settled_key, 21, parse_iso("2026-12-31T05:00:00Z")
    ) == parse_iso("2027-01-06T05:00:00Z")


def test_select_due_reports_settled_key_as_not_due() -> None:
    old = invoice(1, "2026-10-08T07:13:00Z")
    known = {
        "billed_usage/G016907411/full": KnownKey(
            None, parse_iso("2026-11-20T05:00:00Z"), "unchanged"
        )
    }
    due = select_due(settings(), NOW, InvoiceList((old,)), known)
    assert [str(key) for key in due.keys][:1] == ["billed_reconciliation/G016907411/full"]
    assert [(str(item.key), item.next_due_at) for item in due.not_due] == [
        ("billed_usage/G016907411/full", parse_iso("2026-11-27T05:00:00Z"))
    ]


def test_select_due_of_invoice_is_daily_until_settled_then_weekly_in_lookback() -> None:
    listed, known, requested = invoice(), dict[str, KnownKey](), list[date]()
    for day in range(200):
        # The first day is 8 November at 05:00. The invoice is listed at 07:13.
        now = NOW + timedelta(days=day - 13)
        if listed.issued is None or listed.issued > now:
            continue
        if "billed_usage/G016907411/full" in keys(listed, now=now, known=known):
            requested.append(now.date())
            known["billed_usage/G016907411/full"] = KnownKey(None, now, "unchanged")
    first, settled_on, last = date(2026, 11, 9), date(2026, 11, 29), date(2027, 2, 28)
    daily = [first + timedelta(days=day) for day in range((settled_on - first).days + 1)]
    weekly = [
        settled_on + timedelta(days=7 * week)
        for week in range(1, 99)
        if settled_on + timedelta(days=7 * week) <= last
    ]
    assert requested == daily + weekly


@pytest.mark.parametrize(
    ("key", "settles", "now", "expected"),
    [
        ("unbilled_usage/2026-11/USD/full", "", NOW, "open"),
        ("billed_usage/G016907411/full", "2026-11-29", NOW, "provisional"),
        (
            "billed_usage/G016907411/full",
            "2026-11-22",
            parse_iso("2026-11-21T23:59:59Z"),
            "provisional",
        ),
        ("billed_usage/G016907411/full", "2026-11-22", parse_iso("2026-11-22T00:00:00Z"), "final"),
        ("billed_usage/G016907411/full", "", NOW, "provisional"),
    ],
)
def test_finality_is_open_provisional_or_final(
    key: str, settles: str, now: datetime, expected: str
) -> None:
    assert finality(ExportKey.parse(key), settles, now) == expected


@pytest.mark.parametrize(
    ("key", "created", "now", "stalled"),
    [
        ("unbilled_usage/2026-11/USD/full", "2026-11-20T00:35:00Z", "2026-11-21T05:00:00Z", None),
        ("unbilled_usage/2026-11/USD/full", "2026-11-18T05:00:00Z", "2026-11-21T05:00:00Z", None),
        (
            "unbilled_usage/2026-11/USD/full",
            "2026-11-18T04:59:59Z",
            "2026-11-21T05:00:00Z",
            "2026-11-18T04:59:59Z",
        ),
        # A closed month does not change.
        ("unbilled_usage/2026-10/USD/full", "2026-11-01T00:35:00Z", "2026-11-21T05:00:00Z", None),
        ("unbilled_usage/2026-11/USD/full", None, "2026-11-04T05:00:00Z", None),
        ("unbilled_usage/2026-11/USD/full", None, "2026-11-05T05:00:00Z", "2026-11-02T00:00:00Z"),
        ("unbilled_usage/2027-01/USD/full", None, "2027-01-01T05:00:00Z", None),
        ("billed_usage/G016907411/full", "2026-01-01T00:00:00Z", "2026-11-21T05:00:00Z", None),
    ],
)
def test_stalled_since_returns_time_of_last_data_or_none(
    key: str, created: str | None, now: str, stalled: str | None
) -> None:
    result = stalled_since(
        ExportKey.parse(key), parse_iso(created) if created else None, parse_iso(now)
    )
    assert result == (parse_iso(stalled) if stalled else None)


def test_export_request_returns_method_path_and_body() -> None:
    assert export_request(
        ExportKey.parse("unbilled_reconciliation/2026-12/EUR/basic"),
        parse_iso("2027-01-05T00:00:00Z"),
    ) == {
        "method": "POST",
        "path": "/reports/partners/billing/reconciliation/unbilled/"
        "microsoft.graph.partners.billing.export",
        "body": {"attributeSet": "basic", "billingPeriod": "last", "currencyCode": "EUR"},
    }


LETTERS = st.sampled_from("GDEX")
INVOICES = st.builds(
    invoice,
    st.integers(0, 9),
    st.sampled_from([None, "2026-11-08T07:13:00Z", "2026-12-08T07:13:00Z", "2024-01-08T07:13:00Z"]),
    LETTERS,
    document_type=st.sampled_from(["invoice", "void_note", "credit_note"]),
    currency=st.sampled_from(["", "USD", "EUR"]),
)


@given(
    st.lists(INVOICES, max_size=8),
    st.datetimes(datetime(2026, 10, 1), datetime(2027, 3, 1), timezones=st.just(UTC)),
)
def test_select_due_of_any_list_returns_unique_new_commerce_keys(
    listed: list[Invoice], now: datetime
) -> None:
    due_keys = keys(*listed, now=now, EXPORT_CURRENCIES="")
    assert len(due_keys) == len(set(due_keys))
    assert all(key.split("/")[1].startswith("G") for key in due_keys if key.startswith("billed"))
    assert [key.startswith("unbilled") for key in due_keys] == sorted(
        key.startswith("unbilled") for key in due_keys
    )


@given(st.lists(st.integers()), st.integers(1, 40))
def test_lanes_contain_each_item_once(items: list[int], width: int) -> None:
    result_lanes = lanes(items, width)
    assert len(result_lanes) <= width and all(result_lanes)
    assert sorted(item for lane in result_lanes for item in lane) == sorted(items)
    assert [lane[0] for lane in result_lanes] == items[: len(result_lanes)]
    assert not result_lanes or max(map(len, result_lanes)) - min(map(len, result_lanes)) <= 1


def test_start_offset_seconds_is_stable_and_evenly_distributed() -> None:
    keys = [
        ExportKey(Dataset.BILLED_USAGE, InvoiceScope(f"G{number:09}")) for number in range(2_000)
    ]
    offsets = [start_offset_seconds(key) for key in keys]
    assert (
        min(offsets) == 0
        and max(offsets) == SPREAD_SECONDS - 1
        and offsets == [start_offset_seconds(key) for key in keys]
    )
    quarters = Counter(seconds // 30 for seconds in offsets)
    assert all(400 < count < 600 for count in quarters.values())
    month = MonthScope(BillingMonth(2026, 11), "USD")
    # The offset is the same in each process.
    assert start_offset_seconds(ExportKey(Dataset.UNBILLED_USAGE, month)) == 1


def test_run_limits_and_lane_limits_follow_settings() -> None:
    app_settings = settings(RUN_DEADLINE_HOURS="1.5")
    limits = run_limits(app_settings, NOW)
    assert parse_iso(limits["deadline"]) == NOW + timedelta(hours=1.5)
    assert {**lane_limits(app_settings), "deadline": limits["deadline"]} == {
        **limits,
        "deadline_hours": 1.5,
    }
    assert (limits["max_rounds"], limits["max_concurrent_pages"]) == (3, 4)


def test_export_key_parse_with_scope_of_other_kind_raises() -> None:
    with pytest.raises(InvalidValueError):
        ExportKey.parse("billed_usage/2026-11/USD/full")
