"""Connection to Microsoft Graph: msgraph-sdk on top of the shared HTTP sender.

This module is imported at the first request. It uses none of the SDK's middleware: the retries
would repeat an export request, the redirects can leave the host, and the telemetry adds headers.
The SDK's adapter only repeats a request after a 401 response with a claims challenge.
"""

import base64
import json
import warnings
from typing import Any
from urllib.parse import urlsplit

from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    AnonymousAuthenticationProvider,
    AuthenticationProvider,
    BaseBearerTokenAuthenticationProvider,
)
from kiota_http.observability_options import ObservabilityOptions
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph.graph_service_client import GraphServiceClient

from shared.errors import RequestRefusedError
from shared.exports import ExportKey
from shared.graph import requests
from shared.http.response import HttpResponse
from shared.http.sender import HttpSender


class GraphConnection:
    """msgraph-sdk for one sender, as long as the sender is not closed.

    The methods return the response for every status. They raise the errors of HttpSender.send.
    """

    def __init__(self, sender: HttpSender) -> None:
        self._sender = sender
        adapter = GraphRequestAdapter(_create_authentication(sender), client=sender.http)
        adapter.base_url = sender.base_url
        adapter.observability_options = ObservabilityOptions(include_euii_attributes=False)
        with warnings.catch_warnings():
            # The modules of the SDK cause deprecation warnings when they are imported.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._billing = GraphServiceClient(request_adapter=adapter).reports.partners.billing
            requests.import_builders(self._billing)

    async def start_export(self, key: ExportKey, period: requests.Period | None) -> HttpResponse:
        """Request an export."""
        return await self._sender.send(
            f"export {key.dataset} request",
            lambda request_id: requests.post_export(self._billing, key, period, request_id),
        )

    async def get_operation(self, operation_id: str) -> HttpResponse:
        """Get an operation."""
        return await self._sender.send(
            "operation request",
            lambda request_id: requests.get_operation(self._billing, operation_id, request_id),
        )

    async def get_manifest(self, manifest_id: str) -> HttpResponse:
        """Get a manifest."""
        return await self._sender.send(
            "manifest request",
            lambda request_id: requests.get_manifest(self._billing, manifest_id, request_id),
        )


class GraphTokenProvider(AccessTokenProvider):
    """Provides tokens for the host of one sender.

    The SDK's own provider would send a request to another host without a token.
    """

    def __init__(self, sender: HttpSender) -> None:
        self._sender = sender
        self._hosts = AllowedHostsValidator([urlsplit(sender.base_url).hostname or ""])

    async def get_authorization_token(
        self, uri: str, additional_authentication_context: dict[str, Any] | None = None
    ) -> str:
        """Return a token for a request to `uri`, which must be HTTPS and on the allowed host."""
        if not self._hosts.is_url_host_valid(uri) or urlsplit(uri).scheme != "https":
            raise RequestRefusedError("graph_unauthorized")
        challenge = (additional_authentication_context or {}).get("claims")
        return await self._sender.get_token(
            _decode_claims(challenge) if isinstance(challenge, str) else None
        )

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        """Return the validator of the allowed host."""
        return self._hosts


def _create_authentication(sender: HttpSender) -> AuthenticationProvider:
    if not sender.is_authenticated:
        return AnonymousAuthenticationProvider()
    return BaseBearerTokenAuthenticationProvider(GraphTokenProvider(sender))


def _decode_claims(challenge: str) -> str | None:
    """Return the JSON of a claims challenge; None if it is invalid.

    In that case, the caller does not retry after the 401 response.
    """
    try:
        text = base64.b64decode(challenge.replace("-", "+").replace("_", "/") + "==").decode()
        return text if isinstance(json.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None
