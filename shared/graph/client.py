"""Microsoft Graph's partner billing export: ask for one, look at it, read its manifest.

    start_export -> Accepted           one POST, never repeated in here
    operation    -> Running            ask again later
                    Ready              with the manifest, whether it came inline or by a link
                    Failed             in Microsoft's words; `no_data` is an answer, not a fault

Errors are those of shared/errors.py: Throttled, Unavailable (ask again), Gone, Refused, Rejected. They carry codes,
numbers and Microsoft's request id, nothing of an answer's text. msgraph-sdk is imported at the first request.
"""

from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from shared.clock import Clock
from shared.errors import Gone, Refused
from shared.exports import ExportKey
from shared.graph.answers import (
    OPERATION_ID,
    Accepted,
    Failed,
    Linked,
    OperationState,
    Ready,
    Running,
    accepted,
    manifest_of,
    operation_state,
)
from shared.manifest import is_loopback

if TYPE_CHECKING:  # half a second to import, and only the activities that talk to Graph need them
    import httpx
    from azure.core.credentials_async import AsyncTokenCredential

    from shared.graph.transport import Connection

__all__ = [
    "Accepted",
    "Failed",
    "GraphBilling",
    "OperationState",
    "Ready",
    "Running",
    "checked_base_url",
]

GRAPH = ("https://graph.microsoft.com/v1.0", "https://graph.microsoft.com/beta")
VERSIONS = ("/v1.0", "/beta")
TOTAL_SECONDS = 60.0  # of one request: its token, its connection and its whole answer


class GraphBilling:
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
        self._base_url, self._clock = checked_base_url(base_url), clock
        if credential is None and self._base_url in GRAPH:
            raise ValueError("Microsoft Graph needs a credential")
        self._credential = credential if self._base_url in GRAPH else None
        self._transport, self._total_seconds = transport, total_seconds
        self._connection: Connection | None = None

    async def start_export(
        self, key: ExportKey, period: Literal["current", "last"] | None
    ) -> Accepted:
        """Asks for an export. `period` is Graph's word for an unbilled key's month (exports.period_word), None for a billed key.

        Unavailable does not say whether the export was accepted: the request may have arrived. Raises
        Refused(not_served), without asking, where an unbilled key has no word.
        """
        if period is None and not key.dataset.billed:
            raise Refused("not_served")
        return accepted(await self._connected().export(key, period))

    async def operation(self, operation_id: str) -> OperationState:
        """One look at the operation, and where its manifest is linked, one at that. Raises Gone when it is not known any more."""
        if not OPERATION_ID.fullmatch(operation_id):
            raise Gone("operation_gone")
        state = operation_state(await self._connected().operation(operation_id))
        if isinstance(state, Linked):
            return manifest_of(await self._connected().manifest(state.manifest_id))
        return state

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _connected(self) -> "Connection":
        if self._connection is None:
            from shared.graph.transport import Connection

            self._connection = Connection(
                self._base_url, self._credential, self._clock, self._transport, self._total_seconds
            )
        return self._connection


def checked_base_url(url: str) -> str:
    """`url` without a slash at its end, if it is Microsoft Graph, v1.0 or beta, or a loopback literal; else ValueError.

    The error never quotes the URL: somebody may have put a key into it.

    >>> checked_base_url("https://graph.microsoft.com/v1.0/"), checked_base_url("http://127.0.0.1:8700/beta")
    ('https://graph.microsoft.com/v1.0', 'http://127.0.0.1:8700/beta')
    """
    url = url.removesuffix("/")
    if url in GRAPH or _on_loopback(url):
        return url
    raise ValueError(
        f"the base URL of Microsoft Graph must be {' or '.join(GRAPH)}, or a loopback address that ends in /v1.0 or /beta"
    )


def _on_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    literal = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}{parts.path}"
    return (
        parts.scheme in ("http", "https")
        and is_loopback(host)
        and literal == url
        and parts.path.endswith(VERSIONS)
    )
