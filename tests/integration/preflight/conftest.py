"""A valid preflight context; each test removes one permission or service."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import AccountSasPermissions as TablePermissions
from azure.data.tables import ResourceTypes as TableTypes
from azure.data.tables import generate_account_sas as generate_table_sas
from azure.storage.blob import AccountSasPermissions, ResourceTypes, Services, generate_account_sas
from azure.storage.blob.aio import ContainerClient

from local.azurite import Account, Azurite
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

RunPreflight = Callable[[PreflightContext], Awaitable[dict[str, Any]]]


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


def get_problems(report: dict[str, Any]) -> dict[str, str]:
    return {
        check["name"]: check["code"]
        for check in report["checks"]
        if check["status"] in ("fail", "warn")
    }


def get_facts(report: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(check["facts"] for check in report["checks"] if check["name"] == name))


def connection_without(account: Account, permission: str) -> str:
    """Return a connection string whose SAS permits everything except `permission`."""
    permissions = {
        name: name != permission
        for name in ("read", "write", "delete", "list", "add", "create", "update")
    }
    expiry = datetime.now(UTC) + timedelta(hours=1)
    blob_permissions = {
        name: on for name, on in permissions.items() if name not in ("add", "update")
    }
    if permission == "write":
        blob_permissions["create"] = False  # either permission allows a new blob
    blob_sas = generate_account_sas(
        account.name,
        account.key,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(**blob_permissions),
        expiry,
        services=Services(blob=True),
    )
    return (
        f"AccountName={account.name};BlobEndpoint={account.blob_url};"
        f"SharedAccessSignature={blob_sas}"
    )


def tables_connection_without(account: Account, permission: str) -> str:
    permissions = {
        name: name != permission
        for name in ("read", "write", "delete", "list", "add", "create", "update")
    }
    if permission == "create":
        permissions["write"] = False  # either permission allows new tables
    table_sas = generate_table_sas(
        AzureNamedKeyCredential(account.name, account.key),
        TableTypes(service=True, container=True, object=True),
        TablePermissions(**permissions),
        datetime.now(UTC) + timedelta(hours=1),
    )
    return (
        f"AccountName={account.name};TableEndpoint={account.table_url};"
        f"SharedAccessSignature={table_sas}"
    )


def host_connection_without(account: Account, service: str) -> str:
    """Return a connection string whose SAS permits all services except `service`."""
    services = Services(blob=True)
    services._str = "bqt".replace(service[0], "")  # the blob SDK has no option for tables
    sas = generate_account_sas(
        account.name,
        account.key,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, list=True),
        datetime.now(UTC) + timedelta(hours=1),
        services=services,
    )
    return (
        f"AccountName={account.name};BlobEndpoint={account.blob_url};"
        f"QueueEndpoint={account.queue_url};TableEndpoint={account.table_url};"
        f"SharedAccessSignature={sas}"
    )


def with_landing(
    context: PreflightContext, connection: str, **client_settings: Any
) -> PreflightContext:
    container = context.settings.landing_container
    return replace(
        context,
        landing=LandingStore(container=container, connection_string=connection, **client_settings),
    )


def with_tables(
    context: PreflightContext, connection: str, **client_settings: Any
) -> PreflightContext:
    tables = Tables(
        context.settings.landing_table_prefix, connection_string=connection, **client_settings
    )
    return replace(context, ledger=Ledger(tables, context.clock, hub="Tests"))
