"""The app's own storage, where the host keeps timers, leases and orchestrations. Only the host talks to it; the doctor asks
each of its three services for the shortest list there is, the way in being the one that the host has been given.

    AzureWebJobsStorage                                    a connection string with a key or a signature
    AzureWebJobsStorage__accountName                       by identity; or __blobServiceUri and the two others
    AzureWebJobsStorage__clientId                          which identity; without it that of the app
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx

from shared.identity import STORAGE_SCOPE, create_storage_credential, get_access_token
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, ok, unknown
from shared.redaction import SAFE_TOKEN

if TYPE_CHECKING:
    from shared.clock import Clock

NAME = "AzureWebJobsStorage"
LISTS = {
    "blob": "/?comp=list&maxresults=1",
    "queue": "/?comp=list&maxresults=1",
    "table": "/Tables?$top=1",
}
API_VERSION = "2021-12-02"
SECONDS = 10.0


@dataclass(frozen=True)
class StorageAccess:
    """`urls` by service, without a slash at the end. Exactly one of `key`, `signature` and `by_identity`."""

    urls: Mapping[str, str]
    account: str = ""
    key: str = field(default="", repr=False)
    signature: str = field(default="", repr=False)
    by_identity: bool = False


async def host_storage(parts: PreflightContext) -> Finding:
    way = parse_storage_access(parts.environment)
    if way is None:
        return unknown("host_storage_unknown")
    async with AsyncExitStack() as opened:
        headers = {"x-ms-version": API_VERSION, "Accept": "application/json;odata=nometadata"}
        if way.by_identity:
            credential = parts.host_credential
            if credential is None:
                credential = create_storage_credential(parts.environment.get(f"{NAME}__clientId"))
                opened.push_async_callback(credential.close)
            headers["Authorization"] = f"Bearer {await get_access_token(credential, STORAGE_SCOPE)}"
        client = await opened.enter_async_context(
            httpx.AsyncClient(
                transport=parts.transport,
                timeout=SECONDS,
                follow_redirects=False,
                headers=headers,
                trust_env=False,
            )
        )
        services = list(way.urls)
        answers = await asyncio.gather(
            *(_asked(client, way, service, parts.machine) for service in services)
        )
    said = dict(zip(services, answers, strict=True))
    refused = {service: text for service, text in said.items() if text != "200"}
    if not refused:
        return ok(**said)
    return fail(
        "host_storage_unreachable" if "no answer" in refused.values() else "host_storage_forbidden",
        **said,
    )


async def _asked(
    client: httpx.AsyncClient, way: StorageAccess, service: str, machine: "Clock"
) -> str:
    """What the service says to the shortest list: its status, and its error code where it has one."""
    url = way.urls[service] + LISTS[service]
    signature = way.signature or (_signed(way, service, machine) if way.key else "")
    try:
        answer = await client.get(f"{url}&{signature}" if signature else url)
    except (httpx.HTTPError, OSError):
        return "no answer"
    code = answer.headers.get("x-ms-error-code", "")
    return (
        f"{answer.status_code} {code}"
        if SAFE_TOKEN.fullmatch(code) and answer.status_code != 200
        else str(answer.status_code)
    )


def _signed(way: StorageAccess, service: str, machine: "Clock") -> str:
    """A signature that lists this one service, for as long as the check may last."""
    until = machine.now() + timedelta(minutes=10)
    if service == "table":
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.data.tables import AccountSasPermissions as TablePermissions
        from azure.data.tables import ResourceTypes as TableTypes
        from azure.data.tables import generate_account_sas as for_tables

        return str(
            for_tables(
                AzureNamedKeyCredential(way.account, way.key),
                TableTypes(service=True, container=True),
                TablePermissions(list=True),
                until,
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
            way.account,
            way.key,
            ResourceTypes(service=True),
            AccountSasPermissions(list=True),
            until,
            services=Services(blob=service == "blob", queue=service == "queue"),
        )
    )


def parse_storage_access(environment: Mapping[str, str]) -> StorageAccess | None:
    """As the host reads it; None where it has none, or one in a form that is not known here.

    >>> parse_storage_access({"AzureWebJobsStorage__accountName": "mine"}).urls["queue"]
    'https://mine.queue.core.windows.net'
    """
    text = environment.get(NAME, "").strip()
    if not text:
        return _by_identity(environment)
    said = {
        name.strip().lower(): value.strip()
        for name, _, value in (part.partition("=") for part in text.split(";"))
    }
    account, key, signature = (
        said.get("accountname", ""),
        said.get("accountkey", ""),
        said.get("sharedaccesssignature", ""),
    )
    suffix = said.get("endpointsuffix", "core.windows.net")
    urls = {
        service: said.get(f"{service}endpoint", "").rstrip("/")
        or f"https://{account}.{service}.{suffix}"
        for service in LISTS
    }
    if (
        signature
        and parse_qs(signature.lstrip("?")).get("sig")
        and (account or all(f"{s}endpoint" in said for s in LISTS))
    ):
        return StorageAccess(urls, account, signature=signature.lstrip("?"))
    return StorageAccess(urls, account, key=key) if account and key else None


def _by_identity(environment: Mapping[str, str]) -> StorageAccess | None:
    account = environment.get(f"{NAME}__accountName", "").strip()
    urls = {
        service: environment.get(f"{NAME}__{service}ServiceUri", "").strip().rstrip("/")
        or (f"https://{account}.{service}.core.windows.net" if account else "")
        for service in LISTS
    }
    named = {service: url for service, url in urls.items() if url.startswith("https://")}
    return StorageAccess(named, account, by_identity=True) if named else None
