"""Applies one throttle of Microsoft Graph to all instances of the app."""

from typing import TYPE_CHECKING, Literal, Protocol

from shared.errors import OperationGoneError, ThrottledError, TransientError, UnavailableError
from shared.exports import ExportKey
from shared.manifest import Manifest

if TYPE_CHECKING:
    from shared.graph.client import ExportAccepted, GraphBillingClient, OperationState


class Throttle(Protocol):
    """Where the wait is stored for all instances; see `shared.ledger.throttle`."""

    async def seconds_left(self) -> int:
        """Return the seconds until Graph accepts requests again, or 0."""
        ...

    async def record_error(self, error: TransientError) -> int | None:
        """Store the wait after a 429 response, and return it."""
        ...


class RequestNotSentError(ThrottledError):
    """The request was not sent, because Graph has asked the app to wait."""


class ThrottledGraphClient:
    """The Graph client with the shared throttle.

    Each method raises `RequestNotSentError` while the app has to wait. After a 429 response, it
    stores the wait time, which applies to all instances, and raises `ThrottledError` with the same
    time.
    """

    def __init__(self, client: "GraphBillingClient", throttle: Throttle) -> None:
        self._client, self._throttle = client, throttle

    async def raise_if_throttled(self) -> None:
        """Raise `RequestNotSentError` while Graph has asked the app to wait."""
        if seconds := await self._throttle.seconds_left():
            raise RequestNotSentError("graph_throttled", retry_after_seconds=seconds)

    async def start_export(
        self, key: ExportKey, period: Literal["current", "last"] | None
    ) -> "ExportAccepted":
        """Request an export; see `GraphBillingClient.start_export`."""
        await self.raise_if_throttled()
        try:
            return await self._client.start_export(key, period)
        except ThrottledError as error:
            await self._store(error)
            raise

    async def get_operation(self, operation_id: str) -> "OperationState":
        """Poll an operation; see `GraphBillingClient.get_operation`."""
        await self.raise_if_throttled()
        try:
            return await self._client.get_operation(operation_id)
        except ThrottledError as error:
            await self._store(error)
            raise

    async def get_manifest(self, operation_id: str) -> Manifest:
        """Return the manifest of an operation that has succeeded.

        Raises:
            OperationGoneError: The operation is unknown or has failed.
            UnavailableError: The operation has returned to the running state.
        """
        from shared.graph.client import OperationFailed, OperationSucceeded

        state = await self.get_operation(operation_id)
        if isinstance(state, OperationFailed):
            raise OperationGoneError("operation_failed")
        if not isinstance(state, OperationSucceeded):
            raise UnavailableError("graph_malformed")
        return state.manifest

    async def _store(self, error: ThrottledError) -> None:
        """Store the wait, and set the default wait in `error` if Graph did not send one."""
        error.retry_after_seconds = await self._throttle.record_error(error)
