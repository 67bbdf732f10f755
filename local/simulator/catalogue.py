"""Fictitious customers, and the meters and products for which they are billed."""

from decimal import Decimal
from typing import NamedTuple

AZURE_PLAN_PRODUCT, AZURE_PLAN_SKU = "DZH318Z0BPS6", "0001"


class Meter(NamedTuple):
    """A metered Azure service."""

    category: str
    sub_category: str
    name: str
    unit: str
    unit_price: Decimal  # in USD, the pricing currency
    daily_quantity: Decimal  # of one resource on an average weekday
    service: str
    kind: str  # the resource type of the service


class Product(NamedTuple):
    """A licence, reservation, savings plan or software product."""

    product_id: str
    sku_id: str
    name: str
    category: str
    publisher: str
    unit_price: Decimal
    term: str  # as in TermAndBillingCycle
    cycle_months: int  # the interval between charges; 0: charged once
    unit: str


CUSTOMER_NAMES = (
    "Alder & Finch Bakery",
    "Bramblewick Logistics",
    "Copperfield Dental Group",
    "Dunmore Observatory Trust",
    "Elmstead Rowing Club",
    "Fennimore Glassworks",
    "Greywater Ferries",
    "Hollowell Seed Company",
    "Ibis Lane Pharmacy",
    "Juniper Court Hotels",
    "Kestrel Valley Schools",
    "Lindqvist Timber",
    "Marrowbone Cycles",
    "Northgate Veterinary Partners",
    "Ostler & Daughters Saddlery",
    "Pellworm Tidal Energy",
    "Quillfeather Press",
    "Rookwood Cartography",
    "Saltmarsh Breweries",
    "Tamarind Street Kitchen",
    "Underhill Geology",
    "Vesper Lighting",
    "Wintergreen Orchards",
    "Yarrow Film Archive",
)
COUNTRIES = {"USD": ("US",), "EUR": ("DE", "NL", "IE"), "GBP": ("GB",), "CHF": ("CH",)}
TAX_RATES = {
    "US": Decimal(0),
    "DE": Decimal("0.19"),
    "NL": Decimal("0.21"),
    "IE": Decimal("0.23"),
    "GB": Decimal("0.20"),
    "CH": Decimal("0.081"),
}
EXCHANGE_RATES = {
    "USD": Decimal(1),
    "EUR": Decimal("0.921748"),
    "GBP": Decimal("0.787312"),
    "CHF": Decimal("0.884155"),
}
REGIONS = ("eastus", "westeurope", "northeurope", "germanywestcentral", "uksouth")

METERS = (
    Meter(
        "Virtual Machines",
        "BS Series",
        "B2s",
        "1 Hour",
        Decimal("0.0416"),
        Decimal(24),
        "Microsoft.Compute",
        "virtualMachines",
    ),
    Meter(
        "Virtual Machines",
        "Dv5 Series",
        "D4 v5",
        "1 Hour",
        Decimal("0.192"),
        Decimal("11.25"),
        "Microsoft.Compute",
        "virtualMachines",
    ),
    Meter(
        "Storage",
        "Tiered Block Blob",
        "Hot LRS Data Stored",
        "1 GB/Month",
        Decimal("0.0208"),
        Decimal("13.4181"),
        "Microsoft.Storage",
        "storageAccounts",
    ),
    Meter(
        "Storage",
        "Premium SSD Managed Disks",
        "P10 LRS Disk",
        "1/Month",
        Decimal("19.71"),
        Decimal("0.032258"),
        "Microsoft.Compute",
        "disks",
    ),
    Meter(
        "Bandwidth",
        "Rtn Preference: MGN",
        "Standard Data Transfer Out",
        "1 GB",
        Decimal("0.087"),
        Decimal("2.906331"),
        "Microsoft.Network",
        "publicIPAddresses",
    ),
    Meter(
        "SQL Database",
        "Single Standard",
        "S0 DTUs",
        "1/Day",
        Decimal("0.4839"),
        Decimal(1),
        "Microsoft.Sql",
        "servers",
    ),
    Meter(
        "Azure App Service",
        "Premium v3 Plan",
        "P0v3 App",
        "1 Hour",
        Decimal("0.111"),
        Decimal(24),
        "Microsoft.Web",
        "serverfarms",
    ),
    Meter(
        "Log Analytics",
        "Pay-as-you-go",
        "Analytics Logs Data Ingestion",
        "1 GB",
        Decimal("2.3"),
        Decimal("0.418273"),
        "Microsoft.OperationalInsights",
        "workspaces",
    ),
    Meter(
        "Key Vault",
        "Standard",
        "Operations",
        "10K",
        Decimal("0.03"),
        Decimal("0.0217"),
        "Microsoft.KeyVault",
        "vaults",
    ),
)
# The meter of correction lines.
ADJUSTMENT = Meter(
    "Adjustment",
    "Correction",
    "Late meter report",
    "1",
    Decimal(1),
    Decimal(1),
    "Microsoft.Billing",
    "adjustments",
)

PRODUCTS = (
    Product(
        "CFQ7TTC0LH18",
        "0001",
        "Microsoft 365 Business Basic",
        "Office",
        "Microsoft Corporation",
        Decimal("4.80"),
        "One-Year commitment for monthly/yearly billing",
        1,
        "Licenses",
    ),
    Product(
        "CFQ7TTC0LCHC",
        "0002",
        "Microsoft 365 Business Premium",
        "Office",
        "Microsoft Corporation",
        Decimal("17.60"),
        "One-Year commitment for monthly/yearly billing",
        1,
        "Licenses",
    ),
    Product(
        "CFQ7TTC0LFLX",
        "000S",
        "Office 365 E3",
        "Office",
        "Microsoft Corporation",
        Decimal("18.40"),
        "One-Month commitment for monthly billing",
        1,
        "Licenses",
    ),
    Product(
        "CFQ7TTC0HL8W",
        "0005",
        "Power BI Pro",
        "Power Apps",
        "Microsoft Corporation",
        Decimal("96.00"),
        "One-Year commitment for yearly billing",
        12,
        "Licenses",
    ),
    Product(
        "DZH318Z0BQ4B",
        "00CS",
        "Reserved VM Instance, Standard_D4s_v5, EU West, 1 Year",
        "Azure Reservation",
        "Microsoft Corporation",
        Decimal("79.2053"),
        "One-Year commitment for monthly/yearly billing",
        1,
        "1 Hour",
    ),
    Product(
        "DZH318Z0CXKR",
        "0004",
        "Azure savings plan for compute",
        "Azure Savings Plan",
        "Microsoft Corporation",
        Decimal("36.50"),
        "One-Year commitment for monthly/yearly billing",
        1,
        "1 Hour",
    ),
    Product(
        "DZH318Z09PG5",
        "0001",
        "Larch Backup for Mailboxes",
        "SaaS",
        "Larch Software GmbH",
        Decimal("2.15"),
        "One-Month commitment for monthly billing",
        1,
        "Licenses",
    ),
    Product(
        "DG7GMGF0D7FX",
        "0002",
        "Windows Server 2025 Standard, 16 Core Pack",
        "Software",
        "Microsoft Corporation",
        Decimal("969.00"),
        "OneTime",
        0,
        "Licenses",
    ),
)
