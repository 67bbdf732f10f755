"""The clients and settings that the checks use."""

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
    """The clients that the runs use, and the objects that only the preflight needs.

    `clock` is the clock of the app; `machine_clock` is the real clock, which signs requests and
    which is compared with the clock of storage. `environment` is the environment of the host.
    `host_credential` and `host_transport` replace the access to the storage of the host in tests;
    with `host_credential` None, the managed identity of the environment is used.
    """

    settings: Settings
    clock: Clock
    machine_clock: Clock
    graph: GraphBillingClient
    landing: LandingStore
    ledger: Ledger
    source_rules: SourceRules
    environment: Mapping[str, str] = field(repr=False)
    graph_credential: "AsyncTokenCredential | None" = None
    storage_credential: "AsyncTokenCredential | None" = None
    list_invoices: "Callable[[], Awaitable[Any]] | None" = None
    host_credential: "AsyncTokenCredential | None" = None
    host_transport: "httpx.AsyncBaseTransport | None" = None
