"""Credentials for Microsoft Graph, Partner Center and storage, and the request for access tokens.

    same tenant       the managed identity
    other tenant      an app that trusts the managed identity with a federated credential and has
                      consent in the partner tenant (docs/adr/0051); no secret is required
    loopback          no credential: an address on this computer never receives a token

The creator of a credential closes it. The first token is requested when it is needed.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from shared.errors import UnavailableError
from shared.urls import PARTNER_CENTER_URL, is_loopback_host

# azure.identity takes a third of a second to import and is not needed for loopback addresses.
if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AsyncHttpTransport

    Transport: TypeAlias = AsyncHttpTransport[Any, Any]

AUTHORITY = "login.microsoftonline.com"  # the export API exists only in the global cloud
GRAPH_SCOPE = "https://graph.microsoft.com/.default"
PARTNER_CENTER_SCOPE = f"{PARTNER_CENTER_URL}/.default"
STORAGE_SCOPE = "https://storage.azure.com/.default"
EXCHANGE_SCOPE = "api://AzureADTokenExchange/.default"
# The SDK itself waits for more than a minute while the identity endpoint restarts.
TOKEN_TIMEOUT_SECONDS = 30.0
MIN_RENEWAL_SECONDS = 60.0  # between two replacements of a credential
ENTRA_CODE = re.compile(r"\bAADSTS\d{4,9}\b")


def create_credential(
    base_url: str,
    *,
    managed_identity_client_id: str | None,
    partner_tenant_id: str | None,
    partner_app_client_id: str | None,
    transport: "Transport | None" = None,
) -> "AsyncTokenCredential | None":
    """Return the credential for the service at `base_url`, or None for a loopback address.

    Without `managed_identity_client_id`, the system-assigned identity is used. With
    `partner_app_client_id`, the credential is for this app registration in `partner_tenant_id`,
    which trusts the managed identity. `transport` replaces the network in tests.
    """
    if is_loopback_host(urlsplit(base_url).hostname or ""):
        return None
    if partner_app_client_id and not partner_tenant_id:
        raise ValueError("PARTNER_TENANT_ID must be set for an app with a federated credential")

    def create() -> "AsyncTokenCredential":
        identity = create_storage_credential(managed_identity_client_id, transport=transport)
        if not partner_app_client_id or not partner_tenant_id:
            return identity
        return FederatedCredential(
            identity, partner_tenant_id, partner_app_client_id, transport=transport
        )

    return RenewableCredential(create)


def create_storage_credential(
    managed_identity_client_id: str | None, *, transport: "Transport | None" = None
) -> "AsyncTokenCredential":
    """Return the managed identity, which is in the tenant of the partner's storage."""
    from azure.identity.aio import ManagedIdentityCredential

    # Its warnings quote the token endpoint; see get_access_token.
    logging.getLogger("azure.identity").setLevel(logging.ERROR)
    return ManagedIdentityCredential(
        client_id=managed_identity_client_id or None, **_transport_option(transport)
    )


class RenewableCredential:
    """A credential whose cached tokens can be discarded.

    azure.identity returns a cached token until shortly before it expires, even if a service has
    rejected it. `create` returns a credential without cached tokens.
    """

    def __init__(
        self,
        create: "Callable[[], AsyncTokenCredential]",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._create, self._monotonic = create, monotonic
        self._credential, self._created_at = create(), monotonic()
        self._replaced: AsyncTokenCredential | None = None

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> "AccessToken":
        """Return a token of the current credential."""
        return await self._credential.get_token(
            *scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae, **kwargs
        )

    async def discard_tokens(self) -> None:
        """Request new tokens from now on, unless this was called less than a minute ago.

        A request that has begun can still use the replaced credential, so it is closed when it is
        a minute old.
        """
        now = self._monotonic()
        if now - self._created_at < MIN_RENEWAL_SECONDS:
            return
        closing, self._replaced = self._replaced, self._credential
        self._credential, self._created_at = self._create(), now
        if closing is not None:
            await closing.close()

    async def close(self) -> None:
        """Close the credential."""
        replaced, self._replaced = self._replaced, None
        if replaced is not None:
            await replaced.close()
        await self._credential.close()

    async def __aenter__(self) -> "RenewableCredential":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


class FederatedCredential:
    """An app of another tenant that authenticates with a token of the managed identity.

    ClientAssertionCredential requires a synchronous function for its assertion, so `get_token`
    requests the token of the identity first. azure.identity caches both tokens until shortly before
    they expire.
    """

    def __init__(
        self,
        identity: "AsyncTokenCredential",
        tenant_id: str,
        client_id: str,
        *,
        transport: "Transport | None" = None,
    ) -> None:
        from azure.identity.aio import ClientAssertionCredential

        self._identity, self._assertion = identity, ""
        self._app = ClientAssertionCredential(
            tenant_id,
            client_id,
            lambda: self._assertion,
            authority=AUTHORITY,
            **_transport_option(transport),
        )

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> "AccessToken":
        """Return a token of the app; requests the token of the identity first."""
        self._assertion = (await self._identity.get_token(EXCHANGE_SCOPE)).token
        return await self._app.get_token(
            *scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae, **kwargs
        )

    async def close(self) -> None:
        """Close both credentials."""
        await self._app.close()
        await self._identity.close()

    async def __aenter__(self) -> "FederatedCredential":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


async def get_access_token(
    credential: "AsyncTokenCredential",
    scope: str,
    *,
    claims: str | None = None,
    timeout_seconds: float = TOKEN_TIMEOUT_SECONDS,
) -> str:
    """Return a bearer token for `scope`. `claims` is the JSON of a claims challenge.

    Raises UnavailableError(identity_unavailable) for every failure: a temporary failure of the
    identity endpoint and an identity that was never assigned look the same, and a run that retries
    ends at its deadline. `error_code` is the AADSTS code of Microsoft Entra, if there is one.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            token = (await credential.get_token(scope, claims=claims, enable_cae=True)).token
        if isinstance(token, str) and token:
            return token
        failure = UnavailableError("identity_unavailable", was_sent=False)
    except Exception as error:  # credentials raise errors of several libraries
        code = ENTRA_CODE.search(str(error))
        status = getattr(error, "status_code", None)
        failure = UnavailableError(
            "identity_unavailable",
            http_status=status if isinstance(status, int) else None,
            error_code=code[0] if code else None,
            was_sent=False,
        )
    # Raised outside the except block, so that the error of the SDK is not the __context__.
    raise failure


def _transport_option(transport: "Transport | None") -> dict[str, Any]:
    return {} if transport is None else {"transport": transport}
