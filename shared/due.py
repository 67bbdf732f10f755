"""What a cycle asks for, and within which limits: settings and invoices in, export keys out, billed ones first. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from shared.exports import BillingMonth, Dataset, ExportKey, InvoiceScope, MonthScope
from shared.messages import LaneLimits, Limits
from shared.settings import Settings

T = TypeVar("T")

ROUNDS, PAGES_IN_FLIGHT = 3, 4


def lane_limits(settings: Settings) -> LaneLimits:
    return {
        "deadline_hours": settings.run_deadline_hours, "rounds": ROUNDS, "pages_in_flight": PAGES_IN_FLIGHT,
        "poll_min_seconds": settings.poll_min_seconds}


def limits_until(settings: Settings, start: datetime) -> Limits:
    """The limits of a run that starts now; a run of a cycle gets its deadline from its lane."""
    return {
        "deadline": (start + timedelta(hours=settings.run_deadline_hours)).isoformat(), "rounds": ROUNDS,
        "pages_in_flight": PAGES_IN_FLIGHT, "poll_min_seconds": settings.poll_min_seconds}


def due_keys(settings: Settings, now: datetime) -> list[ExportKey]:
    """Every key that is due at `now`, once; billed ones first, as Microsoft gives them priority (graph-partner-billing, 6)."""
    return list(dict.fromkeys([*_billed(settings), *_unbilled(settings, BillingMonth.of(now))]))


def _billed(settings: Settings) -> Iterator[ExportKey]:
    if settings.invoice_source == "list":
        for invoice_id in settings.invoice_ids:
            for dataset in _datasets(settings, billed=True):
                for attribute_set in settings.export_attribute_sets:
                    yield ExportKey(dataset, InvoiceScope(invoice_id), attribute_set)


def _unbilled(settings: Settings, this_month: BillingMonth) -> Iterator[ExportKey]:
    months = {"current": this_month, "last": this_month.previous()}
    for period in settings.export_periods:
        for currency in settings.export_currencies:
            for dataset in _datasets(settings, billed=False):
                for attribute_set in settings.export_attribute_sets:
                    yield ExportKey(dataset, MonthScope(months[period], currency), attribute_set)


def _datasets(settings: Settings, *, billed: bool) -> Sequence[Dataset]:
    return [dataset for dataset in settings.export_datasets if dataset.billed is billed]


def lanes(items: Sequence[T], width: int) -> list[list[T]]:
    """Dealt round-robin into at most `width` lanes, none empty.

    >>> lanes([1, 2, 3, 4, 5], 2), lanes([], 4)
    ([[1, 3, 5], [2, 4]], [])
    """
    return [list(items[lane::width]) for lane in range(min(width, len(items)))]
