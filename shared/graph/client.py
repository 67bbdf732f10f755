"""Microsoft Graph's partner billing export: ask for one, look at it, read its manifest.

    start_export -> Accepted           one POST, never repeated in here
    operation    -> Running            ask again later
                    Ready              with the manifest, whether it came inline or by a link
                    Failed             in Microsoft's words; `no_data` is an answer, not a fault

Errors are those of shared/errors.py: Throttled, Unavailable (ask again), Gone, Refused, Rejected. They carry codes,
numbers and Microsoft's request id, nothing of an answer's text. msgraph-sdk is imported at the first request.
"""

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
from shared.urls import GRAPH_URLS, parse_graph_base_url

if TYPE_CHECKING:  # half a second to import, and only the activities that talk to Graph need them
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

TOTAL_SECONDS = 60.0  # of one request: its token, its connection and its whole answer


class GraphBillingClient:
    """`credential` is needed unless `base_url` is on loopback, where it is never used; its maker closes it.

    `transport` replaces the network in tests. May be shared by any number of tasks of one event loop.
    """

    def __init__(
        self,
        *,
        base_url: str,
        credential: "AsyncTokenCredential | None",
        clock: Clock,
        transport: "httpx.AsyncBaseTransport | None" = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._base_url, self._clock = parse_graph_base_url(base_url), clock
        if credential is None and self._base_url in GRAPH_URLS:
            raise ValueError("Microsoft Graph needs a credential")
        self._credential = credential if self._base_url in GRAPH_URLS else None
        self._transport, self._total_seconds = transport, total_seconds
        self._connection: GraphConnection | None = None

    async def start_export(
        self, key: ExportKey, period: Literal["current", "last"] | None
    ) -> ExportAccepted:
        """Asks for an export. `period` is Graph's word for an unbilled key's month (exports.period_word), None for a billed key.

        Unavailable does not say whether the export was accepted: the request may have arrived. Raises
        Refused(not_served), without asking, where an unbilled key has no word.
        """
        if period is None and not key.dataset.billed:
            raise RequestRefusedError("not_served")
        return parse_export_response(await self._connected().start_export(key, period))

    async def get_operation(self, operation_id: str) -> OperationState:
        """One look at the operation, and where its manifest is linked, one at that. Raises Gone when it is not known any more."""
        if not OPERATION_ID.fullmatch(operation_id):
            raise OperationGoneError("operation_gone")
        state = parse_operation_response(await self._connected().get_operation(operation_id))
        if isinstance(state, ManifestLink):
            return parse_manifest_response(await self._connected().get_manifest(state.manifest_id))
        return state

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _connected(self) -> "GraphConnection":
        if self._connection is None:
            from shared.graph.transport import GraphConnection

            self._connection = GraphConnection(
                self._base_url, self._credential, self._clock, self._transport, self._total_seconds
            )
        return self._connection
