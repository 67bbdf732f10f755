"""What can be exported: dataset, scope, billing month, export key.

billed_usage/G016907411/full            dataset / invoice / attribute set
unbilled_usage/2026-11/USD/full         dataset / billing month / currency / attribute set
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

INVOICE_ID = re.compile(r"[A-Z][0-9][A-Z0-9]{5,14}")
CURRENCY_CODE = re.compile(r"[A-Z]{3}")
MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


class InvalidValueError(ValueError):
    """An invalid value.

    The message states the field, the expected form and the value, shortened.
    """


def quote_start(text: str) -> str:
    """Return the start of an invalid value for a message, with at most 60 characters.

    >>> quote_start("usage"), len(quote_start(40 * chr(1)))
    ("'usage'", 60)
    """
    quoted = repr(text[:40])
    return quoted if len(quoted) <= 60 else f"{quoted[:56]}...'"


class AttributeSet(StrEnum):
    """`full` has every documented column, `basic` a subset.

    Source: Microsoft Learn, Graph resource "attributeSet".
    """

    FULL = "full"
    BASIC = "basic"


class Family(StrEnum):
    """Daily rated Azure usage, or the lines of all products, which add up to the invoice."""

    USAGE = "usage"
    RECONCILIATION = "reconciliation"


class Dataset(StrEnum):
    """The four exports of Microsoft Graph."""

    BILLED_USAGE = "billed_usage"
    UNBILLED_USAGE = "unbilled_usage"
    BILLED_RECONCILIATION = "billed_reconciliation"
    UNBILLED_RECONCILIATION = "unbilled_reconciliation"

    @property
    def billed(self) -> bool:
        """Whether the scope is an invoice; otherwise, it is a month and a currency."""
        return not self.value.startswith("unbilled")

    @property
    def family(self) -> Family:
        return Family(self.value.rpartition("_")[2])


@dataclass(frozen=True, order=True)
class BillingMonth:
    """A calendar month in UTC: the billing period of new commerce.

    >>> str(BillingMonth(2026, 11)), BillingMonth(2026, 1).previous()
    ('2026-11', BillingMonth(year=2025, month=12))
    """

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @classmethod
    def parse(cls, text: str) -> "BillingMonth":
        if not (found := MONTH.fullmatch(text)):
            raise InvalidValueError(f"billing_month must be yyyy-mm, not {quote_start(text)}")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, moment: datetime) -> "BillingMonth":
        """Return the month of an aware time, in UTC."""
        moment = moment.astimezone(UTC)
        return cls(moment.year, moment.month)

    def previous(self) -> "BillingMonth":
        return (
            BillingMonth(self.year - 1, 12)
            if self.month == 1
            else BillingMonth(self.year, self.month - 1)
        )

    def next(self) -> "BillingMonth":
        return (
            BillingMonth(self.year + 1, 1)
            if self.month == 12
            else BillingMonth(self.year, self.month + 1)
        )

    def start(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)


@dataclass(frozen=True)
class InvoiceScope:
    invoice_id: str

    def __str__(self) -> str:
        return self.invoice_id


@dataclass(frozen=True)
class MonthScope:
    month: BillingMonth
    currency: str

    def __str__(self) -> str:
        return f"{self.month}/{self.currency}"


Scope = InvoiceScope | MonthScope


@dataclass(frozen=True)
class ExportKey:
    """What a run lands. Each key has at most one active run.

    The path, the lock and the run ID are derived from the key.

    >>> ExportKey.parse("unbilled_usage/2026-11/USD/full").scope
    MonthScope(month=BillingMonth(year=2026, month=11), currency='USD')
    >>> str(ExportKey(Dataset.BILLED_USAGE, InvoiceScope("G016907411")))
    'billed_usage/G016907411/full'
    """

    dataset: Dataset
    scope: Scope
    attribute_set: AttributeSet = AttributeSet.FULL

    def __post_init__(self) -> None:
        if self.dataset.billed != isinstance(self.scope, InvoiceScope):
            required = (
                "an invoice_id" if self.dataset.billed else "a billing_month and a currency_code"
            )
            raise InvalidValueError(f"{self.dataset} requires {required}")

    def __str__(self) -> str:
        return f"{self.dataset}/{self.scope}/{self.attribute_set}"

    @classmethod
    def parse(cls, text: str) -> "ExportKey":
        match text.split("/"):
            case [dataset, invoice, attribute_set]:
                return cls(
                    parse_dataset(dataset),
                    InvoiceScope(parse_invoice_id(invoice)),
                    parse_attribute_set(attribute_set),
                )
            case [dataset, month, currency, attribute_set]:
                scope = MonthScope(BillingMonth.parse(month), parse_currency(currency))
                return cls(parse_dataset(dataset), scope, parse_attribute_set(attribute_set))
        raise InvalidValueError(f"an export key must have 3 or 4 parts, not {quote_start(text)}")


def parse_dataset(text: str) -> Dataset:
    try:
        return Dataset(text)
    except ValueError:
        raise InvalidValueError(
            f"dataset must be one of {', '.join(Dataset)}, not {quote_start(text)}"
        ) from None


def parse_attribute_set(text: str) -> AttributeSet:
    try:
        return AttributeSet(text)
    except ValueError:
        raise InvalidValueError(
            f"attribute_set must be full or basic, not {quote_start(text)}"
        ) from None


def parse_invoice_id(text: str) -> str:
    """Return the invoice ID in upper case: a letter, a digit, and 5 to 14 letters or digits.

    >>> parse_invoice_id("G016907411"), parse_invoice_id("d040001qxr")
    ('G016907411', 'D040001QXR')
    """
    # Some other letters, such as ſ, become A to Z in upper case.
    if not text.isascii() or not INVOICE_ID.fullmatch(text.upper()):
        raise InvalidValueError(
            "invoice_id must be a letter, a digit, and 5 to 14 letters or digits, "
            f"such as G016907411, not {quote_start(text)}"
        )
    return text.upper()


def parse_currency(text: str) -> str:
    """Return the currency code in upper case. Only its form is checked, not its existence."""
    if not text.isascii() or not CURRENCY_CODE.fullmatch(text.upper()):
        raise InvalidValueError(
            f"currency_code must be three letters, such as USD, not {quote_start(text)}"
        )
    return text.upper()


def period_word(month: BillingMonth, now: datetime) -> Literal["current", "last"] | None:
    """Return Graph's billing period for an unbilled month, or None if Graph does not serve it."""
    this_month = BillingMonth.of(now)
    if month == this_month:
        return "current"
    return "last" if month == this_month.previous() else None
