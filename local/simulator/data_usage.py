"""Daily rated usage: one line for each day of each Azure resource.

The usage of a meter is rated for the whole month, like its reconciliation line: the amount for a
day is the result of the documented formula for the quantity up to and including that day, minus the
amounts for the previous days. Therefore, the daily amounts add up exactly to the reconciliation
line.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from local.simulator.billing_months import Month
from local.simulator.catalogue import (
    ADJUSTMENT,
    AZURE_PLAN_PRODUCT,
    AZURE_PLAN_SKU,
    EXCHANGE_RATES,
    Meter,
)
from local.simulator.data_amounts import usage_pricing_total, usage_subtotal
from local.simulator.partner import AzurePlan, Customer, Partner, Resource

EARNED_CREDIT = Decimal("0.85")  # the part of a price that remains after the partner earned credit


@dataclass(frozen=True)
class Changes:
    """The changes to a key's data since its first version.

    Attributes:
        corrections: The number of pairs of correction lines that cancel each other out.
        amount: A net correction in the pricing currency.
        share: The fraction of the period, counted from its start, that has lines.
    """

    corrections: int = 0
    amount: Decimal = Decimal(0)
    share: Decimal = Decimal(1)


NO_CHANGES = Changes()


@dataclass(frozen=True)
class Period:
    """A month in a currency, up to the day `until`. If `until` is None, there are no lines."""

    month: Month
    currency: str
    until: date | None
    invoice_number: str | None = None

    @property
    def days(self) -> tuple[date, ...]:
        """The days that have lines."""
        return tuple(day for day in self.month.days if self.until is not None and day <= self.until)

    def shortened(self, share: Decimal) -> "Period":
        """Return the first part of the period."""
        days = self.days[: int(len(self.days) * share)]
        return Period(self.month, self.currency, days[-1] if days else None, self.invoice_number)


@dataclass(frozen=True)
class UsageLine:
    """The usage of a resource on one day."""

    customer: Customer
    plan: AzurePlan
    resource: Resource
    day: date
    quantity: Decimal
    unit_price: Decimal
    effective_unit_price: Decimal
    exchange_rate: Decimal
    pricing_total: Decimal
    billing_total: Decimal


def usage_lines(
    seed: int, customers: Iterable[Customer], period: Period, changes: Changes = NO_CHANGES
) -> list[UsageLine]:
    """Return all lines of a period, sorted by day."""
    lines: list[UsageLine] = []
    period = period.shortened(changes.share)
    billed = [
        customer for customer in customers if customer.currency == period.currency and customer.plan
    ]
    for customer in billed:
        lines.extend(
            _lines_of_customer(
                seed, customer, period, changes.corrections if customer is billed[0] else 0
            )
        )
    if changes.amount and billed and period.days:
        lines.append(_adjustment(billed[0], period, changes.amount))
    return sorted(lines, key=lambda line: (line.day, line.customer.number))


def _lines_of_customer(
    seed: int, customer: Customer, period: Period, corrections: int
) -> Iterator[UsageLine]:
    assert customer.plan is not None
    meters: dict[Meter, list[Resource]] = {}
    for resource in customer.plan.resources:
        meters.setdefault(resource.meter, []).append(resource)
    for number, (meter, resources) in enumerate(meters.items()):
        quantities = [
            (resource, day, _quantity(seed, resource, day))
            for resource in resources
            for day in period.days
        ]
        if quantities and number == 0:  # corrections that cancel each other out
            resource, day, quantity = quantities[0]
            for correction in range(corrections):
                step = quantity * (correction + 1)
                quantities += [(resource, day, -step), (resource, day, step)]
        yield from _rated(customer, customer.plan, meter, quantities, period)


def _quantity(seed: int, resource: Resource, day: date) -> Decimal:
    weekend = Decimal("0.6") if day.weekday() >= 5 else Decimal(1)
    noise = Random(f"usage {seed} {resource.name} {resource.entitlement_id} {day}").randrange(
        8_000, 12_000
    )
    return (resource.meter.daily_quantity * weekend * noise / 10_000).quantize(Decimal("0.000001"))


def _rated(
    customer: Customer,
    plan: AzurePlan,
    meter: Meter,
    quantities: list[tuple[Resource, date, Decimal]],
    period: Period,
) -> Iterator[UsageLine]:
    price = meter.unit_price * EARNED_CREDIT if plan.earned_credit else meter.unit_price
    rate = EXCHANGE_RATES[period.currency]
    so_far = priced = billed = Decimal(0)
    for resource, day, quantity in quantities:
        so_far += quantity
        pricing, billing = usage_pricing_total(price, so_far), usage_subtotal(price, so_far, rate)
        yield UsageLine(
            customer,
            plan,
            resource,
            day,
            quantity,
            meter.unit_price,
            price,
            rate,
            pricing - priced,
            billing - billed,
        )
        priced, billed = pricing, billing


def _adjustment(customer: Customer, period: Period, amount: Decimal) -> UsageLine:
    assert customer.plan is not None
    first, rate = customer.plan.resources[0], EXCHANGE_RATES[period.currency]
    resource = Resource(
        "late-report", first.group, first.region, ADJUSTMENT, first.entitlement_id, "{}"
    )
    quantity = Decimal(1)
    return UsageLine(
        customer,
        customer.plan,
        resource,
        period.days[-1],
        quantity,
        amount,
        amount,
        rate,
        usage_pricing_total(amount, quantity),
        usage_subtotal(amount, quantity, rate),
    )


def meter_id(meter: Meter) -> str:
    """Return an ID that depends only on the meter's names."""
    return str(uuid5(NAMESPACE_URL, "/".join(meter[:3])))


