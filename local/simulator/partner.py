"""The simulated partner: its customers and their subscriptions. They depend only on the seed."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from random import Random
from uuid import UUID

from local.simulator.catalogue import (
    COUNTRIES,
    CUSTOMER_NAMES,
    METERS,
    PRODUCTS,
    REGIONS,
    TAX_RATES,
    Meter,
    Product,
)

PARTNER_TENANT_ID = "3d8a1c5e-6f20-4b7d-9a41-c0de5eed0001"


@dataclass(frozen=True)
class Partner:
    """The partner and the volume of its data.

    A month of usage has about 5/6 * customers * resources * 30 lines.
    """

    tenant_id: str = PARTNER_TENANT_ID
    name: str = "Larkspur Cloud Services"
    mpn_id: str = "4417203"
    currencies: tuple[str, ...] = ("USD",)
    customers: int = 6
    resources: int = 4  # per customer with an Azure plan
    licences: int = 3  # per customer
    rows_per_blob: int = 120
    invoice_months: int = 2  # months with an invoice at the start of the simulator

    def __post_init__(self) -> None:
        unknown = set(self.currencies) - set(COUNTRIES)
        if unknown or not self.currencies:
            raise ValueError(
                f"currencies must be among {', '.join(COUNTRIES)}, "
                f"not {', '.join(sorted(unknown)) or 'empty'}"
            )
        if (
            min(self.customers, self.resources, self.rows_per_blob, self.invoice_months) < 1
            or self.licences < 0
        ):
            raise ValueError(
                "customers, resources, rows_per_blob and invoice_months must be at least 1"
            )


@dataclass(frozen=True)
class Resource:
    """An Azure resource."""

    name: str
    group: str
    region: str
    meter: Meter
    entitlement_id: str  # the Azure subscription; the billing subscription is the plan
    tags: str

    @property
    def uri(self) -> str:
        """The resource ID."""
        return (
            f"/subscriptions/{self.entitlement_id}/resourceGroups/{self.group}"
            f"/providers/{self.meter.service}/{self.meter.kind}/{self.name}"
        )


@dataclass(frozen=True)
class AzurePlan:
    """A customer's Azure plan."""

    subscription_id: str
    order_id: str
    earned_credit: bool  # partner earned credit: 15 % off
    resources: tuple[Resource, ...]


@dataclass(frozen=True)
class Licence:
    """A subscription to a product."""

    product: Product
    subscription_id: str
    order_id: str
    quantity: int
    start: date


@dataclass(frozen=True)
class Customer:
    """A customer of the partner."""

    number: int
    customer_id: str
    name: str
    domain: str
    country: str
    currency: str
    tax_rate: Decimal
    tier2_mpn_id: str | None
    plan: AzurePlan | None
    licences: tuple[Licence, ...]


def random_id(source: Random) -> str:
    """Return a random UUID."""
    return str(UUID(int=source.getrandbits(128), version=4))


def customers_of(partner: Partner, seed: int) -> tuple[Customer, ...]:
    """Return all customers.

    Every sixth customer has no Azure plan; the first customer in each currency always has one.
    """
    return tuple(_customer(partner, seed, number) for number in range(partner.customers))


def _customer(partner: Partner, seed: int, number: int) -> Customer:
    source = Random(f"customer {seed} {number}")
    repetition, index = divmod(number, len(CUSTOMER_NAMES))
    name = CUSTOMER_NAMES[index] + (f" {repetition + 1}" if repetition else "")
    currency = partner.currencies[number % len(partner.currencies)]
    country = source.choice(COUNTRIES[currency])
    domain = "".join(letter for letter in name.lower() if letter.isalnum()) + ".example"
    return Customer(
        number,
        random_id(source),
        name,
        domain,
        country,
        currency,
        TAX_RATES[country],
        str(source.randrange(5_000_000, 6_000_000)) if number % 3 == 2 else None,
        _plan(partner, source, domain) if number % 6 != 5 else None,
        tuple(_licence(source, number + offset) for offset in range(partner.licences)),
    )


def _plan(partner: Partner, source: Random, domain: str) -> AzurePlan:
    entitlements = [random_id(source) for _ in range(1 + partner.resources // 8)]
    resources = []
    for number in range(partner.resources):
        meter = METERS[(number + source.randrange(len(METERS))) % len(METERS)]
        team = source.choice(("shop", "office", "lab", "web"))
        resources.append(
            Resource(
                f"{team}-{meter.kind[:4].lower()}-{number:03d}",
                f"rg-{team}",
                source.choice(REGIONS),
                meter,
                source.choice(entitlements),
                f'{{"team":"{team}","owner":"it@{domain}","note":"Büro 3/A, «north»"}}',
            )
        )
    return AzurePlan(random_id(source), random_id(source), source.random() < 0.7, tuple(resources))


def _licence(source: Random, number: int) -> Licence:
    return Licence(
        PRODUCTS[number % len(PRODUCTS)],
        random_id(source),
        random_id(source),
        source.randrange(1, 60),
        date(2024, source.randrange(1, 13), source.randrange(1, 29)),
    )
