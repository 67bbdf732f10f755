"""Checks the storage of the Functions host, which contains timers, leases and orchestrations.

Only the host uses this storage. The check requests the shortest list of each of its services with
the access that the host has:

    AzureWebJobsStorage                  a connection string with a key or a signature
    AzureWebJobsStorage__accountName     managed identity, or __blobServiceUri, __queueServiceUri
                                         and __tableServiceUri
    AzureWebJobsStorage__clientId        the managed identity; the default is that of the app
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx

from shared.http.bounded_client import create_http_client
from shared.identity import STORAGE_SCOPE, create_storage_credential, get_access_token
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, ok, unknown
from shared.redaction import SAFE_TOKEN

if TYPE_CHECKING:
    from shared.clock import Clock

SETTING = "AzureWebJobsStorage"
LIST_PATHS = {
    "blob": "/?comp=list&maxresults=1",
    "queue": "/?comp=list&maxresults=1",
    "table": "/Tables?$top=1",
}
API_VERSION = "2021-12-02"
REQUEST_TIMEOUT_SECONDS = 10.0
MAX_RESPONSE_BYTES = 1024 * 1024  # of a list with one entry
SIGNATURE_LIFETIME = timedelta(minutes=10)
NO_RESPONSE = "no response"


@dataclass(frozen=True)
class StorageAccess:
    """Access to a storage account; exactly one of `key`, `signature` and `uses_identity` is set.

    `urls` contains the URL of each service without a trailing slash.
    """

    urls: Mapping[str, str]
    account: str = ""
    key: str = field(default="", repr=False)
    signature: str = field(default="", repr=False)
    uses_identity: bool = False


async def check_host_storage(context: PreflightContext) -> Finding:
    """Send one list request to each service; the facts contain the status of each response."""
    access = parse_storage_access(context.environment)
    if access is None:
        return unknown("host_storage_unknown")
    async with AsyncExitStack() as stack:
        headers = {"x-ms-version": API_VERSION, "Accept": "application/json;odata=nometadata"}
        if access.uses_identity:
            credential = context.host_credential
            if credential is None:
                client_id = context.environment.get(f"{SETTING}__clientId")
                credential = create_storage_credential(client_id)
                stack.push_async_callback(credential.close)
            token = await get_access_token(credential, STORAGE_SCOPE)
            headers["Authorization"] = f"Bearer {token}"
        client = await stack.enter_async_context(
            create_http_client(
                context.host_transport,
                timeout_seconds=REQUEST_TIMEOUT_SECONDS,
                max_response_bytes=MAX_RESPONSE_BYTES,
            )
        )
        client.headers.update(headers)
        results = await asyncio.gather(
            *(_send(client, access, service, context.machine_clock) for service in access.urls)
        )
    facts = dict(zip(access.urls, results, strict=True))
    failures = {result for result in results if result != "200"}
    if not failures:
        return ok(**facts)
    if NO_RESPONSE in failures:
        return fail("host_storage_unreachable", **facts)
    return fail("host_storage_forbidden", **facts)


async def _send(
    client: httpx.AsyncClient, access: StorageAccess, service: str, machine_clock: "Clock"
) -> str:
    """Return the status of the service, with its error code if there is one."""
    url = access.urls[service] + LIST_PATHS[service]
    signature = access.signature or (_sign(access, service, machine_clock) if access.key else "")
    try:
        response = await client.get(f"{url}&{signature}" if signature else url)
    except (httpx.HTTPError, OSError):
        return NO_RESPONSE
    code = response.headers.get("x-ms-error-code", "")
    if response.status_code != 200 and SAFE_TOKEN.fullmatch(code):
        return f"{response.status_code} {code}"
    return str(response.status_code)


def _sign(access: StorageAccess, service: str, machine_clock: "Clock") -> str:
    """Return a SAS that permits only lists of `service` for the duration of the check."""
    expiry = machine_clock.now() + SIGNATURE_LIFETIME
    if service == "table":
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.data.tables import AccountSasPermissions as TablePermissions
        from azure.data.tables import ResourceTypes as TableResourceTypes
        from azure.data.tables import generate_account_sas as generate_table_sas

        return str(
            generate_table_sas(
                AzureNamedKeyCredential(access.account, access.key),
                TableResourceTypes(service=True, container=True),
                TablePermissions(list=True),
                expiry,
            )
        )
    from azure.storage.blob import (
        AccountSasPermissions,
        ResourceTypes,
        Services,
        generate_account_sas,
    )

    return str(
        generate_account_sas(
            access.account,
            access.key,
            ResourceTypes(service=True),
            AccountSasPermissions(list=True),
            expiry,
            services=Services(blob=service == "blob", queue=service == "queue"),
        )
    )


def parse_storage_access(environment: Mapping[str, str]) -> StorageAccess | None:
    """Return the access that the host uses, or None if it is missing or has an unsupported form.

    >>> parse_storage_access({"AzureWebJobsStorage__accountName": "funchost"}).urls["queue"]
    'https://funchost.queue.core.windows.net'
    """
    connection_string = environment.get(SETTING, "").strip()
    if not connection_string:
        return _parse_identity_access(environment)
    pairs = (part.partition("=") for part in connection_string.split(";"))
    members = {name.strip().lower(): value.strip() for name, _, value in pairs}
    account, key = members.get("accountname", ""), members.get("accountkey", "")
    signature = members.get("sharedaccesssignature", "").lstrip("?")
    suffix = members.get("endpointsuffix", "core.windows.net")
    urls = {
        service: members.get(f"{service}endpoint", "").rstrip("/")
        or f"https://{account}.{service}.{suffix}"
        for service in LIST_PATHS
    }
    has_urls = bool(account) or all(f"{service}endpoint" in members for service in LIST_PATHS)
    if has_urls and parse_qs(signature).get("sig"):
        return StorageAccess(urls, account, signature=signature)
    return StorageAccess(urls, account, key=key) if account and key else None


def _parse_identity_access(environment: Mapping[str, str]) -> StorageAccess | None:
    account = environment.get(f"{SETTING}__accountName", "").strip()
    urls = {
        service: environment.get(f"{SETTING}__{service}ServiceUri", "").strip().rstrip("/")
        or (f"https://{account}.{service}.core.windows.net" if account else "")
        for service in LIST_PATHS
    }
    valid_urls = {service: url for service, url in urls.items() if url.startswith("https://")}
    return StorageAccess(valid_urls, account, uses_identity=True) if valid_urls else None
