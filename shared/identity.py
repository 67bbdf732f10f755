"""Who the app is: credentials for Microsoft Graph, Partner Center and storage, and one way to ask them for a token.

    same tenant        the managed identity itself
    another tenant     an app beside the identity that trusts it by federated credential and that the partner tenant has
                       taken in (docs/adr/0051); there is no secret
    loopback           nobody: what listens there never sees a token

Credentials are made once and closed by whoever made them. Nothing is asked for before the first token is needed.
"""

import asyncio
import logging
import re
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from shared.errors import UnavailableError
from shared.urls import PARTNER_CENTER_URL, is_loopback_host

if (
    TYPE_CHECKING
):  # azure.identity takes a third of a second to import, and is not needed on loopback
    from azure.core.credentials import AccessToken
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AsyncHttpTransport

    Transport: TypeAlias = AsyncHttpTransport[Any, Any]

AUTHORITY = "login.microsoftonline.com"  # the export is a service of the global cloud only (graph-partner-billing, 1)
GRAPH_SCOPE = "https://graph.microsoft.com/.default"
PARTNER_CENTER_SCOPE = f"{PARTNER_CENTER_URL}/.default"
STORAGE_SCOPE = "https://storage.azure.com/.default"
EXCHANGE_SCOPE = "api://AzureADTokenExchange/.default"
TOKEN_SECONDS = 30.0  # the SDK alone waits for over a minute while the identity endpoint restarts
ENTRA_CODE = re.compile(r"\bAADSTS\d{4,9}\b")


def create_credential(
    base_url: str,
    *,
    managed_identity_client_id: str | None,
    partner_tenant_id: str | None,
    partner_app_client_id: str | None,
    transport: "Transport | None" = None,
) -> "AsyncTokenCredential | None":
    """The credential for the service at `base_url`; None where that is on loopback.

    `managed_identity_client_id` None means the app's system-assigned identity. `partner_app_client_id` set means that
    the identity stands for this app of `partner_tenant_id`. `transport` is the seam for tests.
    """
    if is_loopback_host(urlsplit(base_url).hostname or ""):
        return None
    identity = create_storage_credential(managed_identity_client_id, transport=transport)
    if not partner_app_client_id:
        return identity
    if not partner_tenant_id:
        raise ValueError("an app that stands for the identity needs PARTNER_TENANT_ID")
    return FederatedCredential(
        identity, partner_tenant_id, partner_app_client_id, transport=transport
    )


def create_storage_credential(
    managed_identity_client_id: str | None, *, transport: "Transport | None" = None
) -> "AsyncTokenCredential":
    """The managed identity: for the partner's own storage always, for Graph where both are in one tenant."""
    from azure.identity.aio import ManagedIdentityCredential

    logging.getLogger("azure.identity").setLevel(
        logging.ERROR
    )  # it warns in the words of the token endpoint; see token_for
    return ManagedIdentityCredential(
        client_id=managed_identity_client_id or None, **_through(transport)
    )


class FederatedCredential:
    """An app of another tenant, proven by the managed identity's token instead of a secret.

    azure.identity's ClientAssertionCredential wants its assertion from a plain function, also in its async form, so
    the identity's token is fetched before. Both tokens are cached by azure.identity, each until shortly before it expires.
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
            **_through(transport),
        )

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> "AccessToken":
        self._assertion = (await self._identity.get_token(EXCHANGE_SCOPE)).token
        return await self._app.get_token(
            *scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae, **kwargs
        )

    async def close(self) -> None:
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
    seconds: float = TOKEN_SECONDS,
) -> str:
    """The bearer token for `scope`, within `seconds`; `claims` is the JSON text of a challenge to answer.

    Raises Unavailable(identity_unavailable), whatever kept the token away: an identity endpoint that hiccups and an
    identity that was never assigned look alike, and a run that asks again ends at its deadline at the latest. Of the
    SDK's error only numbers are kept: `error_code` is Entra's AADSTS code, by which a person finds the cause.
    """
    try:
        async with asyncio.timeout(seconds):
            token = (await credential.get_token(scope, claims=claims, enable_cae=True)).token
        if isinstance(token, str) and token:
            return token
        failure = UnavailableError("identity_unavailable")
    except Exception as error:  # whatever a credential raises, there is no token
        code = ENTRA_CODE.search(str(error))
        status = getattr(error, "status_code", None)
        failure = UnavailableError(
            "identity_unavailable",
            http_status=status if isinstance(status, int) else None,
            error_code=code[0] if code else None,
        )
    raise failure  # out here, so that the SDK's error is not its context


def _through(transport: "Transport | None") -> dict[str, Any]:
    return {} if transport is None else {"transport": transport}
