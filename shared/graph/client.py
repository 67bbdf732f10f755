"""Client for the partner billing export API: start an export and read its operation.

    start_export     ExportAccepted; sends exactly one request
    get_operation    OperationRunning, OperationSucceeded (with the manifest) or OperationFailed

Raises the errors of shared/errors.py, which contain codes, numbers and Microsoft's request ID but
no response text. The module imports msgraph-sdk on the first request.
"""

import logging
from typing import TYPE_CHECKING, Literal

from shared.clock import Clock
from shared.errors import OperationGoneError, RequestRefusedError
from shared.exports import ExportKey
from shared.graph.responses import (
    OPERATION_ID,
    ExportAccepted,
    ManifestLink,
    OperationFailed,
    OperationRunning,
    OperationState,
    OperationSucceeded,
    parse_export_response,
    parse_manifest_response,
    parse_operation_response,
)
from shared.http.sender import REQUEST_TIMEOUT_SECONDS, HttpSender, HttpService
from shared.identity import GRAPH_SCOPE
from shared.urls import parse_graph_base_url

# These imports take half a second, and only the activities that call Graph need them.
if TYPE_CHECKING:
    import httpx
    from azure.core.credentials_async import AsyncTokenCredential

    from shared.graph.transport import GraphConnection

__all__ = [
    "ExportAccepted",
    "GraphBillingClient",
    "OperationFailed",
    "OperationRunning",
    "OperationState",
    "OperationSucceeded",
]

GRAPH_SERVICE = HttpService(
    name="Graph",
    logger=logging.getLogger("partner_billing.graph"),
    scope=GRAPH_SCOPE,
    unavailable_code="graph_unavailable",
    malformed_code="graph_malformed",
    accept_encoding="gzip",
    max_response_bytes=32 * 1024 * 1024,  # a manifest of 100,000 blobs has about 14 MiB
)


class GraphBillingClient:
    """Client for one base URL, which any number of tasks of one event loop can share.

    HttpSender describes the arguments.
    """

    def __init__(
        self,
        *,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: "httpx.AsyncBaseTransport | None" = None,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        self._sender = HttpSender(
            GRAPH_SERVICE,
            base_url=parse_graph_base_url(base_url),
            credential=credential,
            clock=clock,
            transport=transport,
            timeout_seconds=timeout_seconds,
        )
        self._connection: GraphConnection | None = None

    async def start_export(
        self, key: ExportKey, period: Literal["current", "last"] | None
    ) -> ExportAccepted:
        """Request an export.

        `period` is Graph's name for the month of an unbilled key (exports.period_word) and None for
        a billed key. Raises RequestRefusedError(not_served), without a request, for an unbilled key
        without a period. After an UnavailableError, Graph may have accepted the export.
        """
        if period is None and not key.dataset.billed:
            raise RequestRefusedError("not_served")
        return parse_export_response(await self._connect().start_export(key, period))

    async def get_operation(self, operation_id: str) -> OperationState:
        """Return the state of the operation, with its manifest if it succeeded.

        Sends a second request if the manifest is linked. Raises OperationGoneError if the operation
        no longer exists.
        """
        if not OPERATION_ID.fullmatch(operation_id):
            raise OperationGoneError("operation_gone")
        state = parse_operation_response(await self._connect().get_operation(operation_id))
        if isinstance(state, ManifestLink):
            return parse_manifest_response(await self._connect().get_manifest(state.manifest_id))
        return state

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        self._connection = None
        await self._sender.close()

    def _connect(self) -> "GraphConnection":
        if self._connection is None:
            from shared.graph.transport import GraphConnection

            self._connection = GraphConnection(self._sender)
        return self._connection
