"""Checks of access tokens, which are requested exactly as runs request them.

Microsoft does not guarantee the format of tokens, so a token that cannot be decoded is not a
fault.
"""

import base64
import json
from typing import Any

from shared.identity import GRAPH_SCOPE, STORAGE_SCOPE, get_access_token
from shared.preflight.context import PreflightContext
from shared.preflight.findings import Finding, fail, ok, skipped, unknown
from shared.redaction import SAFE_TOKEN

REQUIRED_ROLE = "PartnerBilling.Read.All"
MAX_ROLES = 30


async def check_graph_token(context: PreflightContext) -> Finding:
    """Check that a token for Graph belongs to the partner tenant and has the required role."""
    if context.graph_credential is None:
        return skipped("no_identity_needed")
    claims = decode_claims(await get_access_token(context.graph_credential, GRAPH_SCOPE))
    if claims is None:
        return unknown("token_opaque")
    roles = [role for role in claims.get("roles") or [] if _is_safe(role)][:MAX_ROLES]
    tenant_id = claims.get("tid")
    expected = context.settings.partner_tenant_id
    facts = {"roles": roles, **({"tenant_id": tenant_id} if _is_safe(tenant_id) else {})}
    if expected and isinstance(tenant_id, str) and tenant_id.lower() != expected.lower():
        return fail("token_of_another_tenant", **facts)
    if REQUIRED_ROLE not in roles:
        return fail("role_missing", **facts)
    return ok(**facts)


async def check_storage_token(context: PreflightContext) -> Finding:
    """Check that the app obtains a token for storage; other checks verify what it permits."""
    if context.storage_credential is None:
        return skipped("no_identity_needed")
    await get_access_token(context.storage_credential, STORAGE_SCOPE)
    return ok()


def decode_claims(token: str) -> dict[str, Any] | None:
    """Return the claims of a JWT without verifying it, or None if `token` is not a JWT.

    >>> decode_claims("e30.eyJyb2xlcyI6IFsiQSJdfQ.x")
    {'roles': ['A']}
    >>> decode_claims("opaque"), decode_claims("a.%.c")
    (None, None)
    """
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(claims, dict) or not isinstance(claims.get("roles"), list | None):
        return None
    return claims


def _is_safe(value: object) -> bool:
    return isinstance(value, str) and SAFE_TOKEN.fullmatch(value) is not None
