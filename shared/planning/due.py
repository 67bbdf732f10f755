"""What a cycle asks for, and within which limits: settings, invoices and what ran before in, export keys out. Pure.

    unbilled   each month of EXPORT_PERIODS x currency x attribute set: every cycle
    billed     each invoice of the look-back: every cycle up to the day it settles on, weekly after that

Billed keys come first, as Microsoft gives them priority (graph-partner-billing, 6). Landed never means not due: a billed
file can be partial at first and is restated for weeks. A settled invoice whose last run failed is due at once.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypeVar

from shared.exports import (
    BillingMonth,
    Dataset,
    ExportKey,
    Family,
    InvoiceScope,
    MonthScope,
    period_word,
)
from shared.invoices import Invoice, InvoiceList, LeftOut, settles_on, why_left_out
from shared.messages import FAILED_OUTCOMES, LaneLimits, Limits
from shared.settings import Settings

T = TypeVar("T")

MAX_ROUNDS, MAX_CONCURRENT_PAGES = 3, 4
SPREAD_SECONDS = 120
WEEK = timedelta(days=7)
TICK_TOLERANCE = timedelta(hours=1)  # a tick may be served late, and the one a week later in time
FRESH_WITHIN = timedelta(
    days=3
)  # usage normally needs one day (graph-partner-billing, 6); a weekend is not a stall

Finality = Literal["open", "provisional", "final"]


@dataclass(frozen=True)
class KnownKey:
    """What the catalogue says of a key: when its data settle, None where unknown, and its newest run that ended."""

    settles_on: date | None = None
    started: datetime | None = None
    outcome: str = ""


@dataclass(frozen=True)
class NotDue:
    """A settled key that is not asked for in this cycle, and from when on it is again."""

    key: ExportKey
    next_due_at: datetime


@dataclass(frozen=True)
class Due:
    keys: tuple[ExportKey, ...]
    not_due: tuple[NotDue, ...]
    left_out: tuple[LeftOut, ...]


def select_due(
    settings: Settings, now: datetime, listed: InvoiceList, known: Mapping[str, KnownKey]
) -> Due:
    """All that is due at `now`, each key once; what of the invoice list is left out is named. `known`: by export key."""
    this_month = BillingMonth.of(now)
    recent = [
        invoice
        for invoice in listed.invoices
        if is_recent(invoice, this_month, settings.invoice_lookback_months)
    ]
    currencies, left_out = _currencies(settings, recent), list(listed.left_out)
    keys, not_due = dict[ExportKey, None](), list[NotDue]()
    if _datasets(settings, billed=True):
        left_out += [reason for invoice in recent if (reason := why_left_out(invoice))]
    for key, invoice in _billed(settings, recent):
        again = next_due_at(
            invoice, known.get(str(key), KnownKey()), settings.invoice_settle_days, now
        )
        if again is None:
            keys[key] = None
        elif key not in keys:
            not_due.append(NotDue(key, again))
    if _datasets(settings, billed=False) and not currencies:
        left_out.append(LeftOut(code="currencies_unknown"))
    keys |= dict.fromkeys(_unbilled(settings, this_month, currencies))
    return Due(tuple(keys), tuple(not_due), tuple(dict.fromkeys(left_out)))


def next_due_at(
    invoice: Invoice, known: KnownKey, settle_days: int, now: datetime
) -> datetime | None:
    """None: the invoice's key is due now. Without a date it settles so many days after it first landed, as the catalogue says."""
    settled_on = settles_on(invoice.issued, settle_days) or known.settles_on
    if (
        settled_on is None
        or now.astimezone(UTC).date() <= settled_on
        or known.outcome in FAILED_OUTCOMES
    ):
        return None
    if known.started is None or now - known.started >= WEEK - TICK_TOLERANCE:
        return None
    return known.started + WEEK


def is_recent(invoice: Invoice, this_month: BillingMonth, lookback_months: int) -> bool:
    """Issued this month or in one of the `lookback_months` before it; an invoice without a date always is."""
    first = this_month
    for _ in range(lookback_months):
        first = first.previous()
    return invoice.issued is None or BillingMonth.of(invoice.issued) >= first


def _currencies(settings: Settings, recent: Sequence[Invoice]) -> tuple[str, ...]:
    """As set, else those of the invoices, in their order; legacy invoices say nothing of new commerce."""
    learned = (invoice.currency for invoice in recent if invoice.currency and not invoice.legacy)
    return settings.export_currencies or tuple(dict.fromkeys(learned))


