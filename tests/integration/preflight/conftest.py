"""A valid preflight context; each test removes one permission or service."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from azure.storage.blob.aio import ContainerClient

from local.azurite import Azurite
from local.simulator import NoStorage, Simulator
from shared.clock import SystemClock
from shared.graph.client import GraphBillingClient
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.manifest import create_source_rules
from shared.preflight.context import PreflightContext
from shared.preflight.preflight import Preflight
from shared.settings import load_settings
from tests.integration.preflight.contexts import RunPreflight


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    return Simulator(storage=NoStorage())


@pytest.fixture
def graph_origin(simulator: Simulator) -> Iterator[str]:
    with simulator.serving() as origin:
        yield origin


@pytest.fixture
async def context(
    azurite: Azurite, graph_origin: str, container: str
) -> AsyncIterator[PreflightContext]:
    """Return a context in which all checks succeed, with an existing container."""
    connection = azurite.landing.connection_string
    async with ContainerClient.from_connection_string(connection, container) as client:
        await client.create_container()
    settings, clock = (
        load_settings(
            {
                "GRAPH_BASE_URL": f"{graph_origin}/v1.0",
                "LANDING_STORAGE": connection,
                "SOURCE_ALLOWED": azurite.blob_origin,
                "INVOICE_SOURCE": "list",
                "INVOICE_IDS": "G016907411",
                "EXPORT_CURRENCIES": "USD",
                "LANDING_CONTAINER": container,
                "LANDING_TABLE_PREFIX": container,
            }
        ),
        SystemClock(),
    )
    return PreflightContext(
        settings=settings,
        clock=clock,
        machine_clock=clock,
        graph=GraphBillingClient(base_url=f"{graph_origin}/v1.0", credential=None, clock=clock),
        landing=LandingStore(container=container, connection_string=connection),
        ledger=Ledger(Tables(container, connection_string=connection), clock, hub="Tests"),
        source_rules=create_source_rules(settings.source_allowed, None, loopback=True),
        environment={"AzureWebJobsStorage": azurite.funchost.connection_string},
    )


@pytest.fixture
async def run_preflight(azurite: Azurite, container: str) -> AsyncIterator[RunPreflight]:
    """Return a function that runs the preflight; afterwards, verify that no probe remains."""

    async def run_preflight(context: PreflightContext) -> dict[str, Any]:
        report = await Preflight(context, timeout_seconds=8).run()
        await context.graph.close()
        await context.landing.close()
        await context.ledger.close()
        return report

    yield run_preflight
    connection = azurite.landing.connection_string
    async with ContainerClient.from_connection_string(connection, container) as client:
        assert not await client.exists() or [blob.name async for blob in client.list_blobs()] == []
    tables = Tables(container, connection_string=connection)
    assert [row async for row in tables.list("locks", "preflight")] == []
    await tables.close()
