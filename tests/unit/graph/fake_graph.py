"""A fake Microsoft Graph with prepared responses."""

import json
from pathlib import Path
from typing import Any

import httpx

from shared.exports import ExportKey
from shared.graph.client import GraphBillingClient
from tests.support.fake_service import LOOPBACK_ORIGIN, FakeCredential, FakeService

GRAPH = "https://graph.microsoft.com/v1.0"
LOOPBACK = f"{LOOPBACK_ORIGIN}/v1.0"
OPERATION = "9ab9cb54-d07f-4f52-9ea6-a09d7de52c14"
LOCATION = f"{GRAPH}/reports/partners/billing/operations/{OPERATION}"
BILLED = ExportKey.parse("billed_usage/G016907411/full")


def payload(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "payloads" / f"{name}.json").read_text())  # type: ignore[no-any-return]


def inline_operation(**changes: Any) -> dict[str, Any]:
    """Return a succeeded operation with an inline manifest and `changes` to its members."""
    operation = payload("linked")
    del operation["resourceLocation@odata.navigationLink"]
    return operation | {"resourceLocation": payload("manifest")} | changes


class FakeGraph(FakeService):
    """The export API of Microsoft Graph."""

    def create_client(
        self, base_url: str = GRAPH, credential: Any = None, **options: Any
    ) -> GraphBillingClient:
        return GraphBillingClient(
            base_url=base_url,
            credential=credential or FakeCredential(),
            **self.client_options,
            **options,
        )

    @property
    def paths(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def accepted_response(**headers: str) -> httpx.Response:
    return httpx.Response(202, headers={"Location": LOCATION, **headers})
