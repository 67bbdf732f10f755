"""The requests as msgraph-sdk makes them: addresses and bodies (graph-partner-billing, 2, 3 and 11.1).

Imported at first use only. Answers come back as they are, through the native response handler: it raises nothing for
any status and reads no model, so that headers, status and raw body belong to one object, whatever task asked. The SDK's
inspection options keep the headers of a first attempt or lose the body to another context (12, gotchas 2 and 4).
"""

from typing import TYPE_CHECKING, Any, Literal, cast

import httpx
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.headers_collection import HeadersCollection
from kiota_abstractions.native_response_handler import NativeResponseHandler
from kiota_http.middleware.options import ResponseHandlerOption
from msgraph.generated.models.partners.billing.attribute_set import (
    AttributeSet,
)  # not models.attribute_set, see 11.1
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

if TYPE_CHECKING:  # it warns of classes of its own while it is imported; the connection does that where it is not heard
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
    """Every member is always sent: three of the four actions declare attributeSet as required (graph-partner-billing, 2)."""
    attributes, native = AttributeSet(key.attribute_set.value), _native(client_request_id)
    if isinstance(key.scope, InvoiceScope):
        invoice = key.scope.invoice_id
        if key.dataset is Dataset.BILLED_USAGE:
            answer: Any = await billing.usage.billed.microsoft_graph_partners_billing_export.post(
                usage_billed.ExportPostRequestBody(invoice_id=invoice, attribute_set=attributes),
                native,
            )
        else:
            answer = (
                await billing.reconciliation.billed.microsoft_graph_partners_billing_export.post(
                    reconciliation_billed.ExportPostRequestBody(
                        invoice_id=invoice, attribute_set=attributes
                    ),
                    native,
                )
            )
        return cast(httpx.Response, answer)
    unbilled: dict[str, Any] = {
        "billing_period": BillingPeriod(period),
        "currency_code": key.scope.currency,
        "attribute_set": attributes,
    }
    if key.dataset is Dataset.UNBILLED_USAGE:
        answer = await billing.usage.unbilled.microsoft_graph_partners_billing_export.post(
            usage_unbilled.ExportPostRequestBody(**unbilled), native
        )
    else:
        answer = await billing.reconciliation.unbilled.microsoft_graph_partners_billing_export.post(
            reconciliation_unbilled.ExportPostRequestBody(**unbilled), native
        )
    return cast(httpx.Response, answer)


async def get_operation(
    billing: "BillingRequestBuilder", operation_id: str, client_request_id: str
) -> httpx.Response:
    """By id, never by the URL that an answer named; no query, the documents allow none (graph-partner-billing, 1)."""
    answer: Any = await billing.operations.by_operation_id(operation_id).get(
        _native(client_request_id)
    )
    return cast(httpx.Response, answer)


async def get_manifest(
    billing: "BillingRequestBuilder", manifest_id: str, client_request_id: str
) -> httpx.Response:
    answer: Any = await billing.manifests.by_manifest_id(manifest_id).get(
        _native(client_request_id)
    )
    return cast(httpx.Response, answer)


def load(billing: "BillingRequestBuilder") -> None:
    """Walks every address once: the SDK imports a builder when it is first named, which belongs before a request, not into it."""
    for node in (
        billing.usage.billed,
        billing.usage.unbilled,
        billing.reconciliation.billed,
        billing.reconciliation.unbilled,
    ):
        assert node.microsoft_graph_partners_billing_export
    assert billing.operations.by_operation_id("0") and billing.manifests.by_manifest_id("0")


def _native(client_request_id: str) -> RequestConfiguration[Any]:
    headers = HeadersCollection()
    headers.add("client-request-id", client_request_id)
    return RequestConfiguration(
        headers=headers, options=[ResponseHandlerOption(NativeResponseHandler())]
    )
