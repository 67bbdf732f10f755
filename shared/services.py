"""Creates the clients and stores of the app from its settings.

Each part is created on first use, and large SDKs are imported only then, to keep the cold start
short. All asynchronous parts belong to the one event loop of the worker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from shared.clock import Clock, SystemClock
from shared.graph.throttled_client import ThrottledGraphClient
from shared.ledger.health import HealthCheck
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.manifest import (
    Manifest,
    SourceRules,
    create_source_rules,
    validate_location,
)
from shared.operations import ExportOperations
from shared.planning.planner import Planner
from shared.settings import Settings, get_settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

    from shared.graph.client import GraphBillingClient
    from shared.landing.store import LandingStore
    from shared.partner_center.client import PartnerCenterClient
    from shared.preflight.preflight import Preflight
    from shared.tie_out.tie_outs import TieOuts
    from shared.transfer.copier import Copier
    from shared.transfer.manifest_cache import ManifestCache

T = TypeVar("T")


@dataclass
class Services:
    """The parts that activities and triggers use; one instance per process.

    Attributes:
        settings: The settings of the app.
        clock: The source of the current time.
        locking: Whether the ledger uses locks. Tests disable them to verify that correctness does
            not depend on locks.
        overrides: Factories by name of the part, which replace the default ones, for example
            `{"ledger": lambda app: Ledger(tables, app.clock)}`.
    """

    settings: Settings
    clock: Clock = field(default_factory=SystemClock)
    locking: bool = True
    overrides: Mapping[str, Callable[[Services], object]] = field(default_factory=dict)
    _parts: dict[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in self.overrides:
            if not isinstance(getattr(type(self), name, None), property):
                raise ValueError(f"Services has no part named {name!r}")

    def _part(self, name: str, create: Callable[[], T]) -> T:
        if name not in self._parts:
            override = self.overrides.get(name)
            self._parts[name] = override(self) if override else create()
        return cast(T, self._parts[name])

    @property
    def rules(self) -> SourceRules:
        return create_source_rules(
            self.settings.source_allowed,
            self.settings.partner_tenant_id,
            loopback=self.settings.is_loopback,
        )

    @property
    def ledger(self) -> Ledger:
        def create() -> Ledger:
            connection_string = self.settings.landing_storage
            tables = Tables(
                self.settings.landing_table_prefix,
                connection_string=connection_string.get_secret_value()
                if connection_string
                else None,
                endpoint=None if connection_string else self.settings.landing_table_uri,
                credential=None if connection_string else self._storage_credential,
            )
            return Ledger(tables, self.clock, hub=self.settings.task_hub_name, locking=self.locking)

        return self._part("ledger", create)

    @property
    def landing(self) -> LandingStore:
        def create() -> LandingStore:
            from shared.landing.store import LandingStore

            connection_string = self.settings.landing_storage
            return LandingStore(
                container=self.settings.landing_container,
                prefix=self.settings.landing_prefix,
                clock=self.clock,
                connection_string=connection_string.get_secret_value()
                if connection_string
                else None,
                account_url=None if connection_string else self.settings.landing_blob_uri,
                credential=None if connection_string else self._storage_credential,
            )

        return self._part("landing", create)

    @property
    def graph(self) -> ThrottledGraphClient:
        """The client of the runs, which applies the throttle that all instances share."""

        def create() -> ThrottledGraphClient:
            return ThrottledGraphClient(self.graph_client, self.ledger.throttle)

        return self._part("graph", create)

    @property
    def graph_client(self) -> GraphBillingClient:
        """The client without the throttle, for the preflight."""

        def create() -> GraphBillingClient:
            from shared.graph.client import GraphBillingClient

            return GraphBillingClient(
                base_url=self.settings.graph_base_url,
                credential=self._graph_credential,
                clock=self.clock,
            )

        return self._part("graph_client", create)

    @property
    def health(self) -> HealthCheck:
        return self._part("health", lambda: HealthCheck(self.ledger, self.clock))

    @property
    def operations(self) -> ExportOperations:
        return self._part(
            "operations", lambda: ExportOperations(self.settings, self.ledger, self.graph)
        )

    @property
    def planner(self) -> Planner:
        def create() -> Planner:
            return Planner(
                self.settings,
                self.ledger,
                lambda: self.partner_center.list_invoices(),
                lambda: self.tie_outs.publish_changes(),
            )

        return self._part("planner", create)

    @property
    def tie_outs(self) -> TieOuts:
        def create() -> TieOuts:
            from shared.tie_out.tie_outs import TieOuts

            return TieOuts(self.ledger, self.landing)

        return self._part("tie_outs", create)

    @property
    def partner_center(self) -> PartnerCenterClient:
        def create() -> PartnerCenterClient:
            from shared.partner_center.client import PartnerCenterClient

            return PartnerCenterClient(
                base_url=self.settings.partner_center_base_url,
                credential=self._partner_center_credential,
                clock=self.clock,
            )

        return self._part("partner_center", create)

    @property
    def manifests(self) -> ManifestCache:
        def create() -> ManifestCache:
            from shared.transfer.manifest_cache import ManifestCache

            return ManifestCache(self.fetch_manifest, self.clock)

        return self._part("manifests", create)

    @property
    def copier(self) -> Copier:
        def create() -> Copier:
            from shared.transfer.copier import Copier

            return Copier(
                self.landing,
                self.manifests,
                self.clock,
                max_concurrency=self.settings.copy_concurrency,
            )

        return self._part("copier", create)

    @property
    def preflight(self) -> Preflight:
        """The preflight of this app, which uses the same clients as the runs."""

        def create() -> Preflight:
            from shared.preflight.context import PreflightContext
            from shared.preflight.preflight import Preflight

            return Preflight(
                PreflightContext(
                    settings=self.settings,
                    clock=self.clock,
                    machine_clock=SystemClock(),
                    graph=self.graph_client,
                    landing=self.landing,
                    ledger=self.ledger,
                    source_rules=self.rules,
                    environment=os.environ,
                    graph_credential=self._graph_credential,
                    storage_credential=None
                    if self.settings.landing_storage
                    else self._storage_credential,
                    list_invoices=self.partner_center.list_invoices
                    if self.settings.invoice_source == "partner_center"
                    else None,
                )
            )

        return self._part("preflight", create)

    async def fetch_manifest(self, operation_id: str) -> Manifest:
        """Return the manifest, after every check that does not require an export key."""
        manifest = await self.graph.get_manifest(operation_id)
        validate_location(manifest, self.rules)
        return manifest

    @property
    def _storage_credential(self) -> AsyncTokenCredential:
        def create() -> AsyncTokenCredential:
            from shared.identity import create_storage_credential

            return create_storage_credential(self.settings.azure_client_id)

        return self._part("storage_credential", create)

    @property
    def _graph_credential(self) -> AsyncTokenCredential | None:
        def create() -> AsyncTokenCredential | None:
            from shared.identity import create_credential

            return create_credential(
                self.settings.graph_base_url,
                managed_identity_client_id=self.settings.azure_client_id,
                partner_tenant_id=self.settings.partner_tenant_id,
                partner_app_client_id=self.settings.partner_app_client_id,
            )

        return self._part("graph_credential", create)

    @property
    def _partner_center_credential(self) -> AsyncTokenCredential | None:
        def create() -> AsyncTokenCredential | None:
            from shared.identity import create_credential

            return create_credential(
                self.settings.partner_center_base_url,
                managed_identity_client_id=self.settings.azure_client_id,
                partner_tenant_id=self.settings.partner_tenant_id,
                partner_app_client_id=self.settings.partner_center_app_client_id,
            )

        return self._part("partner_center_credential", create)

    async def close(self) -> None:
        """Close all connections. A part is created again at its next use."""
        parts, self._parts = self._parts, {}
        for part in parts.values():
            close = getattr(part, "close", None)
            if close is not None:
                await close()


_lock = threading.Lock()
_installed: list[Services] = []


def services() -> Services:
    """Return the services of the process, created from the environment on first use."""
    with _lock:
        if not _installed:
            _installed.append(Services(get_settings()))
        return _installed[0]


def install(replacement: Services | None) -> None:
    """Replace the services of the process, or remove the replacement with None. For tests."""
    with _lock:
        _installed[:] = [replacement] if replacement is not None else []
