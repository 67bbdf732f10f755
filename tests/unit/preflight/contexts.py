"""A patient on Azure in every way but one: credentials, Graph and storage at their transports. Nothing is listening."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
from azure.core.credentials import AccessToken

from shared.graph.client import GraphBillingClient
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.manifest import create_source_rules
from shared.preflight.context import PreflightContext
from shared.preflight.preflight import Check, Preflight
from shared.settings import load_settings

GRAPH = "https://graph.microsoft.com/v1.0"
TENANT = "3d8a1c5e-6f20-4b7d-9a41-c0de5eed0001"
NOBODY = "https://127.0.0.1:9"  # the discard port: nobody listens
SENTINEL = "SENTINEL"
ENVIRONMENT = {
    "PARTNER_TENANT_ID": TENANT,
    "INVOICE_SOURCE": "list",
    "INVOICE_IDS": "G016907411",
    "EXPORT_CURRENCIES": "USD",
    "LANDING_STORAGE__blobServiceUri": "https://landing.blob.core.windows.net",
    "LANDING_STORAGE__tableServiceUri": "https://landing.table.core.windows.net",
}


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 8, 9, 37, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


def jwt(**claims: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.{SENTINEL}"


class Credential:
    def __init__(self, token: str | None = None) -> None:
        self.token, self.scopes = token, list[str]()

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.scopes += scopes
        if self.token is None:
            raise RuntimeError(f"ManagedIdentityCredential: {SENTINEL}")
        return AccessToken(self.token, 4_000_000_000)

    async def close(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


def refusal(status: int) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": "Refused", "message": SENTINEL}})


def patient(
    *,
    token: str | None = None,
    graph: httpx.Response | Exception | None = None,
    storage_token: str | None = "opaque",
    host: Mapping[str, httpx.Response] | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> PreflightContext:
    """`token` None: there is none for Graph. `graph`: its answer, 404 where none is given. `host`: by service."""

    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(graph, Exception):
            raise graph
        return graph or refusal(404)

    def answer_for_host(request: httpx.Request) -> httpx.Response:
        return (host or {}).get(request.url.host.split(".")[1], httpx.Response(200))

    chosen = load_settings({**ENVIRONMENT, **settings})
    identity, storage, clock = Credential(token), Credential(storage_token), Clock()
    return PreflightContext(
        settings=chosen,
        clock=clock,
        machine=clock,
        graph=GraphBillingClient(
            base_url=GRAPH, credential=identity, clock=clock, transport=httpx.MockTransport(answer)
        ),
        landing=LandingStore(container="billing", account_url=NOBODY, credential=storage),
        ledger=Ledger(
            Tables("none", endpoint=NOBODY, credential=storage, retry_total=0), clock, hub="Tests"
        ),
        rules=create_source_rules(chosen.source_allowed, TENANT, loopback=False),
        environment={"AzureWebJobsStorage__accountName": "mine", **(environment or {})},
        graph_credential=identity,
        storage_credential=storage,
        host_credential=storage,
        transport=httpx.MockTransport(answer_for_host),
    )


async def examined(
    parts: PreflightContext, checks: tuple[Check, ...], **options: Any
) -> dict[str, dict[str, Any]]:
    """The checks by name; the report holds no word of a library, no token and no address."""
    report = await Preflight(parts, checks, **options).run()
    await parts.graph.close()
    await parts.landing.close()
    await parts.ledger.close()
    assert SENTINEL not in json.dumps(report)
    return {check["name"]: check for check in report["checks"]}


def red(checks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        name: check["code"] for name, check in checks.items() if check["status"] in ("fail", "warn")
    }


def with_environment(parts: PreflightContext, **environment: str) -> PreflightContext:
    return replace(parts, environment=environment)
