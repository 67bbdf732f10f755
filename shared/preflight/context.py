"""What the checks work with: the clients of the runs, their settings, and the few things that only the doctor asks for."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.clock import Clock
from shared.graph.client import GraphBillingClient
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.manifest import SourceRules
from shared.settings import Settings

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials_async import AsyncTokenCredential


@dataclass(frozen=True)
class PreflightContext:
    """`clock` is the app's. `machine` is what requests are signed by, and what storage's time is compared with.

    `environment` holds what the host has set. `host_credential` and `transport` are the seams for the host's storage,
    which no run talks to; `host_credential` None: the managed identity that the environment names.
    """

    settings: Settings
    clock: Clock
    machine: Clock
    graph: GraphBillingClient
    landing: LandingStore
    ledger: Ledger
    rules: SourceRules
    environment: Mapping[str, str] = field(repr=False)
    graph_credential: "AsyncTokenCredential | None" = None
    storage_credential: "AsyncTokenCredential | None" = None
    list_invoices: "Callable[[], Awaitable[Any]] | None" = None
    host_credential: "AsyncTokenCredential | None" = None
    transport: "httpx.AsyncBaseTransport | None" = None
