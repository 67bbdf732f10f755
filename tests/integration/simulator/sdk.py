"""Exports data with the msgraph SDK, without its retries: start, poll and manifest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import httpx
from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_http.middleware.options import HeadersInspectionHandlerOption, RetryHandlerOption
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.partners.billing.attribute_set import AttributeSet
from msgraph.generated.models.partners.billing.billing_period import BillingPeriod
from msgraph.generated.models.partners.billing.manifest import Manifest
from msgraph.generated.models.partners.billing.running_operation import RunningOperation
from msgraph_core import GraphClientFactory

NO_RETRY = RetryHandlerOption(max_retries=0, should_retry=False)


@asynccontextmanager
async def sdk_client(base_url: str) -> AsyncIterator[GraphServiceClient]:
    transport = httpx.AsyncHTTPTransport()
    http = GraphClientFactory.create_with_default_middleware(
        client=httpx.AsyncClient(timeout=20, transport=transport),
        options={RetryHandlerOption.get_key(): NO_RETRY},
    )
    adapter = GraphRequestAdapter(AnonymousAuthenticationProvider(), client=http)
    adapter.base_url = f"{base_url}/v1.0"
    try:
        yield GraphServiceClient(request_adapter=adapter)
    finally:
        await http.aclose()
        await transport.aclose()  # the SDK's transport does not close the transport that it wraps


async def start(client: GraphServiceClient, key: str, current_month: str) -> str:
    """Start an export and return the ID of its operation."""
    dataset, *scope, attribute_set = key.split("/")
    billing: Any = client.reports.partners.billing
    state, family = dataset.split("_")
    node = getattr(getattr(billing, family), state).microsoft_graph_partners_billing_export
    module: Any = import_module(
        f"msgraph.generated.reports.partners.billing.{family}.{state}"
        ".microsoft_graph_partners_billing_export.export_post_request_body"
    )
    body = module.ExportPostRequestBody(attribute_set=AttributeSet(attribute_set))
    if state == "billed":
        body.invoice_id = scope[0]
    else:
        body.billing_period, body.currency_code = (
            BillingPeriod("current" if scope[0] == current_month else "last"),
            scope[1],
        )
    seen = HeadersInspectionHandlerOption()
    await node.post(body, RequestConfiguration(options=[seen, NO_RETRY]))
    location = next(iter(seen.response_headers.get("location")))
    return urlsplit(location).path.rsplit("/", 1)[-1]


async def manifest(client: GraphServiceClient, operation_id: str) -> Manifest:
    """Poll without delay and return the manifest, directly or from its link."""
    billing: Any = client.reports.partners.billing
    while isinstance(
        operation := await billing.operations.by_operation_id(operation_id).get(), RunningOperation
    ):
        pass
    if operation.resource_location is not None:
        return operation.resource_location
    link = operation.additional_data["resourceLocation@odata.navigationLink"]
    return await billing.manifests.by_manifest_id(link.rsplit("/", 1)[-1]).get()
