"""Amounts of money: how they are read, added and written, and the smallest unit of a currency.

All arithmetic is exact: an operation whose result does not fit raises an exception.
"""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal, DecimalException, DivisionByZero, Inexact, InvalidOperation
from decimal import Overflow as DecimalOverflow
from functools import cache

MAX_INTEGER_DIGITS, MAX_DECIMAL_DIGITS = 20, 30  # of one amount
MAX_CHARACTERS = 1_000
# Precise enough to add 10^25 such amounts.
EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, DecimalOverflow, DivisionByZero])
# A number of JSON. Decimal itself also accepts "NaN", "1_000" and the digits of other scripts.
NUMBER = re.compile(r"[+-]?(?P<digits>\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
NONZERO_DIGIT = re.compile("[1-9]")
DEFAULT_DECIMALS = 2  # of a currency for which ISO 4217 defines no smallest unit


@dataclass(frozen=True)
class CurrencyOverride:
    """The decimals of a currency where the ISO 4217 table of the library does not apply.

    `since` is the day from which the table differs, for example because the currency was withdrawn.
    Its invoices remain.
    """

    decimals: int
    since: date


OVERRIDES = {
    "HRK": CurrencyOverride(2, date(2023, 1, 1)),  # withdrawn: Croatia adopted the euro
    "BGN": CurrencyOverride(2, date(2026, 1, 1)),  # withdrawn: Bulgaria adopted the euro
}


def parse_amount(text: str) -> Decimal | None:
    """Return the amount that a text represents, or None if it is not a number or too long.

    >>> parse_amount("12.30"), parse_amount(" 1e2 "), parse_amount("1_000"), parse_amount("NaN")
    (Decimal('12.3'), Decimal('1E+2'), None, None)

    Every form of zero is the same zero:

    >>> parse_amount("0E-20"), parse_amount("-0"), parse_amount("0.000"), parse_amount("0e999")
    (Decimal('0'), Decimal('0'), Decimal('0'), Decimal('0'))
    """
    number = NUMBER.fullmatch(text.strip()) if len(text) <= MAX_CHARACTERS else None
    if number is None:
        return None
    if not NONZERO_DIGIT.search(number["digits"]):
        return Decimal(0)
    try:
        amount = EXACT.create_decimal(number[0]).normalize(EXACT)
    except DecimalException:  # too many digits
        return None
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int)
    fits = amount.adjusted() < MAX_INTEGER_DIGITS and exponent >= -MAX_DECIMAL_DIGITS
    return amount if fits else None


def format_amount(amount: Decimal, currency: str) -> str:
    """Return an amount without an exponent, with at least the decimals of its currency.

    >>> format_amount(Decimal("1E+2"), "USD"), format_amount(Decimal("-12.5000"), "JPY")
    ('100.00', '-12.5')
    """
    if not amount:
        amount = Decimal(0)
    exponent = amount.normalize(EXACT).as_tuple().exponent
    assert isinstance(exponent, int)
    decimals = max(get_decimals(currency), -exponent)
    return f"{amount.quantize(Decimal(1).scaleb(-decimals), context=EXACT):f}"


def get_smallest_unit(currency: str) -> Decimal:
    """Return the smallest unit of a currency in units of the currency.

    >>> get_smallest_unit("USD"), get_smallest_unit("JPY"), get_smallest_unit("BHD")
    (Decimal('0.01'), Decimal('1'), Decimal('0.001'))
    """
    return Decimal(1).scaleb(-get_decimals(currency))


@cache
def get_decimals(currency: str) -> int:
    """Return the number of decimals of a currency, as ISO 4217 defines it."""
    from iso4217 import Currency

    if currency in OVERRIDES:
        return OVERRIDES[currency].decimals
    try:
        decimals = Currency(currency).exponent
    except ValueError:
        decimals = None
    return DEFAULT_DECIMALS if decimals is None else decimals
