"""Which exports a cycle requests. Pure functions of settings, invoices and earlier runs.

    unbilled   each month of EXPORT_PERIODS x currency x attribute set: in every cycle
    billed     each invoice of the look-back period: in every cycle until it is settled, then weekly

Billed keys come first, because Microsoft gives them priority (Microsoft Learn, "Get invoice billed
and unbilled consumption"). A landed invoice is requested again, because billed files can be partial
at first and are restated for weeks. A settled invoice is due immediately if its newest run failed
or its newest version is damaged.
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
from shared.invoices import (
    Invoice,
    InvoiceList,
    LeftOut,
    is_plan_complete,
    settles_on,
    why_left_out,
)
from shared.messages import FAILED_OUTCOMES, LaneLimits, Limits
from shared.settings import Settings

T = TypeVar("T")

MAX_ROUNDS, MAX_CONCURRENT_PAGES = 3, 4
SPREAD_SECONDS = 120
WEEK = timedelta(days=7)
TICK_TOLERANCE = timedelta(hours=1)  # one tick can be late and the one a week later on time
# Usage normally appears after 24 hours (Microsoft Learn, "Partner billing API overview"). A weekend
# is not a stall.
MAX_DATA_AGE = timedelta(days=3)

Finality = Literal["open", "provisional", "final"]
PlanOutcome = Literal["complete", "incomplete"]


@dataclass(frozen=True)
class KnownKey:
    """What the catalogue contains for a key: settle date, if known, newest ended run, damage."""

    settles_on: date | None = None
    started: datetime | None = None
    outcome: str = ""
    is_damaged: bool = False


@dataclass(frozen=True)
class NotDue:
    """A settled key that this cycle does not request, and the time from which it is due again."""

    key: ExportKey
    next_due_at: datetime


@dataclass(frozen=True)
class Due:
    """The result of `select_due`.

    `left_out` contains what cannot be requested, with the reasons. Exports of the datasets in
    `incomplete` can be missing from `keys`, because the invoices or the currencies are not known.
    """

    keys: tuple[ExportKey, ...]
    not_due: tuple[NotDue, ...]
    left_out: tuple[LeftOut, ...]
    incomplete: frozenset[Dataset] = frozenset()


def select_due(
    settings: Settings, now: datetime, invoices: InvoiceList, known: Mapping[str, KnownKey]
) -> Due:
    """Return everything that is due at `now`, each key once.

    The keys of `known` are export keys.
    """
    this_month = BillingMonth.of(now)
    recent = [
        invoice
        for invoice in invoices.invoices
        if invoice.is_requested or is_recent(invoice, this_month, settings.invoice_lookback_months)
    ]
    currencies, left_out = _currencies(settings, recent), list[LeftOut]()
    keys, not_due = dict[ExportKey, None](), list[NotDue]()
    if _datasets(settings, billed=True) or not settings.export_currencies:  # both need the list
        left_out += [
            item
            for item in invoices.left_out
            if is_recent(item, this_month, settings.invoice_lookback_months)
        ]
    if _datasets(settings, billed=True):
        left_out += [reason for invoice in recent if (reason := why_left_out(invoice))]
    for key, invoice in _billed(settings, recent):
        due_at = next_due_at(
            invoice, known.get(str(key), KnownKey()), settings.invoice_settle_days, now
        )
        if due_at is None:
            keys[key] = None
        elif key not in keys:
            not_due.append(NotDue(key, due_at))
    if _datasets(settings, billed=False) and not currencies:
        left_out.append(LeftOut(code="currencies_unknown"))
    keys |= dict.fromkeys(_unbilled(settings, this_month, currencies))
    incomplete = frozenset(
        dataset
        for dataset in settings.export_datasets
        if not (invoices.complete if dataset.billed else currencies)
    )
    return Due(tuple(keys), tuple(not_due), tuple(dict.fromkeys(left_out)), incomplete)


def next_due_at(
    invoice: Invoice, known: KnownKey, settle_days: int, now: datetime
) -> datetime | None:
    """Return when the key of an invoice is due again, or None if it is due now.

    An invoice without a date settles `settle_days` after it landed, as the catalogue states.
    """
    settled_on = settles_on(invoice.issued, settle_days) or known.settles_on
    if (
        settled_on is None
        or now.astimezone(UTC).date() <= settled_on
        or known.outcome in FAILED_OUTCOMES
        or known.is_damaged
    ):
        return None
    if known.started is None or now - known.started >= WEEK - TICK_TOLERANCE:
        return None
    return known.started + WEEK


def is_recent(invoice: Invoice | LeftOut, this_month: BillingMonth, lookback_months: int) -> bool:
    """Return whether an invoice is in the look-back period. An invoice without a date always is."""
    first = this_month
    for _ in range(lookback_months):
        first = first.previous()
    return invoice.issued is None or BillingMonth.of(invoice.issued) >= first


def _currencies(settings: Settings, recent: Sequence[Invoice]) -> tuple[str, ...]:
    """Return the configured currencies, or those of the new-commerce invoices, in their order."""
    currencies = (invoice.currency for invoice in recent if invoice.currency and not invoice.legacy)
    return settings.export_currencies or tuple(dict.fromkeys(currencies))


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


def get_plan_outcome(outcomes: Mapping[str, int], left_out: Sequence[LeftOut]) -> PlanOutcome:
    """Return the outcome of a cycle or a backfill whose runs have ended, by number of runs.

    It is incomplete if a run failed, or if data can exist that the plan did not request.

    >>> get_plan_outcome({"landed": 2}, [LeftOut("invoice_legacy", "D016907411")])
    'complete'
    >>> get_plan_outcome({"landed": 2, "failed": 1}, []), get_plan_outcome(
    ...     {}, [LeftOut("partner_center_unauthorized")]
    ... )
    ('incomplete', 'incomplete')
    """
    has_failures = any(outcomes.get(name) for name in (*FAILED_OUTCOMES, "cancelled", "lost"))
    return "incomplete" if has_failures or not is_plan_complete(left_out) else "complete"


def export_request(key: ExportKey, now: datetime) -> dict[str, Any]:
    """Return the first request of a run of this key: method, path below the base URL, body.

    >>> key = ExportKey.parse("billed_usage/G016907411/full")
    >>> export_request(key, datetime(2026, 11, 8, tzinfo=UTC))["path"]
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
    """Return whether data can still change.

    An unbilled month is open. An invoice is final from the ISO date `settles`, if it is not "".
    """
    if not key.dataset.billed:
        return "open"
    return (
        "final"
        if settles and now.astimezone(UTC).date() >= date.fromisoformat(settles)
        else "provisional"
    )


