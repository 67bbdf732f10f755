"""Which data is missing for a range of months. Pure functions of months, datasets and states.

landed         the catalogue contains a version
no_data        it was requested, and Microsoft had no data
not_served     Microsoft does not serve it: unbilled data older than the previous month, or
billed data before `FIRST_SERVED`
failed         its newest run failed, or its newest version is damaged
never_tried    it has not been requested, or its invoice is not known
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.exports import AttributeSet, BillingMonth, Dataset, ExportKey, InvoiceScope, MonthScope
from shared.invoices import Invoice, InvoiceList, LeftOut, month_of, why_left_out
from shared.messages import FAILED_OUTCOMES

State = Literal["landed", "no_data", "not_served", "failed", "never_tried"]
WORST_FIRST: tuple[State, ...] = ("failed", "never_tried", "no_data", "not_served", "landed")

# Documented for billed usage (Microsoft Learn, "Get billed and unbilled daily rated usage
# reconciliation"); unknown for billed reconciliation.
FIRST_SERVED = BillingMonth(2022, 9)
MAX_MONTHS = 120


@dataclass(frozen=True)
class KeyState:
    """What the catalogue contains for a key; "" for what does not exist.

    `outcome` and `code` belong to the newest run that has ended.
    """

    version: str = ""
    outcome: str = ""
    code: str = ""


@dataclass(frozen=True)
class Scopes:
    """What exports can be requested for: known invoices, currencies, attribute sets."""

    invoices: Sequence[Invoice]
    currencies: Sequence[str]
    attribute_sets: Sequence[AttributeSet]


@dataclass(frozen=True)
class Gap:
    """One dataset in one month, with its keys, their states and codes.

    `keys` is empty if no invoice of the month is known.
    """

    dataset: Dataset
    month: BillingMonth
    state: State
    keys: tuple[tuple[ExportKey, State, str], ...]


def months_between(first: BillingMonth, last: BillingMonth) -> list[BillingMonth]:
    """Return the months from `first` to `last`, both included.

    >>> [str(month) for month in months_between(BillingMonth(2026, 11), BillingMonth(2027, 1))]
    ['2026-11', '2026-12', '2027-01']
    """
    months: list[BillingMonth] = []
    while first <= last and len(months) <= MAX_MONTHS:
        months.append(first)
        first = first.next()
    return months


def is_served(dataset: Dataset, month: BillingMonth, this_month: BillingMonth) -> bool:
    """Return whether Microsoft serves the dataset for this month."""
    if dataset.billed:
        return FIRST_SERVED <= month <= this_month
    return month in (this_month, this_month.previous())


def keys_of(dataset: Dataset, month: BillingMonth, scopes: Scopes) -> list[ExportKey]:
    """Return all keys of a dataset in a month. Invoices without a month are not included."""
    if dataset.billed:
        ids = [
            invoice.invoice_id
            for invoice in scopes.invoices
            if month_of(invoice) == month and why_left_out(invoice) is None
        ]
        return [
            ExportKey(dataset, InvoiceScope(invoice_id), attributes)
            for invoice_id in ids
            for attributes in scopes.attribute_sets
        ]
    return [
        ExportKey(dataset, MonthScope(month, currency), attributes)
        for currency in scopes.currencies
        for attributes in scopes.attribute_sets
    ]


def undated_keys(datasets: Iterable[Dataset], scopes: Scopes) -> list[ExportKey]:
    """Return the keys of invoices without a month: those that are configured by ID.

    Every backfill requests them, regardless of its months.
    """
    return [
        ExportKey(dataset, InvoiceScope(invoice.invoice_id), attributes)
        for dataset in datasets
        if dataset.billed
        for invoice in scopes.invoices
        if month_of(invoice) is None and why_left_out(invoice) is None
        for attributes in scopes.attribute_sets
    ]


def state_of(key: ExportKey, known: Mapping[str, KeyState], *, served: bool) -> State:
    """Return the state of a key. `served` is the result of `is_served`."""
    state = known.get(str(key), KeyState())
    if state.version:
        return "landed"
    if state.outcome in FAILED_OUTCOMES:
        return "failed" if served else "not_served"
    if not served:
        return "not_served"
    return "no_data" if state.outcome == "no_data" else "never_tried"


def gaps(
    months: Sequence[BillingMonth],
    datasets: Sequence[Dataset],
    scopes: Scopes,
    known: Mapping[str, KeyState],
    this_month: BillingMonth,
) -> list[Gap]:
    """Return one gap per dataset and month. Its state is the worst state of its keys."""
    result = []
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
            result.append(Gap(dataset, month, worst, keys))
    return result


def missing(
    months: Sequence[BillingMonth],
    datasets: Sequence[Dataset],
    scopes: Scopes,
    known: Mapping[str, KeyState],
    this_month: BillingMonth,
) -> tuple[list[ExportKey], dict[str, int]]:
    """Return the keys that a backfill requests, billed keys first.

    The second value is the number of keys that need no request, by state.
    """
    keys, settled = dict[ExportKey, None](), dict[str, int]()
    states = [
        (key, state)
        for gap in gaps(months, datasets, scopes, known, this_month)
        for key, state, _ in gap.keys
    ]
    states += [(key, state_of(key, known, served=True)) for key in undated_keys(datasets, scopes)]
    for key, state in states:
        if state in ("landed", "not_served"):
            settled[state] = settled.get(state, 0) + 1
        else:
            keys[key] = None
    return sorted(keys, key=lambda key: not key.dataset.billed), settled


def list_left_out(
    months: Sequence[BillingMonth],
    datasets: Iterable[Dataset],
    scopes: Scopes,
    invoices: InvoiceList,
) -> tuple[LeftOut, ...]:
    """Return what a backfill of these months cannot request, with the reasons, each once."""
    datasets = tuple(datasets)
    left_out = list[LeftOut]()
    if any(dataset.billed for dataset in datasets):
        left_out += invoices.left_out
        left_out += [
            reason
            for invoice in scopes.invoices
            if month_of(invoice) in (None, *months) and (reason := why_left_out(invoice))
        ]
    if not all(dataset.billed for dataset in datasets) and not scopes.currencies:
        left_out += [*invoices.left_out, LeftOut(code="currencies_unknown")]
    return tuple(dict.fromkeys(left_out))
