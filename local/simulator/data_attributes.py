"""The documented attributes of lines in the `basic` and `full` attribute sets.

Usage has 30 attributes in `basic` and 54 in `full`; reconciliation has 35 and 47. Billed and
unbilled exports have the same attributes.
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

# Microsoft's sample class and its documentation spell these names differently.
SAMPLE_CASE = {"BenefitID": "BenefitId", "BenefitOrderID": "BenefitOrderId"}
# Differences between a real file of unbilled usage and the documentation.
UNBILLED_OMITTED = frozenset({"InvoiceNumber", "BenefitOrderID", "BenefitID"})
UNBILLED_ADDED = ("PCToBCExchangeRateDate",)


def attribute_names(
    family: str, attribute_set: str, *, as_observed: bool = False
) -> tuple[str, ...]:
    """Return the attribute names of a family, `usage` or `reconciliation`.

    If `as_observed` is true, the names are those in a real file of unbilled usage.

    >>> len(attribute_names("usage", "full")), len(attribute_names("reconciliation", "basic"))
    (54, 35)
    """
    documented = ATTRIBUTES[family, attribute_set]
    if not as_observed:
        return documented
    return tuple(name for name in documented if name not in UNBILLED_OMITTED) + UNBILLED_ADDED