def stalled_since(key: ExportKey, created: datetime | None, now: datetime) -> datetime | None:
    """Return since when the unbilled data of the current month has not changed, or None if it has.

    `created` is the creation time of the newest landed version, if there is one. A stall is not a
    failure: Microsoft can withhold the newest unbilled usage until the previous month is billed
    (Microsoft Learn, "Get invoice billed and unbilled consumption").
    """
    if not isinstance(key.scope, MonthScope) or key.scope.month != BillingMonth.of(now):
        return None
    # The usage of the first day of a month appears on the second day.
    changed = created or key.scope.month.start() + timedelta(days=1)
    return changed if now - changed > MAX_DATA_AGE else None


def start_offset_seconds(key: ExportKey) -> int:
    """Return how long after the tick a run starts: 0 to 119 s, always the same for a key.

    This spreads the requests to Microsoft over time.
    """
    return int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:4], "big") % SPREAD_SECONDS


def lanes(items: Sequence[T], width: int) -> list[list[T]]:
    """Distribute items over at most `width` lanes in turn. No lane is empty.

    >>> lanes([1, 2, 3, 4, 5], 2), lanes([], 4)
    ([[1, 3, 5], [2, 4]], [])
    """
    return [list(items[lane::width]) for lane in range(min(width, len(items)))]


def lane_limits(settings: Settings) -> LaneLimits:
    """Return the limits of the runs of a lane, without a deadline."""
    return {
        "deadline_hours": settings.run_deadline_hours,
        "max_rounds": MAX_ROUNDS,
        "max_concurrent_pages": MAX_CONCURRENT_PAGES,
    }


def run_limits(settings: Settings, start: datetime) -> Limits:
    """Return the limits of a run that starts at `start` and does not belong to a lane."""
    return {
        "deadline": (start + timedelta(hours=settings.run_deadline_hours)).isoformat(),
        "max_rounds": MAX_ROUNDS,
        "max_concurrent_pages": MAX_CONCURRENT_PAGES,
    }
