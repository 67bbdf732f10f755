"""Changes to a valid preflight context, and parts of its report."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import AccountSasPermissions as TablePermissions
from azure.data.tables import ResourceTypes as TableTypes
from azure.data.tables import generate_account_sas as generate_table_sas
from azure.storage.blob import AccountSasPermissions, ResourceTypes, Services, generate_account_sas

from local.azurite import Account
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.preflight.context import PreflightContext

RunPreflight = Callable[[PreflightContext], Awaitable[dict[str, Any]]]


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
