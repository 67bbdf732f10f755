"""Credentials: requests to the identity endpoint and to Microsoft Entra."""

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from shared.errors import UnavailableError
from shared.identity import (
    EXCHANGE_SCOPE,
    GRAPH_SCOPE,
    FederatedCredential,
    RenewableCredential,
    create_credential,
    create_storage_credential,
    get_access_token,
)
from tests.support.fake_service import FakeCredential
from tests.unit.graph.fake_graph import GRAPH, LOOPBACK

TENANT, APP, IDENTITY = (f"{n * 8}-0000-4000-8000-000000000000" for n in "123")


class FakeResponse:
    """The part of an HTTP response that the azure-core pipeline reads."""

    def __init__(self, request: Any, status: int, document: Any) -> None:
        self.request, self.status_code = request, status
        self.reason, self.content_type = "", "application/json"
        self.headers, self._text = {"Content-Type": "application/json"}, json.dumps(document)

    def text(self, encoding: str | None = None) -> str:
        return self._text

    def body(self) -> bytes:
        return self._text.encode()


class FakeEndpoints:
    """The identity endpoint of App Service and the token endpoint of Microsoft Entra."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal, self.closed = refusal, 0
        self.identity_requests, self.entra_requests = list[Any](), list[Any]()

    async def send(self, request: Any, **_: Any) -> FakeResponse:
        expiry = int(time.time()) + 3600
        if urlsplit(request.url).hostname == "identity.internal":
            self.identity_requests.append(request)
            resource = parse_qs(urlsplit(request.url).query)["resource"][0]
            return FakeResponse(
                request,
                200,
                {
                    "access_token": f"identity for {resource}",
                    "expires_on": str(expiry),
                    "resource": resource,
                    "token_type": "Bearer",
                },
            )
        assert request.url == f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
        self.entra_requests.append(request)
        if self.refusal:
            return FakeResponse(
                request, 401, {"error": "invalid_client", "error_description": self.refusal}
            )
        return FakeResponse(
            request, 200, {"access_token": "app token", "expires_in": 3600, "token_type": "Bearer"}
        )

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1

    async def __aenter__(self) -> "FakeEndpoints":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@pytest.fixture(autouse=True)
def app_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables of a function app with a managed identity."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://identity.internal/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    # The app must not send the assertion to another authority.
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "login.example.org")


def create_federated_credential(endpoints: Any, app: str | None = APP) -> Any:
    return create_credential(
        GRAPH,
        managed_identity_client_id=IDENTITY,
        partner_tenant_id=TENANT,
        partner_app_client_id=app,
        transport=endpoints,
    )


async def test_federated_credential_exchanges_identity_token() -> None:
    endpoints = FakeEndpoints()
    async with create_federated_credential(endpoints) as credential:
        assert await get_access_token(credential, GRAPH_SCOPE) == "app token"

    [identity_request], [entra_request] = endpoints.identity_requests, endpoints.entra_requests
    query = parse_qs(urlsplit(identity_request.url).query)
    assert query["resource"] == ["api://AzureADTokenExchange"] and query["client_id"] == [IDENTITY]
    assert identity_request.headers["X-IDENTITY-HEADER"] == "header-secret"
    form = entra_request._data
    assert (
        form["client_assertion"] == "identity for api://AzureADTokenExchange"
        and form["client_id"] == APP
    )
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert (
        form["grant_type"] == "client_credentials"
        and form["scope"] == GRAPH_SCOPE
        and "client_secret" not in form
    )
    assert endpoints.closed >= 2  # both credentials


async def test_federated_credential_caches_both_tokens() -> None:
    endpoints = FakeEndpoints()
    credential = create_federated_credential(endpoints)
    for _ in range(3):
        await get_access_token(credential, GRAPH_SCOPE)
    assert (len(endpoints.identity_requests), len(endpoints.entra_requests)) == (1, 1)


async def test_federated_credential_with_claims_requests_new_token() -> None:
    endpoints = FakeEndpoints()
    credential = create_federated_credential(endpoints)
    await get_access_token(credential, GRAPH_SCOPE)
    await get_access_token(credential, GRAPH_SCOPE, claims='{"access_token":{"nbf":{"value":"1"}}}')
    assert len(endpoints.entra_requests) == 2 and json.loads(
        endpoints.entra_requests[1]._data["claims"]
    )["access_token"]["nbf"] == {"value": "1"}


@pytest.mark.parametrize("app", [None, ""])
async def test_create_credential_without_app_returns_identity(app: str | None) -> None:
    endpoints = FakeEndpoints()
    credential = create_federated_credential(endpoints, app)
    assert (
        await get_access_token(credential, GRAPH_SCOPE)
        == "identity for https://graph.microsoft.com"
    )
    assert not endpoints.entra_requests
    await credential.close()


@pytest.mark.parametrize(
    ("client_id", "expected"), [(IDENTITY, [IDENTITY]), (None, None), ("", None)]
)
async def test_create_storage_credential_uses_client_id_of_identity(
    client_id: str | None, expected: list[str] | None
) -> None:
    endpoints: Any = FakeEndpoints()
    credential = create_storage_credential(client_id, transport=endpoints)
    token = await credential.get_token("https://storage.azure.com/.default")
    assert token.token == "identity for https://storage.azure.com"
    assert parse_qs(urlsplit(endpoints.identity_requests[0].url).query).get("client_id") == expected
    await credential.close()


@pytest.mark.parametrize(
    "base_url", [LOOPBACK, "http://[::1]:1/v1.0", "http://localhost:1", "https://127.0.0.1"]
)
def test_create_credential_for_loopback_returns_none(base_url: str) -> None:
    assert (
        create_credential(
            base_url,
            managed_identity_client_id=IDENTITY,
            partner_tenant_id=TENANT,
            partner_app_client_id=APP,
        )
        is None
    )


def test_create_credential_for_app_requires_tenant() -> None:
    with pytest.raises(ValueError, match="PARTNER_TENANT_ID"):
        create_credential(
            GRAPH,
            managed_identity_client_id=None,
            partner_tenant_id=None,
            partner_app_client_id=APP,
        )


async def test_get_access_token_error_contains_only_entra_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = "AADSTS700213: No matching federated identity record for 'SENTINEL'. Trace ID: 1"
    with pytest.raises(UnavailableError) as raised:
        await get_access_token(create_federated_credential(FakeEndpoints(text)), GRAPH_SCOPE)
    error = raised.value
    assert (error.code, error.error_code, error.http_status) == (
        "identity_unavailable",
        "AADSTS700213",
        401,
    )
    assert error.__context__ is None and error.__cause__ is None
    assert not any("SENTINEL" in text for text in (str(error), repr(vars(error)), caplog.text))


@pytest.mark.parametrize(
    "failure",
    [ClientAuthenticationError("no"), CredentialUnavailableError(message="no"), OSError("no")],
)
async def test_get_access_token_with_any_failure_raises_identity_unavailable(
    failure: Exception,
) -> None:
    with pytest.raises(UnavailableError) as raised:
        await get_access_token(FakeCredential(error=failure), GRAPH_SCOPE)
    assert raised.value.code == "identity_unavailable" and raised.value.__context__ is None


async def test_federated_credential_without_identity_token_raises_identity_unavailable() -> None:
    identity = FakeCredential(error=CredentialUnavailableError(message="no identity endpoint"))
    with pytest.raises(UnavailableError):
        await get_access_token(FederatedCredential(identity, TENANT, APP), GRAPH_SCOPE)
    assert [scopes for scopes, _ in identity.requests] == [(EXCHANGE_SCOPE,)]


async def test_discard_tokens_requests_a_new_token_and_closes_old_credentials_later() -> None:
    created, now = list[FakeCredential](), 0.0

    class ClosableCredential(FakeCredential):
        is_closed = False

        async def close(self) -> None:
            self.is_closed = True

    def create() -> FakeCredential:
        created.append(ClosableCredential(f"token-{len(created)}"))
        return created[-1]

    credential = RenewableCredential(create, lambda: now)
    tokens = []
    for seconds in (0, 59, 60, 119, 120):
        now = float(seconds)
        await credential.discard_tokens()
        tokens.append(await get_access_token(credential, GRAPH_SCOPE))
    assert tokens == ["token-0", "token-0", "token-1", "token-1", "token-2"]
    closed = [each for each in created if isinstance(each, ClosableCredential) and each.is_closed]
    assert closed == created[:1]  # a request of the second one can still be active
    await credential.close()
    assert all(isinstance(each, ClosableCredential) and each.is_closed for each in created)
