"""A patient on this machine, whole; tests take one thing away."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import AccountSasPermissions as TablePermissions
from azure.data.tables import ResourceTypes as TableTypes
from azure.data.tables import generate_account_sas as table_sas
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

Examine = Callable[[PreflightContext], Awaitable[dict[str, Any]]]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    return Simulator(storage=NoStorage())


@pytest.fixture
def graph_origin(simulator: Simulator) -> Iterator[str]:
    with simulator.serving() as origin:
        yield origin


@pytest.fixture
async def whole(
    azurite: Azurite, graph_origin: str, container: str
) -> AsyncIterator[PreflightContext]:
    """Everything is set up right. The container is there, as `make` or the first run leaves it."""
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
        machine=clock,
        graph=GraphBillingClient(base_url=f"{graph_origin}/v1.0", credential=None, clock=clock),
        landing=LandingStore(container=container, connection_string=connection),
        ledger=Ledger(Tables(container, connection_string=connection), clock, hub="Tests"),
        rules=create_source_rules(settings.source_allowed, None, loopback=True),
        environment={"AzureWebJobsStorage": azurite.funchost.connection_string},
    )


@pytest.fixture
async def examine(azurite: Azurite, container: str) -> AsyncIterator[Examine]:
    """The report of a patient; afterwards nothing is left of it in container and tables."""

    async def examine(parts: PreflightContext) -> dict[str, Any]:
        report = await Preflight(parts, seconds=8).run()
        await parts.graph.close()
        await parts.landing.close()
        await parts.ledger.close()
        return report

    yield examine
    connection = azurite.landing.connection_string
    async with ContainerClient.from_connection_string(connection, container) as client:
        assert not await client.exists() or [blob.name async for blob in client.list_blobs()] == []
    tables = Tables(container, connection_string=connection)
    assert [row async for row in tables.list("locks", "preflight")] == []
    await tables.close()


def red(report: dict[str, Any]) -> dict[str, str]:
    return {
        check["name"]: check["code"]
        for check in report["checks"]
        if check["status"] in ("fail", "warn")
    }


def facts_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(check["facts"] for check in report["checks"] if check["name"] == name))


def without(account: Account, right: str) -> str:
    """A connection string whose signature allows all but one right: `write`, `delete`, `list`, `read` and so on."""
    rights = {
        name: name != right
        for name in ("read", "write", "delete", "list", "add", "create", "update")
    }
    until = datetime.now(UTC) + timedelta(hours=1)
    blob_rights = {name: on for name, on in rights.items() if name not in ("add", "update")}
    if right == "write":
        blob_rights["create"] = False  # either of them lets a new blob be written
    blob = generate_account_sas(
        account.name,
        account.key,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(**blob_rights),
        until,
        services=Services(blob=True),
    )
    return (
        f"AccountName={account.name};BlobEndpoint={account.blob_url};SharedAccessSignature={blob}"
    )


def tables_without(account: Account, right: str) -> str:
    rights = {
        name: name != right
        for name in ("read", "write", "delete", "list", "add", "create", "update")
    }
    if right == "create":
        rights["write"] = False  # either of them lets tables be made
    table = table_sas(
        AzureNamedKeyCredential(account.name, account.key),
        TableTypes(service=True, container=True, object=True),
        TablePermissions(**rights),
        datetime.now(UTC) + timedelta(hours=1),
    )
    return f"AccountName={account.name};TableEndpoint={account.table_url};SharedAccessSignature={table}"


def host_without(account: Account, service: str) -> str:
    """The host's storage by a signature that leaves one of its services out."""
    services = Services(blob=True)
    services._str = "bqt".replace(service[0], "")  # the SDK of blobs knows no tables
    signed = generate_account_sas(
        account.name,
        account.key,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, list=True),
        datetime.now(UTC) + timedelta(hours=1),
        services=services,
    )
    return (
        f"AccountName={account.name};BlobEndpoint={account.blob_url};QueueEndpoint={account.queue_url};"
        f"TableEndpoint={account.table_url};SharedAccessSignature={signed}"
    )


def with_landing(
    parts: PreflightContext, connection: str, **client_settings: Any
) -> PreflightContext:
    container = parts.settings.landing_container
    return replace(
        parts,
        landing=LandingStore(container=container, connection_string=connection, **client_settings),
    )


def with_tables(
    parts: PreflightContext, connection: str, **client_settings: Any
) -> PreflightContext:
    tables = Tables(
        parts.settings.landing_table_prefix, connection_string=connection, **client_settings
    )
    return replace(parts, ledger=Ledger(tables, parts.clock, hub="Tests"))