def _billed(settings: Settings, invoices: Sequence[Invoice]) -> Iterator[tuple[ExportKey, Invoice]]:
    for invoice in invoices:
        if why_left_out(invoice) is None:
            for dataset in _datasets(settings, billed=True):
                for attribute_set in settings.export_attribute_sets:
                    yield (
                        ExportKey(dataset, InvoiceScope(invoice.invoice_id), attribute_set),
                        invoice,
                    )


def _unbilled(
    settings: Settings, this_month: BillingMonth, currencies: Sequence[str]
) -> Iterator[ExportKey]:
    months = {"current": this_month, "last": this_month.previous()}
    for period in settings.export_periods:
        for currency in currencies:
            for dataset in _datasets(settings, billed=False):
                for attribute_set in settings.export_attribute_sets:
                    yield ExportKey(dataset, MonthScope(months[period], currency), attribute_set)


def _datasets(settings: Settings, *, billed: bool) -> Sequence[Dataset]:
    return [dataset for dataset in settings.export_datasets if dataset.billed is billed]


def export_request(key: ExportKey, now: datetime) -> dict[str, Any]:
    """The request to Microsoft Graph that a run of this key would begin with: path below the base URL, and body.

    >>> export_request(ExportKey.parse("billed_usage/G016907411/full"), datetime(2026, 11, 8, tzinfo=UTC))["path"]
    '/reports/partners/billing/usage/billed/microsoft.graph.partners.billing.export'
    """
    family = "usage" if key.dataset.family is Family.USAGE else "reconciliation"
    state = "billed" if key.dataset.billed else "unbilled"
    body: dict[str, Any] = {"attributeSet": key.attribute_set.value}
    match key.scope:
        case InvoiceScope(invoice_id):
            body["invoiceId"] = invoice_id
        case MonthScope(month, currency):
            body |= {"billingPeriod": period_word(month, now), "currencyCode": currency}
    path = f"/reports/partners/billing/{family}/{state}/microsoft.graph.partners.billing.export"
    return {"method": "POST", "path": path, "body": body}


def finality(key: ExportKey, settles: str, now: datetime) -> Finality:
    """How much an answer on this key may still change: an unbilled month is open, an invoice final from `settles` (a date) on."""
    if not key.dataset.billed:
        return "open"
    return (
        "final"
        if settles and now.astimezone(UTC).date() >= date.fromisoformat(settles)
        else "provisional"
    )


def stalled_since(key: ExportKey, created: datetime | None, now: datetime) -> datetime | None:
    """Since when the current month's unbilled data have not moved; None where they move, or where nothing is to be expected.

    `created`: the age of the newest data landed, from its version row; None = nothing landed yet. It is no failure: the
    newest unbilled usage may not show until the month before is billed (graph-partner-billing, 6).
    """
    if not isinstance(key.scope, MonthScope) or key.scope.month != BillingMonth.of(now):
        return None
    moved = created or key.scope.month.start() + timedelta(
        days=1
    )  # of a month's first day nothing is there before the second
    return moved if now - moved > FRESH_WITHIN else None


def start_offset_seconds(key: ExportKey) -> int:
    """Seconds behind the tick, 0 to 119, always the same for a key: not everything asks Microsoft at once."""
    return int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:4], "big") % SPREAD_SECONDS


def lanes(items: Sequence[T], width: int) -> list[list[T]]:
    """Dealt round-robin into at most `width` lanes, none empty.

    >>> lanes([1, 2, 3, 4, 5], 2), lanes([], 4)
    ([[1, 3, 5], [2, 4]], [])
    """
    return [list(items[lane::width]) for lane in range(min(width, len(items)))]


def lane_limits(settings: Settings) -> LaneLimits:
    return {
        "deadline_hours": settings.run_deadline_hours,
        "max_rounds": MAX_ROUNDS,
        "max_concurrent_pages": MAX_CONCURRENT_PAGES,
    }


def run_limits(settings: Settings, start: datetime) -> Limits:
    """The limits of a run that starts now; a run of a cycle gets its deadline from its lane."""
    return {
        "deadline": (start + timedelta(hours=settings.run_deadline_hours)).isoformat(),
        "max_rounds": MAX_ROUNDS,
        "max_concurrent_pages": MAX_CONCURRENT_PAGES,
    }
