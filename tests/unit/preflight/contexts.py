"""Preflight contexts with fake credentials and fake HTTP transports."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from shared.graph.client import GraphBillingClient
from shared.landing.store import LandingStore
from shared.ledger.ledger import Ledger
from shared.ledger.tables import Tables
from shared.manifest import create_source_rules
from shared.preflight.context import PreflightContext
from shared.preflight.preflight import Check, Preflight
from shared.settings import load_settings
from tests.support.clocks import FakeClock
from tests.support.fake_service import NOW, SENTINEL, FakeCredential

GRAPH = "https://graph.microsoft.com/v1.0"
TENANT = "3d8a1c5e-6f20-4b7d-9a41-c0de5eed0001"
UNREACHABLE_URL = "https://127.0.0.1:9"  # the discard port, on which no service listens
ENVIRONMENT = {
    "PARTNER_TENANT_ID": TENANT,
    "INVOICE_SOURCE": "list",
    "INVOICE_IDS": "G016907411",
    "EXPORT_CURRENCIES": "USD",
    "LANDING_STORAGE__blobServiceUri": "https://landing.blob.core.windows.net",
    "LANDING_STORAGE__tableServiceUri": "https://landing.table.core.windows.net",
}


def jwt(**claims: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.{SENTINEL}"


def create_credential(token: str | None) -> FakeCredential:
    """Return a credential that returns `token`; without a token, it raises an error."""
    if token is None:
        return FakeCredential(error=RuntimeError(f"ManagedIdentityCredential: {SENTINEL}"))
    return FakeCredential(token)


def error_response(status: int) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": "Refused", "message": SENTINEL}})


def create_context(
    *,
    token: str | None = None,
    graph: httpx.Response | Exception | None = None,
    storage_token: str | None = "opaque",
    host: Mapping[str, httpx.Response] | None = None,
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> PreflightContext:
    """Return a context with a valid configuration that the arguments modify.

    If `token` is None, the app cannot obtain a token for Graph. `graph` is the response from Graph
    (404 by default), and `host` contains the responses from the host storage by service.
    """

    def send_graph_response(request: httpx.Request) -> httpx.Response:
        if isinstance(graph, Exception):
            raise graph
        return graph or error_response(404)

    def send_host_response(request: httpx.Request) -> httpx.Response:
        return (host or {}).get(request.url.host.split(".")[1], httpx.Response(200))

    app_settings = load_settings({**ENVIRONMENT, **settings})
    identity, storage, clock = (
        create_credential(token),
        create_credential(storage_token),
        FakeClock(NOW),
    )
    return PreflightContext(
        settings=app_settings,
        clock=clock,
        machine_clock=clock,
        graph=GraphBillingClient(
            base_url=GRAPH,
            credential=identity,
            clock=clock,
            transport=httpx.MockTransport(send_graph_response),
        ),
        landing=LandingStore(container="billing", account_url=UNREACHABLE_URL, credential=storage),
        ledger=Ledger(
            Tables("none", endpoint=UNREACHABLE_URL, credential=storage, retry_total=0),
            clock,
            hub="Tests",
        ),
        source_rules=create_source_rules(app_settings.source_allowed, TENANT, loopback=False),
        environment={"AzureWebJobsStorage__accountName": "funchost", **(environment or {})},
        graph_credential=identity,
        storage_credential=storage,
        host_credential=storage,
        host_transport=httpx.MockTransport(send_host_response),
    )


async def run_checks(
    context: PreflightContext, checks: tuple[Check, ...], **options: Any
) -> dict[str, dict[str, Any]]:
    """Return the checks by name; verify that the report contains no token or library message."""
    report = await Preflight(context, checks, **options).run()
    await context.graph.close()
    await context.landing.close()
    await context.ledger.close()
    assert SENTINEL not in json.dumps(report)
    return {check["name"]: check for check in report["checks"]}


def get_problems(checks: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        name: check["code"] for name, check in checks.items() if check["status"] in ("fail", "warn")
    }


def with_environment(context: PreflightContext, **environment: str) -> PreflightContext:
    return replace(context, environment=environment)
