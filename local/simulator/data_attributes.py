"""The documented attributes of a line: which there are in `basic`, which only in `full`. Nothing but names.

Usage: 30 in basic, 54 in full. Reconciliation: 35 in basic, 47 in full. Billed and unbilled share a list.
"""

USAGE_BASIC = (
    "PartnerId",
    "PartnerName",
    "CustomerId",
    "CustomerName",
    "InvoiceNumber",
    "ProductId",
    "SkuId",
    "SkuName",
    "PublisherName",
    "SubscriptionId",
    "ChargeStartDate",
    "ChargeEndDate",
    "UsageDate",
    "ResourceURI",
    "ChargeType",
    "UnitPrice",
    "Quantity",
    "UnitType",
    "BillingPreTaxTotal",
    "BillingCurrency",
    "PricingPreTaxTotal",
    "PricingCurrency",
    "AdditionalInfo",
    "EffectiveUnitPrice",
    "PCToBCExchangeRate",
    "EntitlementId",
    "CreditPercentage",
    "CreditType",
    "BenefitOrderID",
    "BenefitType",
)
USAGE_FULL_ONLY = (
    "CustomerDomainName",
    "CustomerCountry",
    "MpnId",
    "Tier2MpnId",
    "AvailabilityId",
    "ProductName",
    "PublisherId",
    "SubscriptionDescription",
    "MeterType",
    "MeterCategory",
    "MeterId",
    "MeterSubCategory",
    "MeterName",
    "MeterRegion",
    "Unit",
    "ResourceLocation",
    "ConsumedService",
    "ResourceGroup",
    "ServiceInfo1",
    "ServiceInfo2",
    "Tags",
    "EntitlementDescription",
    "PartnerEarnedCreditPercentage",
    "BenefitID",
)
RECONCILIATION_BASIC = (
    "PartnerId",
    "CustomerId",
    "CustomerName",
    "InvoiceNumber",
    "Tier2MpnId",
    "OrderId",
    "OrderDate",
    "ProductId",
    "SkuId",
    "AvailabilityId",
    "SkuName",
    "ProductName",
    "ChargeType",
    "UnitPrice",
    "Subtotal",
    "TaxTotal",
    "Total",
    "Currency",
    "PriceAdjustmentDescription",
    "PublisherName",
    "SubscriptionId",
    "ChargeStartDate",
    "ChargeEndDate",
    "TermAndBillingCycle",
    "EffectiveUnitPrice",
    "BillableQuantity",
    "PricingCurrency",
    "PCToBCExchangeRate",
    "ReservationOrderId",
    "CreditReasonCode",
    "SubscriptionStartDate",
    "SubscriptionEndDate",
    "ReferenceId",
    "PromotionId",
    "ProductCategory",
)
RECONCILIATION_FULL_ONLY = (
    "CustomerDomainName",
    "CustomerCountry",
    "MpnId",
    "Quantity",
    "PublisherId",
    "SubscriptionDescription",
    "UnitType",
    "AlternateId",
    "BillingFrequency",
    "PCToBCExchangeRateDate",
    "MeterDescription",
    "ProductQualifiers",
)

ATTRIBUTES: dict[tuple[str, str], tuple[str, ...]] = {
    ("usage", "basic"): USAGE_BASIC,
    ("usage", "full"): USAGE_BASIC + USAGE_FULL_ONLY,
    ("reconciliation", "basic"): RECONCILIATION_BASIC,
    ("reconciliation", "full"): RECONCILIATION_BASIC + RECONCILIATION_FULL_ONLY,
}

# Microsoft's own sample class spells these otherwise than its documents.
SAMPLE_CASE = {"BenefitID": "BenefitId", "BenefitOrderID": "BenefitOrderId"}
# What a real file of unbilled usage had not, and had besides.
UNBILLED_WITHOUT = frozenset({"InvoiceNumber", "BenefitOrderID", "BenefitID"})
UNBILLED_BESIDES = ("PCToBCExchangeRateDate",)


def attribute_names(
    family: str, attribute_set: str, *, as_observed: bool = False
) -> tuple[str, ...]:
    """`family` is usage or reconciliation; `as_observed` is for unbilled usage only.

    >>> len(attribute_names("usage", "full")), len(attribute_names("reconciliation", "basic"))
    (54, 35)
    """
    documented = ATTRIBUTES[family, attribute_set]
    if not as_observed:
        return documented
    return tuple(name for name in documented if name not in UNBILLED_WITHOUT) + UNBILLED_BESIDES