def usage_row(line: UsageLine, partner: Partner, period: Period) -> dict[str, Any]:
    """Return a line with all attributes. Values are strings, dates, Decimals or None."""
    customer, resource, meter, plan = line.customer, line.resource, line.resource.meter, line.plan
    credit = plan.earned_credit and meter is not ADJUSTMENT
    return {
        "PartnerId": partner.tenant_id,
        "PartnerName": partner.name,
        "CustomerId": customer.customer_id,
        "CustomerName": customer.name,
        "InvoiceNumber": period.invoice_number,
        "ProductId": AZURE_PLAN_PRODUCT,
        "SkuId": AZURE_PLAN_SKU,
        "SkuName": "Azure plan",
        "PublisherName": "Microsoft",
        "SubscriptionId": plan.subscription_id,
        "ChargeStartDate": period.month.first,
        "ChargeEndDate": period.month.last,
        "UsageDate": line.day,
        "ResourceURI": resource.uri,
        "ChargeType": "new" if line.quantity >= 0 else "refund",
        "UnitPrice": line.unit_price,
        "Quantity": line.quantity,
        "UnitType": meter.unit,
        "BillingPreTaxTotal": line.billing_total,
        "BillingCurrency": period.currency,
        "PricingPreTaxTotal": line.pricing_total,
        "PricingCurrency": "USD",
        "AdditionalInfo": f'{{"UsageType":"{meter.kind}","ImageType":null}}',
        "EffectiveUnitPrice": line.effective_unit_price,
        "PCToBCExchangeRate": line.exchange_rate,
        "EntitlementId": resource.entitlement_id,
        "CreditPercentage": Decimal(15 if credit else 0),
        "CreditType": "Azure Credit Applied" if credit else None,
        "BenefitOrderID": None,
        "BenefitType": "Charge",
        "CustomerDomainName": customer.domain,
        "CustomerCountry": customer.country,
        "MpnId": partner.mpn_id,
        "Tier2MpnId": customer.tier2_mpn_id,
        "AvailabilityId": "DZH318Z0BPV2",
        "ProductName": "Azure plan",
        "PublisherId": None,
        "SubscriptionDescription": "Azure plan",
        "MeterType": f"{meter.name} - {meter.unit}",
        "MeterCategory": meter.category,
        "MeterId": meter_id(meter),
        "MeterSubCategory": meter.sub_category,
        "MeterName": meter.name,
        "MeterRegion": resource.region,
        "Unit": meter.unit,
        "ResourceLocation": resource.region,
        "ConsumedService": meter.service,
        "ResourceGroup": resource.group,
        "ServiceInfo1": None,
        "ServiceInfo2": None,
        "Tags": resource.tags,
        "EntitlementDescription": "Azure subscription 1",
        "PartnerEarnedCreditPercentage": Decimal(15 if credit else 0),
        "BenefitID": None,
        "PCToBCExchangeRateDate": period.month.first,
    }
