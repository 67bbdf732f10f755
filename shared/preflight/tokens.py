"""Can the app say who it is? Tokens as the runs ask for them, and what the one for Graph allows.

A token is looked into and forgotten. Microsoft calls it opaque to its bearer: where it cannot be read, that is no fault.
"""

import base64
import json
from typing import Any

from shared.identity import GRAPH_SCOPE, STORAGE_SCOPE, get_access_token
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, ok, skipped, unknown
from shared.redaction import SAFE_TOKEN

ROLE = "PartnerBilling.Read.All"
MOST_ROLES = 30


async def graph_token(parts: PreflightContext) -> Finding:
    """A token for Graph, of the partner's tenant, with the one application permission that exports need."""
    if parts.graph_credential is None:
        return skipped("no_identity_needed")
    claims = claims_of(await get_access_token(parts.graph_credential, GRAPH_SCOPE))
    if claims is None:
        return unknown("token_opaque")
    roles = [role for role in claims.get("roles") or [] if _is_word(role)][:MOST_ROLES]
    tenant = claims.get("tid")
    expected = parts.settings.partner_tenant_id
    facts = {"roles": roles, **({"tenant_id": tenant} if _is_word(tenant) else {})}
    if expected and isinstance(tenant, str) and tenant.lower() != expected.lower():
        return fail("token_of_another_tenant", **facts)
    if ROLE not in roles:
        return fail("role_missing", **facts)
    return ok(**facts)


async def storage_token(parts: PreflightContext) -> Finding:
    """A token for the landing account; whether it opens anything is for the checks of container and tables to tell."""
    if parts.storage_credential is None:
        return skipped("no_identity_needed")
    await get_access_token(parts.storage_credential, STORAGE_SCOPE)
    return ok()


def claims_of(token: str) -> dict[str, Any] | None:
    """What a JWT says of itself, unverified: it is our own. None where it is no JWT.

    >>> claims_of("e30.eyJyb2xlcyI6IFsiQSJdfQ.x"), claims_of("opaque"), claims_of("a.%.c")
    ({'roles': ['A']}, None, None)
    """
    try:
        _, payload, _ = token.split(".")
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and isinstance(said.get("roles", []), list) else None


def _is_word(value: object) -> bool:
    return isinstance(value, str) and SAFE_TOKEN.fullmatch(value) is not None
