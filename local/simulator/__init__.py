"""Simulates the Microsoft services: Graph partner billing, Partner Center and billing storage.

It is independent of the app. README.md describes its data, its switches and fault injection.
"""

from local.simulator.behaviour import SWITCHES, Behaviour, matrix
from local.simulator.billing_months import Month
from local.simulator.faults import FaultResponse, Faults, Match, Rule
from local.simulator.invoices import Invoice
from local.simulator.partner import PARTNER_TENANT_ID, Partner
from local.simulator.request_log import RecordedRequest
from local.simulator.simulator import ExpectedExport, Simulator
from local.simulator.storage import BillingStorage, NoStorage

__all__ = [
    "PARTNER_TENANT_ID",
    "SWITCHES",
    "Behaviour",
    "BillingStorage",
    "ExpectedExport",
    "FaultResponse",
    "Faults",
    "Invoice",
    "Match",
    "Month",
    "NoStorage",
    "Partner",
    "RecordedRequest",
    "Rule",
    "Simulator",
    "matrix",
]
