"""Reconciliation: the charges of a period.

There is one line for each meter of an Azure plan, and there are one or more lines for each licence,
reservation, savings plan and software product. Usage contains only the Azure plans. The lines add
up to the total of the invoice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from local.simulator.catalogue import (
    AZURE_PLAN_PRODUCT,
    AZURE_PLAN_SKU,
    EXCHANGE_RATES,
    Meter,
    Product,
)
from local.simulator.data_amounts import licence_subtotal, tax, usage_subtotal
from local.simulator.data_usage import NO_CHANGES, Changes, Period, UsageLine, usage_lines
from local.simulator.partner import Customer, Licence, Partner

AZURE_PLAN = Product(
    AZURE_PLAN_PRODUCT,
    AZURE_PLAN_SKU,
    "Azure plan",
    "Azure",
    "Microsoft Corporation",
    Decimal(0),
    "",
    1,
    "",
)


@dataclass(frozen=True)
class ReconciliationLine:
    """One charge. All amounts are in the billing currency, except the unit prices.

    `ordered` is the date of the first order, and `billed_on` that of the billing event.
    """

    customer: Customer
    product: Product
    subscription_id: str
    order_id: str
    ordered: date
    billed_on: date
    charge_type: str
    start: date
    end: date
    unit_price: Decimal
    effective_unit_price: Decimal
    quantity: Decimal
    exchange_rate: Decimal
    subtotal: Decimal
    meter: Meter | None = None

    @property
    def tax(self) -> Decimal:
        """The tax on the subtotal."""
        return tax(self.subtotal, self.customer.tax_rate)

    @property
    def total(self) -> Decimal:
        """The subtotal plus tax."""
        return self.subtotal + self.tax


def reconciliation_lines(
    seed: int,
    customers: tuple[Customer, ...],
    period: Period,
    changes: Changes = NO_CHANGES,
) -> list[ReconciliationLine]:
    """Return all lines of a period, sorted by customer."""
    lines = list(_azure_lines(usage_lines(seed, customers, period, changes), period))
    if period.shortened(changes.share).days:
        for customer in customers:
            if customer.currency == period.currency:
                for licence in customer.licences:
                    lines.extend(_licence_lines(customer, licence, period))
    return sorted(lines, key=lambda line: line.customer.number)


def invoice_total(lines: Iterable[ReconciliationLine]) -> Decimal:
    """Return the total of the lines, including tax."""
    return sum((line.total for line in lines), Decimal("0.00"))


def _azure_lines(usage: list[UsageLine], period: Period) -> Iterator[ReconciliationLine]:
    groups: dict[tuple[str, Meter], list[UsageLine]] = {}
    for line in usage:
        groups.setdefault((line.plan.subscription_id, line.resource.meter), []).append(line)
    for (subscription_id, meter), lines in groups.items():
        first = lines[0]
        quantity = sum((line.quantity for line in lines), Decimal(0))
        yield ReconciliationLine(
            first.customer,
            AZURE_PLAN,
            subscription_id,
            first.plan.order_id,
            date(2024, 1, 15),
            max(line.day for line in lines),
            "new",
            period.month.first,
            period.month.last,
            first.unit_price,
            first.effective_unit_price,
            quantity,
            first.exchange_rate,
            usage_subtotal(first.effective_unit_price, quantity, first.exchange_rate),
            meter,
        )


def _licence_lines(
    customer: Customer, licence: Licence, period: Period
) -> Iterator[ReconciliationLine]:
    product, month = licence.product, period.month
    age_months = (month.year - licence.start.year) * 12 + month.number - licence.start.month
    if age_months % (product.cycle_months or 12):
        return
    charge = (
        "new" if not product.cycle_months else "renew" if age_months % 12 == 0 else "cycleCharge"
    )
    yield _licence_line(
        customer, licence, period, charge, Decimal(licence.quantity), product.unit_price
    )
    if (customer.number + month.number) % 4 == 0 and product.cycle_months == 1:
        # A credit for removed seats, for the remaining days of the month.
        credit_price = (product.unit_price / 2).quantize(Decimal("0.0001"))
        yield _licence_line(
            customer,
            licence,
            period,
            "removeQuantity",
            Decimal(-1 - licence.quantity // 5),
            credit_price,
        )


def _licence_line(
    customer: Customer,
    licence: Licence,
    period: Period,
    charge: str,
    quantity: Decimal,
    effective_unit_price: Decimal,
) -> ReconciliationLine:
    rate = EXCHANGE_RATES[period.currency]
    return ReconciliationLine(
        customer,
        licence.product,
        licence.subscription_id,
        licence.order_id,
        licence.start,
        min(period.month.first.replace(day=min(licence.start.day, 28)), period.days[-1]),
        charge,
        period.month.first,
        period.month.last,
        licence.product.unit_price,
        effective_unit_price,
        quantity,
        rate,
        licence_subtotal(effective_unit_price, quantity, rate),
    )


def reconciliation_row(
    line: ReconciliationLine, partner: Partner, period: Period
) -> dict[str, Any]:
    """Return a line with all attributes. Values are strings, dates, Decimals or None."""
    customer, product, meter = line.customer, line.product, line.meter
    reserved = product.category == "Azure Reservation"
    return {
        "PartnerId": partner.tenant_id,
        "CustomerId": customer.customer_id,
        "CustomerName": customer.name,
        "InvoiceNumber": period.invoice_number,
        "Tier2MpnId": customer.tier2_mpn_id,
        "OrderId": line.order_id,
        "OrderDate": line.billed_on,
        "ProductId": product.product_id,
        "SkuId": product.sku_id,
        "AvailabilityId": f"{product.product_id[:8]}AV01",
        "SkuName": product.name,
        "ProductName": product.name,
        "ChargeType": line.charge_type,
        "UnitPrice": line.unit_price,
        "Subtotal": line.subtotal,
        "TaxTotal": line.tax,
        "Total": line.total,
        "Currency": period.currency,
        "PriceAdjustmentDescription": '["15.0% Partner earned credit for services managed"]'
        if (meter and line.unit_price != line.effective_unit_price)
        else "[]",
        "PublisherName": product.publisher,
        "SubscriptionId": line.subscription_id,
        "ChargeStartDate": line.start,
        "ChargeEndDate": line.end,
        "TermAndBillingCycle": product.term or None,
        "EffectiveUnitPrice": line.effective_unit_price,
        "BillableQuantity": line.quantity,
        "PricingCurrency": "USD",
        "PCToBCExchangeRate": line.exchange_rate,
        "ReservationOrderId": line.order_id if reserved else None,
        "CreditReasonCode": "Partial refund" if line.quantity < 0 else None,
        "SubscriptionStartDate": line.ordered,
        "SubscriptionEndDate": None if meter else line.ordered.replace(year=line.ordered.year + 1),
        "ReferenceId": str(
            uuid5(
                NAMESPACE_URL, f"{line.subscription_id}/{line.charge_type}/{period.month}/{meter}"
            )
        ),
        "PromotionId": None,
        "ProductCategory": product.category,
        "CustomerDomainName": customer.domain,
        "CustomerCountry": customer.country,
        "MpnId": partner.mpn_id,
        "Quantity": line.quantity,
        "PublisherId": None,
        "SubscriptionDescription": product.name,
        "UnitType": meter.unit if meter else product.unit,
        "AlternateId": line.order_id[:12],
        "BillingFrequency": "Monthly" if product.cycle_months == 1 else "Annual",
        "PCToBCExchangeRateDate": period.month.first,
        "MeterDescription": f"{meter.category} - {meter.sub_category} - {meter.name}"
        if meter
        else None,
        "ProductQualifiers": ["Commercial"] if not meter else [],
    }
