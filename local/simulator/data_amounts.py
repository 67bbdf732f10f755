"""Amounts as Microsoft computes them: Decimal, rounded down in the documented order."""

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")


def round_down(amount: Decimal) -> Decimal:
    """Round to the cent, towards zero.

    >>> round_down(Decimal("1.999")), round_down(Decimal("-1.999"))
    (Decimal('1.99'), Decimal('-1.99'))
    """
    return amount.quantize(CENT, ROUND_DOWN)


def usage_pricing_total(effective_unit_price: Decimal, quantity: Decimal) -> Decimal:
    """Return the total of a usage quantity in the pricing currency."""
    return round_down(effective_unit_price * quantity)


def usage_subtotal(
    effective_unit_price: Decimal, quantity: Decimal, exchange_rate: Decimal
) -> Decimal:
    """Return the subtotal of a usage-based charge in the billing currency.

    The formula is
    ROUNDDOWN(ROUNDDOWN(EffectiveUnitPrice * BillableQuantity, 2) * PCToBCExchangeRate, 2).

    >>> usage_subtotal(Decimal("0.0416"), Decimal("744"), Decimal("0.9217"))
    Decimal('28.52')
    """
    return round_down(usage_pricing_total(effective_unit_price, quantity) * exchange_rate)


def licence_subtotal(
    effective_unit_price: Decimal, quantity: Decimal, exchange_rate: Decimal
) -> Decimal:
    """Return the subtotal of a licence-based charge in the billing currency.

    The formula is ROUNDDOWN(EffectiveUnitPrice * PCToBCExchangeRate, 2) * BillableQuantity.

    >>> licence_subtotal(Decimal("17.60"), Decimal(25), Decimal("0.9217"))
    Decimal('405.50')
    """
    return round_down(effective_unit_price * exchange_rate) * quantity


def tax(subtotal: Decimal, rate: Decimal) -> Decimal:
    """Return the tax on a subtotal, rounded to the cent."""
    return (subtotal * rate).quantize(CENT, ROUND_HALF_UP)
