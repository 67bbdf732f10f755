"""Graph and its token: each right removed at the credential or at the transport gives its own code, and no other red."""

from typing import Any

import httpx
import pytest

from shared.preflight.preflight import CHECKS
from shared.preflight.tokens import ROLE
from tests.unit.preflight.contexts import TENANT, examined, jwt, patient, red, refusal

ASKED = tuple(check for check in CHECKS if check.name in ("graph_token", "graph", "partner_center"))
GOOD = jwt(tid=TENANT, roles=["Other.Read.All", ROLE])


async def test_all_is_well() -> None:
    checks = await examined(patient(token=GOOD), ASKED)
    assert {name: check["status"] for name, check in checks.items()} == {
        "graph_token": "ok",
        "graph": "ok",
        "partner_center": "skipped",
    }
    assert checks["graph_token"]["facts"] == {
        "roles": ["Other.Read.All", ROLE],
        "tenant_id": TENANT,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"token": None}, {"graph_token": "identity_unavailable"}),
        (
            {"token": jwt(tid=TENANT, roles=["Other.Read.All"]), "graph": refusal(403)},
            {"graph_token": "role_missing"},
        ),
        ({"token": jwt(tid=TENANT), "graph": refusal(403)}, {"graph_token": "role_missing"}),
        (
            {"token": jwt(tid="7" * 8, roles=[ROLE]), "graph": refusal(401)},
            {"graph_token": "token_of_another_tenant"},
        ),
        ({"token": GOOD, "graph": refusal(403)}, {"graph": "graph_forbidden"}),
        ({"token": GOOD, "graph": refusal(401)}, {"graph": "graph_unauthorized"}),
        ({"token": GOOD, "graph": refusal(503)}, {"graph": "graph_unavailable"}),
        ({"token": GOOD, "graph": httpx.ConnectError("no")}, {"graph": "graph_unavailable"}),
        ({"token": GOOD, "graph": refusal(429)}, {"graph": "graph_throttled"}),
        (
            {"token": GOOD, "graph": httpx.Response(200, json={"status": "running"})},
            {"graph": "graph_malformed"},
        ),
        ({"token": "opaque"}, {}),
        ({"token": jwt(roles="all of them")}, {}),
    ],
    ids=str,
)
async def test_one_thing_is_wrong(changes: dict[str, Any], expected: dict[str, str]) -> None:
    checks = await examined(patient(**changes), ASKED)
    assert red(checks) == expected
    assert all(
        check["cause"] and check["remedy"] for check in checks.values() if check["status"] != "ok"
    )


async def test_what_follows_from_the_token_says_so() -> None:
    checks = await examined(patient(token=None), ASKED)
    assert checks["graph"]["status"] == "unknown" and checks["graph"]["facts"] == {
        "check": "graph_token"
    }


async def test_roles_that_are_no_words_are_not_shown() -> None:
    checks = await examined(
        patient(token=jwt(tid=TENANT, roles=[ROLE, "https://a.example/?sig=x", 3, "x" * 200])),
        ASKED,
    )
    assert checks["graph_token"]["facts"]["roles"] == [ROLE]
