"""Credentials at azure-core's transport: what is sent to the identity endpoint and to Entra, and how often."""

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
    FederatedCredential,
    create_credential,
    create_storage_credential,
    get_access_token,
)
from tests.unit.graph.scripted import GRAPH, LOOPBACK, Credential

GRAPH_SCOPE = "https://graph.microsoft.com/.default"
TENANT, APP, IDENTITY = (f"{n * 8}-0000-4000-8000-000000000000" for n in "123")


class Reply:
    """As much of an HTTP response as azure-core's pipeline looks at."""

    def __init__(self, request: Any, status: int, document: Any) -> None:
        self.request, self.status_code, self.reason, self.content_type = (
            request,
            status,
            "",
            "application/json",
        )
        self.headers, self._text = {"Content-Type": "application/json"}, json.dumps(document)

    def text(self, encoding: str | None = None) -> str:
        return self._text

    def body(self) -> bytes:
        return self._text.encode()


class Endpoints:
    """The identity endpoint of App Service and Entra's token endpoint; remembers what each was asked."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal, self.identity, self.entra, self.closed = refusal, list[Any](), list[Any](), 0

    async def send(self, request: Any, **_: Any) -> Reply:
        soon = int(time.time()) + 3600
        if urlsplit(request.url).hostname == "identity.internal":
            self.identity.append(request)
            resource = parse_qs(urlsplit(request.url).query)["resource"][0]
            return Reply(
                request,
                200,
                {
                    "access_token": f"identity for {resource}",
                    "expires_on": str(soon),
                    "resource": resource,
                    "token_type": "Bearer",
                },
            )
        assert request.url == f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
        self.entra.append(request)
        if self.refusal:
            return Reply(
                request, 401, {"error": "invalid_client", "error_description": self.refusal}
            )
        return Reply(
            request, 200, {"access_token": "app token", "expires_in": 3600, "token_type": "Bearer"}
        )

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1

    async def __aenter__(self) -> "Endpoints":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@pytest.fixture(autouse=True)
def app_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that Azure Functions gives an app with an identity."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://identity.internal/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header-secret")
    monkeypatch.setenv(
        "AZURE_AUTHORITY_HOST", "login.example.org"
    )  # must not lead the assertion elsewhere


def federated(endpoints: Any, app: str | None = APP) -> Any:
    return create_credential(
        GRAPH,
        managed_identity_client_id=IDENTITY,
        partner_tenant_id=TENANT,
        partner_app_client_id=app,
        transport=endpoints,
    )


async def test_the_identity_stands_for_an_app_of_the_partner_tenant() -> None:
    endpoints = Endpoints()
    async with federated(endpoints) as credential:
        assert await get_access_token(credential, GRAPH_SCOPE) == "app token"

    [asked], [exchanged] = endpoints.identity, endpoints.entra
    query = parse_qs(urlsplit(asked.url).query)
    assert query["resource"] == ["api://AzureADTokenExchange"] and query["client_id"] == [IDENTITY]
    assert asked.headers["X-IDENTITY-HEADER"] == "header-secret"
    form = exchanged._data
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


async def test_both_tokens_are_cached() -> None:
    endpoints = Endpoints()
    credential = federated(endpoints)
    for _ in range(3):
        await get_access_token(credential, GRAPH_SCOPE)
    assert (len(endpoints.identity), len(endpoints.entra)) == (1, 1)


async def test_a_claims_challenge_passes_the_cache() -> None:
    endpoints = Endpoints()
    credential = federated(endpoints)
    await get_access_token(credential, GRAPH_SCOPE)
    await get_access_token(credential, GRAPH_SCOPE, claims='{"access_token":{"nbf":{"value":"1"}}}')
    assert len(endpoints.entra) == 2 and json.loads(endpoints.entra[1]._data["claims"])[
        "access_token"
    ]["nbf"] == {"value": "1"}


@pytest.mark.parametrize("app", [None, ""])
async def test_in_one_tenant_the_identity_itself_is_asked(app: str | None) -> None:
    endpoints = Endpoints()
    credential = federated(endpoints, app)
    assert (
        await get_access_token(credential, GRAPH_SCOPE)
        == "identity for https://graph.microsoft.com"
    )
    assert not endpoints.entra
    await credential.close()


@pytest.mark.parametrize(("client_id", "named"), [(IDENTITY, [IDENTITY]), (None, None), ("", None)])
async def test_storage_is_reached_as_the_identity(
    client_id: str | None, named: list[str] | None
) -> None:
    endpoints: Any = Endpoints()
    credential = create_storage_credential(client_id, transport=endpoints)
    token = await credential.get_token("https://storage.azure.com/.default")
    assert token.token == "identity for https://storage.azure.com"
    assert parse_qs(urlsplit(endpoints.identity[0].url).query).get("client_id") == named
    await credential.close()


@pytest.mark.parametrize(
    "base_url", [LOOPBACK, "http://[::1]:1/v1.0", "http://localhost:1", "https://127.0.0.1"]
)
def test_nobody_on_loopback(base_url: str) -> None:
    assert (
        create_credential(
            base_url,
            managed_identity_client_id=IDENTITY,
            partner_tenant_id=TENANT,
            partner_app_client_id=APP,
        )
        is None
    )


def test_an_app_needs_its_tenant() -> None:
    with pytest.raises(ValueError, match="PARTNER_TENANT_ID"):
        create_credential(
            GRAPH,
            managed_identity_client_id=None,
            partner_tenant_id=None,
            partner_app_client_id=APP,
        )


async def test_a_refusal_keeps_entras_number_only(caplog: pytest.LogCaptureFixture) -> None:
    text = "AADSTS700213: No matching federated identity record found for presented assertion subject 'SENTINEL'. Trace ID: 1"
    with pytest.raises(UnavailableError) as caught:
        await get_access_token(federated(Endpoints(text)), GRAPH_SCOPE)
    error = caught.value
    assert (error.code, error.error_code, error.http_status) == (
        "identity_unavailable",
        "AADSTS700213",
        401,
    )
    assert error.__context__ is None and error.__cause__ is None
    assert not any("SENTINEL" in said for said in (str(error), repr(vars(error)), caplog.text))


@pytest.mark.parametrize(
    "fault",
    [ClientAuthenticationError("no"), CredentialUnavailableError(message="no"), OSError("no")],
)
async def test_whatever_fails_there_is_no_token(fault: Exception) -> None:
    with pytest.raises(UnavailableError) as caught:
        await get_access_token(Credential(error=fault), GRAPH_SCOPE)
    assert caught.value.code == "identity_unavailable" and caught.value.__context__ is None


async def test_the_exchange_fails_where_the_identity_does() -> None:
    identity = Credential(error=CredentialUnavailableError(message="no identity endpoint"))
    with pytest.raises(UnavailableError):
        await get_access_token(FederatedCredential(identity, TENANT, APP), GRAPH_SCOPE)
    assert [scopes for scopes, _ in identity.asked] == [(EXCHANGE_SCOPE,)]
