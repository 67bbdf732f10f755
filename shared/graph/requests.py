"""Requests to Microsoft Graph, built with msgraph-sdk.

This module is imported at the first request. The native response handler returns the httpx
response for every status and parses no model, so that status, headers and body belong to one
response even with concurrent requests. The SDK's inspection options do not guarantee that: they can
keep the headers of a first attempt or lose the body to another context.
"""

from typing import TYPE_CHECKING, Any, Literal, cast

import httpx
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.headers_collection import HeadersCollection
from kiota_abstractions.native_response_handler import NativeResponseHandler
from kiota_http.middleware.options import ResponseHandlerOption
from msgraph.generated.models.partners.billing.attribute_set import AttributeSet
from msgraph.generated.models.partners.billing.billing_period import BillingPeriod
from msgraph.generated.reports.partners.billing.reconciliation.billed.microsoft_graph_partners_billing_export import (
    export_post_request_body as reconciliation_billed,
)
from msgraph.generated.reports.partners.billing.reconciliation.unbilled.microsoft_graph_partners_billing_export import (
    export_post_request_body as reconciliation_unbilled,
)
from msgraph.generated.reports.partners.billing.usage.billed.microsoft_graph_partners_billing_export import (
    export_post_request_body as usage_billed,
)
from msgraph.generated.reports.partners.billing.usage.unbilled.microsoft_graph_partners_billing_export import (
    export_post_request_body as usage_unbilled,
)

from shared.exports import Dataset, ExportKey, InvoiceScope

# The import causes deprecation warnings; GraphConnection suppresses them.
if TYPE_CHECKING:
    from msgraph.generated.reports.partners.billing.billing_request_builder import (
        BillingRequestBuilder,
    )

Period = Literal["current", "last"]


async def post_export(
    billing: "BillingRequestBuilder",
    key: ExportKey,
    period: Period | None,
    client_request_id: str,
) -> httpx.Response:
    """Request an export. Three of the four actions require `attributeSet`, so it is always sent."""
    attributes, configuration = AttributeSet(key.attribute_set.value), _configure(client_request_id)
    if isinstance(key.scope, InvoiceScope):
        invoice_id = key.scope.invoice_id
        if key.dataset is Dataset.BILLED_USAGE:
            response: Any = await billing.usage.billed.microsoft_graph_partners_billing_export.post(
                usage_billed.ExportPostRequestBody(invoice_id=invoice_id, attribute_set=attributes),
                configuration,
            )
        else:
            response = (
                await billing.reconciliation.billed.microsoft_graph_partners_billing_export.post(
                    reconciliation_billed.ExportPostRequestBody(
                        invoice_id=invoice_id, attribute_set=attributes
                    ),
                    configuration,
                )
            )
        return cast(httpx.Response, response)
    members: dict[str, Any] = {
        "billing_period": BillingPeriod(period),
        "currency_code": key.scope.currency,
        "attribute_set": attributes,
    }
    if key.dataset is Dataset.UNBILLED_USAGE:
        response = await billing.usage.unbilled.microsoft_graph_partners_billing_export.post(
            usage_unbilled.ExportPostRequestBody(**members), configuration
        )
    else:
        response = (
            await billing.reconciliation.unbilled.microsoft_graph_partners_billing_export.post(
                reconciliation_unbilled.ExportPostRequestBody(**members), configuration
            )
        )
    return cast(httpx.Response, response)


async def get_operation(
    billing: "BillingRequestBuilder", operation_id: str, client_request_id: str
) -> httpx.Response:
    """Get an operation by its ID; the URL that Graph returned is not used."""
    response: Any = await billing.operations.by_operation_id(operation_id).get(
        _configure(client_request_id)
    )
    return cast(httpx.Response, response)


async def get_manifest(
    billing: "BillingRequestBuilder", manifest_id: str, client_request_id: str
) -> httpx.Response:
    """Get a manifest by its ID."""
    response: Any = await billing.manifests.by_manifest_id(manifest_id).get(
        _configure(client_request_id)
    )
    return cast(httpx.Response, response)


def import_builders(billing: "BillingRequestBuilder") -> None:
    """Import the request builders, which the SDK otherwise imports during the first request."""
    for node in (
        billing.usage.billed,
        billing.usage.unbilled,
        billing.reconciliation.billed,
        billing.reconciliation.unbilled,
    ):
        assert node.microsoft_graph_partners_billing_export
    assert billing.operations.by_operation_id("0") and billing.manifests.by_manifest_id("0")


def _configure(client_request_id: str) -> RequestConfiguration[Any]:
    headers = HeadersCollection()
    headers.add("client-request-id", client_request_id)
    return RequestConfiguration(
        headers=headers, options=[ResponseHandlerOption(NativeResponseHandler())]
    )
