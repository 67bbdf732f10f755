"""What a backfill asks for, and what is missing: months x datasets in, keys and states out. Pure.

landed         a version of it is in the catalogue
no_data        asked for, and Microsoft had nothing
not_served     not served any more: unbilled months before the last one, billed months before the first one served
failed         the newest run of it failed
never_tried    nobody has asked for it, or its invoice is not known
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.exports import AttributeSet, BillingMonth, Dataset, ExportKey, InvoiceScope, MonthScope
from shared.invoices import Invoice, month_of, why_left_out
from shared.messages import FAILED_OUTCOMES

State = Literal["landed", "no_data", "not_served", "failed", "never_tried"]
WORST_FIRST: tuple[State, ...] = ("failed", "never_tried", "no_data", "not_served", "landed")

FIRST_SERVED = BillingMonth(
    2022, 9
)  # billed usage; of reconciliation no depth is known (graph-partner-billing, 6)
MOST_MONTHS = 120


@dataclass(frozen=True)
class KeyState:
    """`version` "" = nothing landed; `outcome` and `code` are of the newest run that ended, "" where there was none."""

    version: str = ""
    outcome: str = ""
    code: str = ""


@dataclass(frozen=True)
class Scopes:
    """What the months can be asked by: invoices as far as they are known, currencies, attribute sets."""

    invoices: Sequence[Invoice]
    currencies: Sequence[str]
    attribute_sets: Sequence[AttributeSet]


@dataclass(frozen=True)
class Gap:
    """One dataset in one month; `keys` are its keys and the state of each, none where its invoice is not known."""

    dataset: Dataset
    month: BillingMonth
    state: State
    keys: tuple[tuple[ExportKey, State, str], ...]


def months_between(first: BillingMonth, last: BillingMonth) -> list[BillingMonth]:
    """Both included; empty where `last` is before `first`.

    >>> [str(month) for month in months_between(BillingMonth(2026, 11), BillingMonth(2027, 1))]
    ['2026-11', '2026-12', '2027-01']
    """
    months: list[BillingMonth] = []
    while first <= last and len(months) <= MOST_MONTHS:
        months.append(first)
        first = first.next()
    return months


def is_served(dataset: Dataset, month: BillingMonth, this_month: BillingMonth) -> bool:
    """Whether asking makes sense: unbilled data are served for this month and the last, billed ones from FIRST_SERVED on."""
    if dataset.billed:
        return FIRST_SERVED <= month <= this_month
    return month in (this_month, this_month.previous())


def keys_of(dataset: Dataset, month: BillingMonth, scopes: Scopes) -> list[ExportKey]:
    """Every key of a dataset in a month. An invoice whose month is not known belongs to none."""
    if dataset.billed:
        ids = [
            invoice.invoice_id
            for invoice in scopes.invoices
            if month_of(invoice) == month and why_left_out(invoice) is None
        ]
        return [
            ExportKey(dataset, InvoiceScope(one), attributes)
            for one in ids
            for attributes in scopes.attribute_sets
        ]
    return [
        ExportKey(dataset, MonthScope(month, currency), attributes)
        for currency in scopes.currencies
        for attributes in scopes.attribute_sets
    ]


def undated_keys(datasets: Iterable[Dataset], scopes: Scopes) -> list[ExportKey]:
    """Of invoices that were named by hand, so that no month is known: a backfill asks for them whatever its months are."""
    return [
        ExportKey(dataset, InvoiceScope(invoice.invoice_id), attributes)
        for dataset in datasets
        if dataset.billed
        for invoice in scopes.invoices
        if month_of(invoice) is None and why_left_out(invoice) is None
        for attributes in scopes.attribute_sets
    ]


def state_of(key: ExportKey, known: Mapping[str, KeyState], *, served: bool) -> State:
    said = known.get(str(key), KeyState())
    if said.version:
        return "landed"
    if said.outcome in FAILED_OUTCOMES:
        return "failed" if served else "not_served"
    if not served:
        return "not_served"
    return "no_data" if said.outcome == "no_data" else "never_tried"


def gaps(
    months: Sequence[BillingMonth],
    datasets: Sequence[Dataset],
    scopes: Scopes,
    known: Mapping[str, KeyState],
    this_month: BillingMonth,
) -> list[Gap]:
    """Per dataset and month, in this order; the state of a month is the worst of its keys."""
    found = []
    for dataset in datasets:
        for month in months:
            served = is_served(dataset, month, this_month)
            keys = tuple(
                (key, state_of(key, known, served=served), known.get(str(key), KeyState()).code)
                for key in keys_of(dataset, month, scopes)
            )
            worst: State = "never_tried" if served else "not_served"
            if keys:
                worst = min((state for _, state, _ in keys), key=WORST_FIRST.index)
            found.append(Gap(dataset, month, worst, keys))
    return found


def missing(
    months: Sequence[BillingMonth],
    datasets: Sequence[Dataset],
    scopes: Scopes,
    known: Mapping[str, KeyState],
    this_month: BillingMonth,
) -> tuple[list[ExportKey], dict[str, int]]:
    """What a backfill has to ask for, billed keys first, and how many keys need no request because of which state."""
    wanted, settled = dict[ExportKey, None](), dict[str, int]()
    stated = [
        (key, state)
        for gap in gaps(months, datasets, scopes, known, this_month)
        for key, state, _ in gap.keys
    ]
    stated += [(key, state_of(key, known, served=True)) for key in undated_keys(datasets, scopes)]
    for key, state in stated:
        if state in ("landed", "not_served"):
            settled[state] = settled.get(state, 0) + 1
        else:
            wanted[key] = None
    return sorted(wanted, key=lambda key: not key.dataset.billed), settled
